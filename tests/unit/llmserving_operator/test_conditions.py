import pytest

from llmserving_api.conditions import ConditionType
from llmserving_operator.conditions import Verdict, derive_ready, find, set_conditions

EARLY, LATE = "2026-01-01T00:00:00Z", "2026-01-01T00:01:00Z"


def test_all_conditions_are_set_on_first_sight() -> None:
    found = set_conditions([], {ConditionType.READY: Verdict(True, "Serving")}, 1, EARLY)

    assert [condition.type for condition in found] == list(ConditionType)
    assert {condition.status for condition in found if condition.type != "Ready"} == {"Unknown"}


def test_the_transition_time_moves_only_when_the_status_changes() -> None:
    first = set_conditions([], {ConditionType.READY: Verdict(False, "Starting")}, 1, EARLY)
    same = set_conditions(first, {ConditionType.READY: Verdict(False, "CrashLooping", "x")}, 2, LATE)
    other = set_conditions(same, {ConditionType.READY: Verdict(True, "Serving")}, 3, LATE)

    before, after = find(same, ConditionType.READY), find(other, ConditionType.READY)
    assert before is not None
    assert after is not None
    assert (before.last_transition_time, before.reason, before.observed_generation) == (EARLY, "CrashLooping", 2)
    assert after.last_transition_time == LATE


def test_a_condition_nothing_is_said_about_stays() -> None:
    first = set_conditions([], {ConditionType.SLA_MET: Verdict(True, "TargetsMet")}, 1, EARLY)
    second = set_conditions(first, {}, 2, LATE)

    assert find(second, ConditionType.SLA_MET) == find(first, ConditionType.SLA_MET)


@pytest.mark.parametrize(
    ("accepted", "conflict", "engines", "expected"),
    [
        (True, False, True, (True, "Serving")),
        (False, False, True, (False, "accepted")),
        (True, True, True, (False, "conflict")),
        (True, False, False, (False, "engines")),
        (False, True, False, (False, "accepted")),
    ],
)
def test_ready_is_derived(accepted: bool, conflict: bool, engines: bool, expected: tuple[bool, str]) -> None:
    ready = derive_ready(
        {
            ConditionType.ACCEPTED: Verdict(accepted, "accepted"),
            ConditionType.CONFLICT: Verdict(conflict, "conflict"),
            ConditionType.ENGINES_AVAILABLE: Verdict(engines, "engines"),
            ConditionType.SLA_MET: Verdict(False, "TargetMissed"),
            ConditionType.AGENTS_CONNECTED: Verdict(False, "AgentUnreachable"),
        }
    )

    assert (ready.status, ready.reason) == expected
