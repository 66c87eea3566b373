"""Single steps: what they take, what the law grants them, and whom it makes wait."""

from typing import Any

from llmserving_api import series
from llmserving_dashboards.panels import NO_DATA, Line, plot
from llmserving_dashboards.promql import quantile, rate, ratio, select


def panels() -> list[Any]:
    """Time, budget, the model's correction, and whom the law made wait."""
    granted, steps = rate(series.ENGINE_BUDGET_TOKENS), rate(series.ENGINE_STEPS)
    return [
        plot(
            "Step time",
            "Time of an engine step, the floor of the inter-token latency, and what the step-time model of the policy "
            "Predictive foresaw for it; without that policy there is no prediction.",
            "s",
            [
                *_quantiles(series.ENGINE_STEP_SECONDS, "p"),
                *_quantiles(series.ENGINE_PREDICTED_SECONDS, "predicted p"),
            ],
        ),
        plot(
            "Token budget of a step",
            "Mean of the tokens that steps were granted, each engine, beneath the bound in force: Predictive grants each "
            "step what its tokens' deadlines allow, the other policies grant the bound.",
            "short",
            [
                Line(ratio(_each(granted), _each(steps)), "granted {{pod}}/{{engine}}"),
                Line(_each(select(series.BOUND_APPLIED, bound="max_num_batched_tokens")), "bound {{pod}}/{{engine}}"),
            ],
        ),
        plot(
            "Correction of the step-time model",
            "Observed over predicted step time, smoothed, each engine. Well above 1 for long: the card is slower than "
            "when the model was learned; look for throttling or for other work on the card.",
            "none",
            [Line(_each(select(series.ENGINE_TRIM)), "{{pod}}/{{engine}}")],
            absent=NO_DATA,
        ),
        plot(
            "Requests held and put behind",
            "Requests that the law holds back or has parked, each engine; requests per second that were put behind "
            "others because their time to first token could not be met any more; and steps per second whose budget was "
            "opened because prefill made no progress.",
            "short",
            [
                Line(_each(select(series.ENGINE_HELD)), "held {{pod}}/{{engine}}"),
                Line(f"sum({rate(series.ENGINE_RELEGATED)})", "put behind, per second"),
                Line(f"sum({rate(series.ENGINE_PREFILL_OPENED)})", "opened for prefill, per second"),
            ],
            right=(".*per second$", "ops"),
            absent=NO_DATA,
        ),
    ]


def _each(expr: str) -> str:
    return f"max by (pod, engine) ({expr})"


def _quantiles(histogram: series.Series, words: str) -> list[Line]:
    return [Line(quantile(share, histogram), f"{words}{round(share * 100)}") for share in (0.5, 0.95, 0.99)]
