"""What the loop needs from the outside, and nothing more."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from llmserving_api.control import DeviceMemory
from llmserving_api.policy import Policy
from llmserving_api.telemetry import MoreRecord, RequestRecord, StepRecord

Record = StepRecord | MoreRecord | RequestRecord


@dataclass(frozen=True, slots=True)
class Telemetry:
    """What was read from one engine rank's telemetry.

    Attributes:
        records: Records since the last reading, in order.
        dropped: Records overwritten since the reader came and before it could read them, or unreadable.
        restarted: The engine is a new one; what was known of the old one does not hold.
        problem: Why nothing can be read; empty while all is well.
    """

    records: tuple[Record, ...] = ()
    dropped: int = 0
    restarted: bool = False
    problem: str = ""


class TelemetrySource(Protocol):
    """Where step and request records come from."""

    def read(self) -> Mapping[int, Telemetry]:
        """New records of every rank there is."""
        ...


@dataclass(frozen=True, slots=True)
class PolicyReading:
    """The policy to act on: the last good document, and what was wrong with a newer one.

    Attributes:
        policy: None before the first good document.
        error: Why the newest document was not taken; empty where it was.
        refused: Documents refused so far.
    """

    policy: Policy | None = None
    error: str = ""
    refused: int = 0


class PolicySource(Protocol):
    """Where the policy comes from."""

    def read(self, now: float) -> PolicyReading:
        """The policy in force."""
        ...


@dataclass(frozen=True, slots=True)
class GPUReading:
    """Facts on the engine's GPUs.

    Attributes:
        source: ``nvml``, ``relay`` or ``none``.
        devices: One entry for each GPU.
        reason: Why there are none, or why this source is used and no better one.
    """

    source: str
    devices: tuple[DeviceMemory, ...] = ()
    reason: str = ""


class GPUSensor(Protocol):
    """Where facts on GPUs come from."""

    def read(self, now: float) -> GPUReading:
        """The newest facts, without waiting for anything."""
        ...


@dataclass(frozen=True, slots=True)
class FrontEndShare:
    """Seconds a request spends in the engine's API server outside the scheduler's sight; 0 while unknown."""

    seconds: float = 0.0
    reason: str = "not measured yet"


class FrontEndSensor(Protocol):
    """Where the front end's share comes from."""

    def read(self) -> FrontEndShare:
        """The newest share, without waiting for anything."""
        ...
