"""Latencies that users got, with the resource's targets as lines."""

from typing import Any, Final

from llmserving_api import series
from llmserving_dashboards import vllm_series as vllm
from llmserving_dashboards.panels import Line, plot
from llmserving_dashboards.promql import quantile, ratio, select

TARGET: Final = "target"


def panels() -> list[Any]:
    """A plot for each latency, then attainment and the misses that percentiles allow."""
    return [
        _latency("ttft", "Time to first token", vllm.TIME_TO_FIRST_TOKEN),
        _latency("itl", "Inter-token latency", vllm.INTER_TOKEN_LATENCY),
        _latency("e2e", "End-to-end latency", vllm.END_TO_END),
        plot(
            "Attainment",
            "Share of good requests among all that arrived in the SLA window, each engine; and the worst engine's share "
            "for each class that clients named. Batch requests have no targets and are not in the former.",
            "percentunit",
            [
                Line(f"min by (pod, engine) ({select(series.ATTAINMENT)})", "{{pod}}/{{engine}}"),
                Line(f"min by (class) ({select(series.CLASS_ATTAINMENT)})", "class {{class}}"),
            ],
            most=1,
        ),
        plot(
            "Misses of those allowed",
            "Requests, or gaps, of the SLA window that missed a target, over those that its percentile allows, all engines "
            "together: above 1, SLAMet is False. Failed requests and those that wait for too long are among them.",
            "percentunit",
            [Line(ratio(_sum(series.MISSES), _sum(series.MISSES_ALLOWED)), "{{metric}} p{{percentile}}")],
        ),
    ]


def _sum(definition: series.Series) -> str:
    return f"sum by (metric, percentile) ({select(definition)})"


def _latency(metric: str, words: str, histogram: series.Series) -> Any:
    """Observed percentiles and target of one latency."""
    observed = f"max by (percentile) ({select(series.LATENCY_OBSERVED, metric=metric)})"
    target = f"max by (percentile) ({select(series.SLA_TARGET, metric=metric)})"
    return plot(
        words,
        f"{words} over the SLA window at the pod's HTTP boundary, the worst engine at each percentile, with the "
        "resource's target as a line; for comparison vLLM's own histogram over all engines, batch requests included. "
        "Where a percentile stays above its target, see the decisions below for the reason.",
        "s",
        [
            Line(observed, "p{{percentile}}"),
            Line(target, f"{TARGET} p{{{{percentile}}}}"),
            Line(quantile(0.95, histogram), "p95 of vLLM's histogram"),
        ],
        targets=f"^{TARGET}.*",
    )
