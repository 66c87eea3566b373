"""What an end-to-end target means for the time between tokens, or for the first one.

The paper's law knows inter-token latency alone. A request of n output tokens ends in time when its first token is in time
and the others come, on average, within ``(target - first token) / (n - 1)``. Taken for the output length at the target's
percentile, that is an inter-token target which the law can steer to; the tighter of it and the user's own counts.

A planner has deadlines of first tokens: what an output of usual (mean) length leaves of the target at the pace at which
tokens come. It gets no inter-token target from this: steps kept short for the sake of the end delay first tokens by
more than they save (measured, see ``docs/design/0003``).
"""

import math

from llmserving_agent.laws.protocol import Setting, Window
from llmserving_api.latency import quantile_seconds, value_seconds
from llmserving_api.policy import Target

ENOUGH_FINISHED = 32
LEAST_SHARE = 0.1
"""However late first tokens are, this share of the target is left for the others: a queue is not shortened by quicker steps."""


def inter_token_target(window: Window, setting: Setting) -> Target | None:
    """The user's inter-token target, or the one the end-to-end target asks for where that is tighter."""
    implied = _implied(window, setting.e2e)
    if implied is None or (setting.itl is not None and setting.itl.target_seconds <= implied.target_seconds):
        return setting.itl
    return implied


def first_token_deadline(window: Window, setting: Setting) -> float | None:
    """Seconds after which a first token is late for the end-to-end target; None where the user's own target is as strict."""
    e2e, ttft = setting.e2e, setting.ttft
    if e2e is None:
        return None
    gaps, lengths = window.epoch.gaps, window.lengths
    further = max(lengths.output_mean - 1, 0.0) if lengths.finished >= ENOUGH_FINISHED else 0.0
    pace = sum(value_seconds(bucket) * count for bucket, count in gaps.items()) / max(sum(gaps.values()), 1)
    deadline = max(e2e.target_seconds - further * pace, LEAST_SHARE * e2e.target_seconds)
    return deadline if ttft is None or deadline < ttft.target_seconds else None


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
