"""A change of the control API, checked: JSON in, the state that follows or an error that names field, value and range. Pure."""

from collections.abc import Mapping
from typing import Any, Final

from llmserving_engine.bounds import Bounds, Desired, Shed, Targets
from llmserving_engine.planning import registry
from llmserving_engine.planning.protocol import ParameterError, PlannerChoice

MAX_LEASE_SECONDS: Final = 3600.0
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


def fields_of(body: object) -> dict[str, Any]:
    """The fields of a change.

    Raises:
        ControlError: 400, it is no object or has an unknown field.
    """
    return _object(body, "", _FIELDS)


def operation_of(change: Mapping[str, Any]) -> int:
    """Number of the operation that a change belongs to.

    Raises:
        ControlError: 400, it is missing or out of range.
    """
    return _integer(change.get("operation_id"), "operation_id", 1, 2**63 - 1)


def desired_after(
    change: Mapping[str, Any], old: Desired, *, ceilings: Bounds, shed_forbidden: str, operation_id: int, now_ns: int
) -> Desired:
    """What is wanted once a change is taken; what it leaves out stays as it was.

    Args:
        change: as ``fields_of`` gave it.
        old: what was wanted before.
        ceilings: the most the engine can ever do.
        shed_forbidden: why running requests must not be preempted on request; empty: they may.
        operation_id: of the change.
        now_ns: when it came.

    Raises:
        ControlError: 400, a field is not what it may be.
    """
    requested = Bounds(
        _optional(change, "max_num_seqs", old.requested.max_num_seqs, ceilings.max_num_seqs),
        _optional(
            change, "max_num_batched_tokens", old.requested.max_num_batched_tokens, ceilings.max_num_batched_tokens
        ),
    )
    fallback = old.fallback
    if change.get("fallback") is not None:
        names = ("max_num_seqs", "max_num_batched_tokens")
        pair = _object(change["fallback"], "fallback", names)
        fallback = Bounds(
            _integer(pair.get(names[0]), f"fallback.{names[0]}", 1, ceilings.max_num_seqs),
            _integer(pair.get(names[1]), f"fallback.{names[1]}", 1, ceilings.max_num_batched_tokens),
        )
    lease = old.lease_seconds
    if change.get("lease_seconds") is not None:
        lease = _positive(change["lease_seconds"], "lease_seconds", MAX_LEASE_SECONDS)
    targets = old.targets
    if change.get("targets") is not None:
        wanted = _object(change["targets"], "targets", _TARGETS)
        targets = Targets(*(_target_ns(wanted.get(name), f"targets.{name}") for name in _TARGETS))
    shed = old.shed  # an idle engine has not done it yet
    if shed is not None and requested.max_num_seqs > max(1, shed.keep):
        shed = None
    if change.get("shed_to") is not None:
        shed = _shed(change["shed_to"], requested, ceilings, shed_forbidden, operation_id)
    return Desired(requested, fallback, operation_id, lease, now_ns, targets, shed)


def _shed(value: object, requested: Bounds, ceilings: Bounds, forbidden: str, operation_id: int) -> Shed:
    keep = _integer(value, "shed_to", 0, ceilings.max_num_seqs)
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


def choice_after(change: Mapping[str, Any], old: PlannerChoice, *, why_bounds_alone: str | None) -> PlannerChoice:
    """The planner once a change is taken.

    Args:
        change: as ``fields_of`` gave it.
        old: the choice in force.
        why_bounds_alone: why no planner can be had on this engine; None: any can.

    Raises:
        ControlError: 400, there is no such planner, or not with these parameters.
    """
    if change.get("planner") is None:
        return old
    wanted = _object(change["planner"], "planner", ("name", "parameters"))
    name = wanted.get("name")
    if not isinstance(name, str):
        raise ControlError(400, "planner.name: a string is needed", "planner.name", name, ", ".join(registry.PLANNERS))
    parameters = wanted.get("parameters")
    if parameters is None:
        parameters = {}
    if not isinstance(parameters, dict):
        raise ControlError(400, "planner.parameters: an object is needed", "planner.parameters", parameters, "object")
    choice = PlannerChoice(name, parameters)
    if why_bounds_alone is not None and name != "bounds":
        raise ControlError(400, f"bounds alone can be set here: {why_bounds_alone}", "planner.name", name, "bounds")
    try:
        registry.build(choice)
    except ParameterError as error:
        raise ControlError(400, str(error), error.field, error.value, error.allowed) from error
    return choice


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
