"""The static law: bounds of an engine tuned by hand."""

from llmserving_agent.laws.protocol import Decision, Setting, Window
from llmserving_api.conditions import DecisionReason
from llmserving_api.control import Bounds


class Static:
    """Always the highest bounds allowed: the engine's ceilings, as set by its flags or chosen by vLLM."""

    def start(self, bounds: Bounds, setting: Setting) -> None:
        """No state."""

    def decide(self, state: None, window: Window, setting: Setting) -> tuple[None, Decision]:
        """The upper ends of the limits."""
        bounds = Bounds(
            max_num_seqs=setting.max_num_seqs.max, max_num_batched_tokens=setting.max_num_batched_tokens.max
        )
        return None, Decision(bounds, DecisionReason.STATIC, "the highest bounds allowed")
