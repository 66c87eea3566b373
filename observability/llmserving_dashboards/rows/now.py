"""What the service does right now, in figures."""

from typing import Any

from llmserving_api import series
from llmserving_dashboards import vllm_series as vllm
from llmserving_dashboards.panels import NO_DATA, figure
from llmserving_dashboards.promql import rate, select


def panels() -> list[Any]:
    """One figure each."""
    met = select(series.OPERATOR_CONDITION, type="SLAMet")
    good = f"sum({rate(series.REQUESTS, result='good')})"
    arrived = f"sum({rate(series.REQUESTS)})"
    return [
        figure(
            "SLA met",
            "Condition SLAMet of the resource: whether each target holds at its percentile over the SLA window; "
            "Unknown without traffic.",
            "none",
            f"max by (status) ({met}) == 1",
            legend="{{status}}",
            absent=NO_DATA,
        ),
        figure(
            "Attainment",
            "Share of good requests among all that arrived in the SLA window, the worst engine.",
            "percentunit",
            f"min({select(series.ATTAINMENT)})",
            steps=((None, "red"), (0.9, "orange"), (0.95, "green")),
            decimals=1,
        ),
        figure(
            "Requests",
            "Requests that left the engines, per second.",
            "reqps",
            arrived,
            decimals=2,
        ),
        figure(
            "Good requests",
            "Requests per second that met every target: what the service is worth.",
            "reqps",
            good,
            decimals=2,
        ),
        figure(
            "Tokens generated",
            "Tokens generated per second, all engines.",
            "suffix: tok/s",
            f"sum({rate(vllm.GENERATION_TOKENS)})",
            decimals=0,
        ),
        figure(
            "Mode",
            "Auto decides and acts, Advise decides and publishes, Off does neither; without Auto engines keep the bounds "
            "stock vLLM would choose, within the limits.",
            "none",
            f"max by (mode) ({select(series.MODE)}) == 1",
            legend="{{mode}}",
            absent=NO_DATA,
        ),
        figure(
            "Saturated engines",
            "Engines that miss a target with no bound left to move: more replicas are needed, or a looser target.",
            "short",
            f"sum({select(series.SATURATED)})",
            absent=NO_DATA,
            steps=((None, "green"), (1, "red")),
        ),
        figure(
            "Engines under control",
            "Engines whose scheduler the plug-in controls in full.",
            "short",
            f"sum({select(series.ENGINE_CONTRACT, mode='full')})",
            absent=NO_DATA,
            steps=((None, "red"), (1, "green")),
        ),
    ]
