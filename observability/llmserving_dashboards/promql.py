"""PromQL from series definitions: a label that a series does not have fails when the board is generated."""

from collections.abc import Iterable, Mapping
from typing import Final

from llmserving_api.series import Series

TARGET_LABELS: Final = ("namespace", "name", "pod")
"""Labels that the scrape adds to every series of a pod: its namespace, its label llmserving.io/name, its own name."""
SERVICE: Final = 'namespace="$namespace",name="$name"'
RATE: Final = "$__rate_interval"


def select(
    series: Series, suffix: str = "", *, excluding: Mapping[str, Iterable[str]] | None = None, **labels: str
) -> str:
    """Selector of a series of the chosen service.

    Args:
        series: what is queried.
        suffix: of a histogram: ``_bucket``, ``_sum`` or ``_count``.
        excluding: values of labels that are left out.
        labels: further equality matchers.

    Raises:
        ValueError: the series has no such label, or is no histogram.
    """
    if bool(suffix) != (series.kind == "histogram"):
        raise ValueError(f"{series.name} is a {series.kind}: suffix {suffix!r} does not fit")
    unwanted = excluding or {}
    for label in (*labels, *unwanted):
        if label not in (*series.labels, *TARGET_LABELS):
            raise ValueError(f"{series.name} has no label {label!r}, only {', '.join(series.labels)}")
    matchers = [SERVICE, *(f'{label}="{value}"' for label, value in labels.items())]
    matchers += [f'{label}!~"{"|".join(values)}"' for label, values in unwanted.items()]
    return f"{series.name}{suffix}{{{','.join(matchers)}}}"


def rate(series: Series, suffix: str = "", **labels: str) -> str:
    """Rate per second of a counter or histogram."""
    return f"rate({select(series, suffix, excluding=None, **labels)}[{RATE}])"


def quantile(share: float, series: Series) -> str:
    """A quantile over all engines from a histogram's buckets."""
    return f"histogram_quantile({share}, sum by (le) ({rate(series, '_bucket')}))"


def ratio(part: str, whole: str) -> str:
    """A share that is absent, not infinite, where there is nothing to divide by."""
    return f"{part} / ({whole} > 0)"
