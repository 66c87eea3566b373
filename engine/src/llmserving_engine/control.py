"""The state that the control API shows and changes.

Pure but for the lock: the server's threads change the desired state as one immutable object, the engine's thread picks
it up at its next step and reports its progress. A change is checked completely before anything of it is taken.
"""

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from llmserving_engine.bounds import AppliedBounds, Bounds, Desired
from llmserving_engine.changes import ControlError, choice_after, desired_after, fields_of, operation_of
from llmserving_engine.clock import Clock
from llmserving_engine.planning.protocol import PlannerChoice

API_VERSION: Final = "v1"
MODE_FULL: Final = "full"
MODE_CAPS: Final = "caps"
MODE_OBSERVE: Final = "observe"


@dataclass(frozen=True, slots=True)
class Contract:
    """What the plug-in can do on this engine, and why not more."""

    mode: str
    ok: bool
    reason: str = ""
    shed_forbidden: str = ""
    """Why running requests must not be preempted on request; empty: they may."""


@dataclass(slots=True)
class Progress:
    """What the engine's thread has done; written by it alone."""

    applied: AppliedBounds
    step: int = 0
    running: int = 0
    prefill_openings: int = 0
    faults: int = 0
    """Exceptions of our own code inside a step; the first one ends control."""


@dataclass(slots=True)
class ControlState:
    """Everything the control API shows and changes, for one engine rank."""

    clock: Clock
    facts: Mapping[str, Any]
    """The document's ``engine`` part."""
    contract: Contract
    ceilings: Bounds
    stock: Bounds
    desired: Desired
    progress: Progress
    planner: PlannerChoice = field(default_factory=PlannerChoice)
    revision: int = 0
    """Counts the changes of what is wanted or allowed: the engine's thread looks at them only when it has grown."""
    _accepted: Mapping[str, Any] = field(default_factory=dict)
    """The change of the newest operation, to tell a repeat from another change under the same id."""
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @classmethod
    def create(
        cls, clock: Clock, facts: Mapping[str, Any], contract: Contract, ceilings: Bounds, stock: Bounds
    ) -> "ControlState":
        """State of an engine nobody has spoken to: it runs with what stock vLLM would choose, within the ceilings."""
        start = stock.clamped(ceilings)
        desired = Desired(requested=start, fallback=start, confirmed_ns=clock.monotonic_ns())
        return cls(clock, facts, contract, ceilings, start, desired, Progress(AppliedBounds(ceilings)))

    def patch(self, body: object) -> None:
        """Take a change.

        Raises:
            ControlError: 400 bad field, 409 an older operation, 501 nothing can be controlled here.
        """
        with self._lock:
            if self.contract.mode == MODE_OBSERVE:
                raise ControlError(501, f"this engine can only be observed: {self.contract.reason}")
            now_ns = self.clock.monotonic_ns()
            fields = fields_of(body)
            operation_id = operation_of(fields)
            current = self.desired.operation_id
            if operation_id < current:
                raise ControlError(
                    409,
                    f"operation {operation_id} is older than {current}",
                    "operation_id",
                    operation_id,
                    f">= {current}",
                )
            if operation_id == current and fields != self._accepted:
                raise ControlError(
                    409,
                    f"operation {operation_id} was another change",
                    "operation_id",
                    operation_id,
                    f"> {current}, or the same change again",
                )
            if operation_id == current:  # a repeat: it was applied, and it shows that somebody is there
                self.desired = replace(self.desired, confirmed_ns=now_ns)
                self.revision += 1
                return
            desired = desired_after(
                fields,
                self.desired,
                ceilings=self.ceilings,
                shed_forbidden=self.contract.shed_forbidden,
                operation_id=operation_id,
                now_ns=now_ns,
            )
            bounds_alone = self.contract.mode == MODE_CAPS
            choice = choice_after(fields, self.planner, why_bounds_alone=self.contract.reason if bounds_alone else None)
            self.desired, self._accepted = desired, fields
            if choice != self.planner:
                self.planner = choice
            self.revision += 1

    def document(self) -> dict[str, Any]:
        """The answer of ``GET /v1/runtime_config``."""
        now_ns = self.clock.monotonic_ns()
        desired, contract = self.desired, self.contract
        applied = self.progress.applied
        running = self.progress.running
        remaining = max(0.0, (desired.expires_ns - now_ns) / 1e9)
        effective = applied.effective
        targets = desired.targets
        return {
            "api_version": API_VERSION,
            "engine": dict(self.facts),
            "contract": {"mode": contract.mode, "ok": contract.ok, "reason": contract.reason},
            "ceilings": _bounds(self.ceilings),
            "stock": _bounds(self.stock),
            "fallback": _bounds(desired.fallback),
            "requested": _bounds(desired.requested),
            "applied": _bounds(applied.applied),
            "effective": None if effective is None else _bounds(effective),
            "applied_step": applied.applied_step,
            "step": self.progress.step,
            "operation_id": desired.operation_id,
            "drain": {
                "active": running > applied.applied.max_num_seqs,
                "running": running,
                "target": applied.applied.max_num_seqs,
            },
            "lease": {
                "seconds": desired.lease_seconds,
                "remaining_seconds": round(remaining, 3),
                "expired": remaining <= 0.0,
            },
            "targets": {
                "ttft_seconds": targets.ttft_ns / 1e9 or None,
                "itl_seconds": targets.itl_ns / 1e9 or None,
                "e2e_seconds": targets.e2e_ns / 1e9 or None,
            },
            "planner": {"name": self.planner.name, "parameters": dict(self.planner.parameters)},
            "prefill_openings": self.progress.prefill_openings,
            "faults": self.progress.faults,
        }

    def demote(self, mode: str, reason: str) -> None:
        """Give up control, wholly or down to the bounds, because our own code failed; called by the engine's thread."""
        with self._lock:
            self.contract = replace(self.contract, mode=mode, ok=False, reason=reason)
            self.planner = PlannerChoice()
            self.revision += 1


def _bounds(bounds: Bounds) -> dict[str, int]:
    return {"max_num_seqs": bounds.max_num_seqs, "max_num_batched_tokens": bounds.max_num_batched_tokens}
