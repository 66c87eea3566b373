"""The figures that papers compare policies by. Pure."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from llmserving_lab.bench.plan import TargetPlan

SCHEDULING_DELAY = 2.0
"""Median wait for the first token beyond which a rate counts as not served, in seconds (Sarathi-Serve's capacity)."""


class Measure(StrEnum):
    """A figure; its value says what it is."""

    THROUGHPUT = "output tokens per second until all are served"
    GOOD = "share of the requests that were good, at one rate"
    LATENCY = "mean seconds from arrival to last token"
    MEAN_CAPACITY = "highest rate with mean time between tokens within target, half of the first tokens within 2 s"


def figure(measure: Measure, run: dict[str, Any]) -> float:
    """The figure of one run, for measures that one run gives."""
    if measure is Measure.GOOD:
        return float(run["attainment"])
    return float(run["e2e_mean_s"] if measure is Measure.LATENCY else run["output_tokens"] / run["virtual_s"])


def is_served(run: dict[str, Any], targets: TargetPlan) -> bool:
    """Whether a rate passes with this run, by the criterion of `MEAN_CAPACITY`."""
    if run["queue_growing"]:
        return False
    return bool(run["tpot_mean_s"] <= (targets.itl or 0.0) and run["ttft_p50_s"] <= SCHEDULING_DELAY)


def gain(measure: Measure, baseline: float, law: float) -> float:
    """What the law gains over the baseline, as a share; negative where it loses. Of a latency, the share saved."""
    return 1 - law / baseline if measure is Measure.LATENCY else law / baseline - 1
