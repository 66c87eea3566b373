"""Kubernetes Events of a resource: one function for each, posted on a change and never repeated."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from llmserving_api import names
from llmserving_api.conditions import ConditionReason, ConditionType
from llmserving_api.v1alpha1.status import Condition
from llmserving_operator.children.identity import Identity
from llmserving_operator.conditions import find

NOTE_LENGTH = 1000


@dataclass(frozen=True, slots=True)
class Event:
    """Something people watching the resource want to know."""

    kind: str
    """``Normal`` or ``Warning``."""
    reason: str
    note: str


def refused(condition: Condition) -> Event:
    """The resource asks for something that is not done."""
    return Event("Warning", condition.reason, condition.message)


def name_taken(condition: Condition) -> Event:
    """Somebody else's object is in the place of a child."""
    return Event("Warning", condition.reason, condition.message)


def serving(condition: Condition) -> Event:
    """Requests are served."""
    return Event("Normal", condition.reason, condition.message)


def not_serving(condition: Condition) -> Event:
    """Requests are no longer served."""
    return Event("Warning", condition.reason, condition.message)


def target_missed(condition: Condition) -> Event:
    """A latency target does not hold any more."""
    return Event("Warning", condition.reason, condition.message)


def target_met(condition: Condition) -> Event:
    """All latency targets hold."""
    return Event("Normal", condition.reason, condition.message)


def saturated(condition: Condition) -> Event:
    """No bound can help: replicas are needed."""
    return Event("Warning", condition.reason, condition.message)


def tuning_stopped(condition: Condition) -> Event:
    """Bounds are no longer moved."""
    return Event("Warning" if condition.reason not in QUIET_REASONS else "Normal", condition.reason, condition.message)


def rolled_out(generation: int) -> Event:
    """An edit that restarts pods has reached all of them."""
    return Event("Normal", "RolledOut", f"all pods run generation {generation}")


QUIET_REASONS = frozenset({ConditionReason.MODE_OFF, ConditionReason.MODE_ADVISE, ConditionReason.POLICY_STATIC})

_ON_TRUE = {
    ConditionType.CONFLICT: name_taken,
    ConditionType.READY: serving,
    ConditionType.SLA_MET: target_met,
    ConditionType.SATURATED: saturated,
}
_ON_FALSE = {
    ConditionType.ACCEPTED: refused,
    ConditionType.SLA_MET: target_missed,
    ConditionType.TUNING_ACTIVE: tuning_stopped,
}


def events_between(before: Sequence[Condition], after: Sequence[Condition]) -> list[Event]:
    """Events for the conditions that changed; a repeated reconcile, or a restart of the operator, repeats none."""
    found = []
    for kind in ConditionType:
        old, new = find(before, kind), find(after, kind)
        if new is None or (old is not None and (old.status, old.reason) == (new.status, new.reason)):
            continue
        was_true = old is not None and old.status == "True"
        if new.status == "True" and not was_true and kind in _ON_TRUE:
            found.append(_ON_TRUE[kind](new))
        elif new.status == "False" and kind in _ON_FALSE:
            found.append(_ON_FALSE[kind](new))
        elif new.status == "False" and kind is ConditionType.READY and was_true:
            found.append(not_serving(new))
        elif kind is ConditionType.PROGRESSING and was_true and new.reason == ConditionReason.COMPLETE:
            found.append(rolled_out(new.observed_generation or 0))
    return found


def build_event(owner: Identity, event: Event, now: str, instance: str) -> dict[str, Any]:
    """Manifest of an Event about the resource; ``now`` is RFC 3339, ``instance`` is who reports it."""
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"generateName": f"{owner.name}.", "namespace": owner.namespace},
        "involvedObject": {
            "apiVersion": names.API_VERSION,
            "kind": names.KIND,
            "namespace": owner.namespace,
            "name": owner.name,
            "uid": owner.uid,
        },
        "type": event.kind,
        "reason": event.reason,
        "message": event.note[:NOTE_LENGTH],
        "firstTimestamp": now,
        "lastTimestamp": now,
        "count": 1,
        "source": {"component": names.FIELD_MANAGER},
        "reportingComponent": f"{names.GROUP}/{names.FIELD_MANAGER}",
        "reportingInstance": instance,
    }
