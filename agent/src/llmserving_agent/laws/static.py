"""The static law: bounds of an engine tuned by hand."""

from llmserving_agent.laws.protocol import Decision, Setting, Window
from llmserving_api.conditions import DecisionReason
from llmserving_api.control import Bounds


class Static:
    """Always the maxima of the resource, as ``--max-num-seqs`` and ``--max-num-batched-tokens`` would be."""

    def start(self, bounds: Bounds, setting: Setting) -> None:
        """No state."""

    def decide(self, state: None, window: Window, setting: Setting) -> tuple[None, Decision]:
        """The maxima."""
        bounds = Bounds(
            max_num_seqs=setting.max_num_seqs.max, max_num_batched_tokens=setting.max_num_batched_tokens.max
        )
        return None, Decision(bounds, DecisionReason.STATIC, "the maxima of the resource")
