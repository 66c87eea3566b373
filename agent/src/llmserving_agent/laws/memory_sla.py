"""The law that the paper ends with: the smaller of what memory and what the SLA allows."""

from dataclasses import dataclass, field

from llmserving_agent.laws.memory import Memory
from llmserving_agent.laws.protocol import Decision, Setting, Window, bounds_of
from llmserving_agent.laws.sla import SLA, SLAState
from llmserving_api.conditions import DecisionReason
from llmserving_api.control import Bounds

NO_OPINION = (DecisionReason.NOT_BINDING, DecisionReason.TOO_FEW_SAMPLES)


@dataclass(frozen=True, slots=True)
class MemorySLA:
    """``b* = min(b_mem, b_SLA)`` (arXiv 2503.05248v1, section III.B); the token bound is the SLA law's.

    Attributes:
        memory: The memory law.
        sla: The SLA law.
    """

    memory: Memory = field(default_factory=Memory)
    sla: SLA = field(default_factory=SLA)

    def start(self, bounds: Bounds, setting: Setting) -> tuple[float, SLAState]:
        """The states of both."""
        return self.memory.start(bounds, setting), self.sla.start(bounds, setting)

    def decide(
        self, state: tuple[float, SLAState], window: Window, setting: Setting
    ) -> tuple[tuple[float, SLAState], Decision]:
        """The SLA law's decision, its sequence bound cut to what memory allows."""
        memory_state, by_memory = self.memory.decide(state[0], window, setting)
        sla_state, by_sla = self.sla.decide(state[1], window, setting)
        state = (memory_state, sla_state)
        fit, tokens = by_memory.bounds.max_num_seqs, by_sla.bounds.max_num_batched_tokens
        if fit >= by_sla.bounds.max_num_seqs or by_memory.reason in NO_OPINION:
            return state, by_sla
        bounds = bounds_of(fit, tokens)
        if tokens == window.bounds.max_num_batched_tokens:
            return state, Decision(bounds, by_memory.reason, by_memory.message)
        return state, Decision(bounds, by_sla.reason, f"{by_sla.message}; {by_memory.message}")
