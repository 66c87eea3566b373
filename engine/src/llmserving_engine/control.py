"""The control API's documents: JSON in, a checked change or an error that names field, value and range; state out.

Pure but for the lock: the server's threads change the desired state as one immutable object, the engine's thread picks
it up at its next step and reports its progress. A change is checked completely before anything of it is taken.
"""

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from llmserving_engine.bounds import AppliedBounds, Bounds, Desired, Shed, Targets
from llmserving_engine.clock import Clock
from llmserving_engine.planning import registry
from llmserving_engine.planning.protocol import ParameterError, PlannerChoice

API_VERSION: Final = "v1"
MAX_LEASE_SECONDS: Final = 3600.0
MODE_FULL: Final = "full"
MODE_CAPS: Final = "caps"
MODE_OBSERVE: Final = "observe"

_FIELDS: Final = (
    "operation_id",
    "max_num_seqs",
    "max_num_batched_tokens",
    "fallback",
    "lease_seconds",
    "targets",
    "shed_to",
    "planner",
)
_TARGETS: Final = ("ttft_seconds", "itl_seconds", "e2e_seconds")


class ControlError(Exception):
    """A request that cannot be served: the HTTP status and the body that says why."""

    def __init__(
        self, status: int, error: str, field_name: str | None = None, value: object = None, allowed: str | None = None
    ) -> None:
        super().__init__(error)
        self.status = status
        self.body = {
            "error": error,
            "field": field_name,
            "value": None if field_name is None else _shown(value),
            "allowed": allowed,
        }


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
            fields = _object(body, "", _FIELDS)
            operation_id = _integer(fields.get("operation_id"), "operation_id", 1, 2**63 - 1)
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
                return
            desired = self._desired(fields, operation_id, now_ns)
            choice = self._choice(fields)
            self.desired, self._accepted = desired, fields
            if choice != self.planner:
                self.planner = choice

    def document(self) -> dict[str, Any]:
        """The answer of ``GET /v1/runtime_config``."""
        now_ns = self.clock.monotonic_ns()
        desired, contract = self.desired, self.contract
        applied = self.progress.applied
        running = self.progress.running
        remaining = desired.lease_remaining_seconds(now_ns)
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

    def _desired(self, fields: Mapping[str, Any], operation_id: int, now_ns: int) -> Desired:
        ceilings, old = self.ceilings, self.desired
        requested = Bounds(
            _optional(fields, "max_num_seqs", old.requested.max_num_seqs, ceilings.max_num_seqs),
            _optional(
                fields, "max_num_batched_tokens", old.requested.max_num_batched_tokens, ceilings.max_num_batched_tokens
            ),
        )
        fallback = old.fallback
        if fields.get("fallback") is not None:
            names = ("max_num_seqs", "max_num_batched_tokens")
            pair = _object(fields["fallback"], "fallback", names)
            fallback = Bounds(
                _integer(pair.get(names[0]), f"fallback.{names[0]}", 1, ceilings.max_num_seqs),
                _integer(pair.get(names[1]), f"fallback.{names[1]}", 1, ceilings.max_num_batched_tokens),
            )
        lease = old.lease_seconds
        if fields.get("lease_seconds") is not None:
            lease = _positive(fields["lease_seconds"], "lease_seconds", MAX_LEASE_SECONDS)
        targets = old.targets
        if fields.get("targets") is not None:
            wanted = _object(fields["targets"], "targets", _TARGETS)
            targets = Targets(*(_target_ns(wanted.get(name), f"targets.{name}") for name in _TARGETS))
        shed = old.shed  # an idle engine has not done it yet
        if shed is not None and requested.max_num_seqs > max(1, shed.keep):
            shed = None
        if fields.get("shed_to") is not None:
            shed = self._shed(fields["shed_to"], requested, operation_id)
        return Desired(requested, fallback, operation_id, lease, now_ns, targets, shed)

    def _shed(self, value: object, requested: Bounds, operation_id: int) -> Shed:
        keep = _integer(value, "shed_to", 0, self.ceilings.max_num_seqs)
        forbidden = self.contract.shed_forbidden
        if forbidden:
            raise ControlError(400, f"requests cannot be shed here: {forbidden}", "shed_to", keep, "absent")
        if requested.max_num_seqs > max(1, keep):
            raise ControlError(
                400,
                f"shed_to {keep} needs max_num_seqs <= {max(1, keep)} in the same change, or the shed requests "
                "would come back at once",
                "shed_to",
                keep,
                f">= {requested.max_num_seqs}, or a lower max_num_seqs",
            )
        return Shed(operation_id, keep)

    def _choice(self, fields: Mapping[str, Any]) -> PlannerChoice:
        if fields.get("planner") is None:
            return self.planner
        wanted = _object(fields["planner"], "planner", ("name", "parameters"))
        name = wanted.get("name")
        if not isinstance(name, str):
            raise ControlError(
                400, "planner.name: a string is needed", "planner.name", name, ", ".join(registry.PLANNERS)
            )
        parameters = wanted.get("parameters")
        if parameters is None:
            parameters = {}
        if not isinstance(parameters, dict):
            raise ControlError(
                400, "planner.parameters: an object is needed", "planner.parameters", parameters, "object"
            )
        choice = PlannerChoice(name, parameters)
        if self.contract.mode == MODE_CAPS and name != "bounds":
            raise ControlError(
                400, f"bounds alone can be set here: {self.contract.reason}", "planner.name", name, "bounds"
            )
        try:
            registry.build(choice)
        except ParameterError as error:
            raise ControlError(400, str(error), error.field, error.value, error.allowed) from error
        return choice


def _bounds(bounds: Bounds) -> dict[str, int]:
    return {"max_num_seqs": bounds.max_num_seqs, "max_num_batched_tokens": bounds.max_num_batched_tokens}


def _shown(value: object) -> str:
    text = "absent" if value is None else str(value)
    return text if len(text) <= 100 else f"{text[:100]}..."


def _object(value: object, name: str, allowed: tuple[str, ...]) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ControlError(400, f"{name or 'body'}: a JSON object is needed", name or "body", value, "object")
    for key in value:
        if key not in allowed:
            full = f"{name}.{key}" if name else key
            raise ControlError(400, f"{full}: unknown field", full, value[key], ", ".join(allowed))
    return value


def _integer(value: object, name: str, low: int, high: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise ControlError(400, f"{name}: {_shown(value)} is not an integer in range", name, value, f"{low}..{high}")
    return value


def _optional(fields: Mapping[str, Any], name: str, old: int, ceiling: int) -> int:
    value = fields.get(name)
    return old if value is None else _integer(value, name, 1, ceiling)


def _positive(value: object, name: str, most: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= most:
        raise ControlError(400, f"{name}: {_shown(value)} is not a number in range", name, value, f"> 0, <= {most:g}")
    return float(value)


def _target_ns(value: object, name: str) -> int:
    return 0 if value is None else max(1, round(_positive(value, name, 86_400.0) * 1e9))
