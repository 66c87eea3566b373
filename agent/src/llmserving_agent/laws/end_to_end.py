"""What an end-to-end target means for the time between tokens and for the first one.

The paper's law knows inter-token latency alone. A request of n output tokens ends in time when its first token is in time
and the others come, on average, within ``(target - first token) / (n - 1)``. Taken for the output length at the target's
percentile, that is an inter-token target which the law can steer to; the tighter of it and the user's own counts.

A planner has deadlines of first tokens too: what a request of usual (mean) length leaves of the target at the pace at
which tokens come. Its time between tokens is for usual lengths as well: steps so short that the longest outputs end in
time under load cost more requests than they save. How late first tokens are counts for it only up to half of the
target, so that a queue does not make steps ever shorter, and thereby itself ever longer.
"""

import math
from dataclasses import dataclass

from llmserving_agent.laws.protocol import Setting, Window
from llmserving_api.latency import quantile_seconds, value_seconds
from llmserving_api.policy import Target

ENOUGH_FINISHED = 32
LEAST_SHARE = 0.1
"""However late first tokens are, this share of the target is left for the others: a queue is not shortened by quicker steps."""

PLANNED_SHARE = 0.5
"""To a planner, first tokens are never later than this share of the target."""


def inter_token_target(window: Window, setting: Setting) -> Target | None:
    """The user's inter-token target, or the one the end-to-end target asks for where that is tighter."""
    implied = _implied(window, setting.e2e)
    if implied is None or (setting.itl is not None and setting.itl.target_seconds <= implied.target_seconds):
        return setting.itl
    return implied


@dataclass(frozen=True, slots=True)
class Planned:
    """Targets, in seconds, that an end-to-end target implies; None where the user's own is as strict, or there is none."""

    ttft: float | None = None
    itl: float | None = None


def planned_targets(window: Window, setting: Setting) -> Planned:
    """What a planner must keep beside the user's own targets so that requests of usual length end in time."""
    e2e = setting.e2e
    if e2e is None:
        return Planned()
    target, gaps, lengths = e2e.target_seconds, window.epoch.gaps, window.lengths
    further = max(lengths.output_mean - 1, 0.0) if lengths.finished >= ENOUGH_FINISHED else 0.0
    pace = sum(value_seconds(bucket) * count for bucket, count in gaps.items()) / max(sum(gaps.values()), 1)
    ttft = max(target - further * pace, LEAST_SHARE * target)
    latest = PLANNED_SHARE * target
    if setting.ttft is not None:
        latest = min(latest, setting.ttft.target_seconds)
    first = min(quantile_seconds(window.epoch.first_tokens, e2e.percentile) or 0.0, latest)
    itl = (target - first) / further if further else None
    return Planned(_if_stricter(ttft, setting.ttft), _if_stricter(itl, setting.itl))


def _if_stricter(seconds: float | None, own: Target | None) -> float | None:
    return seconds if seconds is not None and (own is None or seconds < own.target_seconds) else None


def _implied(window: Window, e2e: Target | None) -> Target | None:
    outputs = sorted(output for _, output in window.lengths.samples)
    if e2e is None or len(outputs) < ENOUGH_FINISHED:
        return None
    long = outputs[math.ceil(e2e.percentile / 100 * len(outputs)) - 1]
    if long < 2:
        return None
    first = quantile_seconds(window.epoch.first_tokens, e2e.percentile) or 0.0
    left = max(e2e.target_seconds - first, LEAST_SHARE * e2e.target_seconds)
    return Target(percentile=e2e.percentile, target_seconds=left / (long - 1))
