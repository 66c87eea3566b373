"""Every query of a board with its variables filled in, for tests that send them to a real Prometheus."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from llmserving_api.series import SLA_TARGET


@dataclass(frozen=True, slots=True)
class Query:
    """One PromQL expression and where it stands."""

    board: str
    place: str
    """Title of the panel or name of the annotation."""
    expr: str
    optional: bool
    """No data is right where nothing happened (marks), or where the resource has no such target (end to end)."""


def board_queries(document: Mapping[str, Any], variables: Mapping[str, str]) -> Iterator[Query]:
    """Queries of panels and annotations.

    Args:
        document: the board's JSON model.
        variables: values of the board's variables (``namespace``, ``name``) and of Grafana's own
            (``__rate_interval``, such as ``30s``).
    """
    title = document["title"]
    for annotation in document["annotations"]["list"]:
        yield Query(title, annotation["name"], _filled(annotation["expr"], variables), optional=True)
    for panel in _panels(document["panels"]):
        for target in panel.get("targets", ()):
            expr = _filled(target["expr"], variables)
            yield Query(title, panel["title"], expr, optional=SLA_TARGET.name in expr and 'metric="e2e"' in expr)


def _panels(panels: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for panel in panels:
        yield panel
        yield from _panels(panel.get("panels", []))


def _filled(expr: str, variables: Mapping[str, str]) -> str:
    for name, value in sorted(variables.items(), key=lambda item: -len(item[0])):
        expr = expr.replace(f"${name}", value)
    if "$" in expr:
        raise ValueError(f"a variable is left in {expr}")
    return expr
