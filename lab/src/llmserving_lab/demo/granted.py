"""What single steps were granted, which the agents' status does not tell: from Prometheus, once the traffic has ended."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from llmserving_api.series import ENGINE_BUDGET_TOKENS, ENGINE_STEPS
from llmserving_lab.demo.prometheus import SCRAPE_SECONDS, Prometheus
from llmserving_lab.demo.timeline import Granted

WINDOW_SECONDS = 5 * SCRAPE_SECONDS
EXPRESSION = (
    f"sum by (pod) (rate({ENGINE_BUDGET_TOKENS.name}[{WINDOW_SECONDS}s]))"
    f" / (sum by (pod) (rate({ENGINE_STEPS.name}[{WINDOW_SECONDS}s])) > 0)"
)


def read_granted(prometheus: Prometheus, start: float, end: float, *, wall_offset: float) -> tuple[Granted, ...]:
    """Mean token budgets of each engine's steps.

    Args:
        prometheus: It has scraped the agents.
        start: In seconds of the monotonic clock.
        end: The same.
        wall_offset: What to add to that clock for seconds since 1970.
    """
    found = prometheus.query_range(EXPRESSION, start + wall_offset, end + wall_offset, SCRAPE_SECONDS)
    return granted_of(found, wall_offset)


def granted_of(matrix: Sequence[Mapping[str, Any]], wall_offset: float) -> tuple[Granted, ...]:
    """The same from the result of a range query."""
    points = [
        Granted(float(at) - wall_offset, one["metric"]["pod"], float(value))
        for one in matrix
        for at, value in one["values"]
    ]
    return tuple(point for point in points if math.isfinite(point.tokens))
