"""What an end-to-end target means for the time between tokens.

The paper's law knows inter-token latency alone. A request of n output tokens ends in time when its first token is in time
and the others come, on average, within ``(target - first token) / (n - 1)``. Taken for the output length at the target's
percentile, that is an inter-token target which the law can steer to; the tighter of it and the user's own counts.
"""

import math

from llmserving_agent.laws.protocol import Setting, Window
from llmserving_api.latency import quantile_seconds
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
