"""What a live scheduler is built with: the outside world in production, stand-ins in a simulation."""

from dataclasses import dataclass
from enum import Enum

from llmserving_engine.budget import Quantum
from llmserving_engine.clock import Clock
from llmserving_engine.control import ControlState
from llmserving_engine.health import Heartbeat
from llmserving_engine.telemetry import TelemetrySink


class Gate(Enum):
    """The scheduler's attribute that limits admission."""

    ACTIVE = "max_num_active_reqs"
    """vLLM 0.31 on: admits while running < this; may be below the number running."""
    RUNNING = "max_num_running_reqs"
    """Before: asserted to be at least the number running, so it is held there until the drain is over."""


@dataclass(frozen=True, slots=True)
class Runtime:
    """Clock, control state and sinks of one scheduler, and what the start-up check found out about it."""

    clock: Clock
    control: ControlState
    sink: TelemetrySink
    heartbeat: Heartbeat
    gate: Gate
    counts_sessions: bool
    """Whether the gate counts idle streaming sessions among the running requests: they hold slots."""
    by_priority: bool
    """Whether the engine schedules by priority instead of first come, first served."""
    quantum: Quantum
    decode_tokens: int = 1
    """Tokens that one decode takes: 1 + speculative tokens."""
