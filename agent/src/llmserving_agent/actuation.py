"""Changes asked of an engine and what became of them."""

from dataclasses import dataclass
from enum import StrEnum

from llmserving_api.control import RuntimeConfig, RuntimePatch


class Outcome(StrEnum):
    """What became of a call to the control API."""

    APPLIED = "applied"
    REFUSED = "refused"
    UNREACHABLE = "unreachable"


@dataclass(frozen=True, slots=True)
class Actuation:
    """A change to be sent to one engine rank."""

    rank: int
    patch: RuntimePatch


@dataclass(frozen=True, slots=True)
class Answer:
    """What a call to the control API brought.

    Attributes:
        outcome: Whether the engine took it.
        config: The engine's document; with ``APPLIED`` only.
        status: HTTP status of a refusal: 400 (a field), 409 (an older operation), 501 (the contract check failed).
        message: Why it was refused or could not be reached.
    """

    outcome: Outcome
    config: RuntimeConfig | None = None
    status: int | None = None
    message: str = ""
