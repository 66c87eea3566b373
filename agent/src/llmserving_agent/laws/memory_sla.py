"""The default law of the paper: the smaller of what memory and what the SLA allows."""

from dataclasses import dataclass, field

from llmserving_agent.laws.memory import Memory
from llmserving_agent.laws.protocol import Decision, Setting, Window, bounds_of
from llmserving_agent.laws.sla import SLA, SLAState
from llmserving_api.control import Bounds


@dataclass(frozen=True, slots=True)
class MemorySLA:
    """``b* = min(b_mem, b_SLA)`` (arXiv 2503.05248v1, section III.B); the token bound is the SLA law's.

    Attributes:
        memory: The memory law.
        sla: The SLA law.
    """

    memory: Memory = field(default_factory=Memory)
    sla: SLA = field(default_factory=SLA)

    def start(self, bounds: Bounds, setting: Setting) -> SLAState:
        """The SLA law's state; the memory law has none."""
        return self.sla.start(bounds, setting)

    def decide(self, state: SLAState, window: Window, setting: Setting) -> tuple[SLAState, Decision]:
        """The SLA law's decision, its sequence bound cut to what memory allows."""
        state, by_sla = self.sla.decide(state, window, setting)
        _, by_memory = self.memory.decide(None, window, setting)
        fit = by_memory.bounds.max_num_seqs
        if fit >= by_sla.bounds.max_num_seqs or by_memory.bounds == window.bounds:
            return state, by_sla
        bounds = bounds_of(fit, by_sla.bounds.max_num_batched_tokens)
        if bounds.max_num_batched_tokens == window.bounds.max_num_batched_tokens:
            return state, Decision(bounds, by_memory.reason, by_memory.message, by_sla.blocked)
        return state, Decision(bounds, by_sla.reason, f"{by_sla.message}; {by_memory.message}", by_sla.blocked)
