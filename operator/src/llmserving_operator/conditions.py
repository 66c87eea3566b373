"""Conditions: how one is set, and how each is derived from what is known. All pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from llmserving_api.conditions import ConditionReason, ConditionType
from llmserving_api.v1alpha1.status import Condition

MESSAGE_LENGTH = 2000


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is to be said under a condition: ``status`` is true, false or None for Unknown."""

    status: bool | None
    reason: str
    message: str = ""


Verdicts = Mapping[ConditionType, Verdict]

_WORDS = {True: "True", False: "False", None: "Unknown"}


def set_conditions(
    previous: Sequence[Condition], verdicts: Verdicts, generation: int, now: str
) -> tuple[Condition, ...]:
    """All known conditions in their fixed order; the transition time moves only where the status changes.

    Args:
        previous: conditions of the last status.
        verdicts: new ones; a type that is missing keeps its previous condition, or is Unknown.
        generation: the resource's.
        now: RFC 3339 time for those whose status changes.
    """
    before = {condition.type: condition for condition in previous}
    return tuple(_set(before.get(kind), kind, verdicts.get(kind), generation, now) for kind in ConditionType)


def _set(old: Condition | None, kind: str, verdict: Verdict | None, generation: int, now: str) -> Condition:
    if verdict is None:
        if old is not None:
            return old
        verdict = Verdict(None, ConditionReason.NOT_KNOWN, "nothing is known yet")
    status = _WORDS[verdict.status]
    return Condition(
        type=kind,
        status=status,
        observed_generation=generation,
        last_transition_time=old.last_transition_time if old is not None and old.status == status else now,
        reason=str(verdict.reason),
        message=verdict.message[:MESSAGE_LENGTH],
    )


def find(conditions: Sequence[Condition], kind: ConditionType) -> Condition | None:
    """A condition by its type."""
    return next((condition for condition in conditions if condition.type == kind), None)


def derive_ready(verdicts: Verdicts) -> Verdict:
    """``Ready``: the resource is accepted, its objects are its own, and enough engines answer.

    Neither a missed target nor a lost agent makes it false: requests are served all the same.
    """
    for kind, wanted in (
        (ConditionType.ACCEPTED, True),
        (ConditionType.CONFLICT, False),
        (ConditionType.ENGINES_AVAILABLE, True),
    ):
        verdict = verdicts[kind]
        if verdict.status is not wanted:
            return Verdict(False, verdict.reason, verdict.message)
    return Verdict(True, ConditionReason.SERVING, verdicts[ConditionType.ENGINES_AVAILABLE].message)
