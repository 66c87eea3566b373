import pytest

from llmserving_api.conditions import ConditionType
from llmserving_api.v1alpha1.status import Condition
from llmserving_operator.children.identity import Identity
from llmserving_operator.conditions import Verdict, set_conditions
from llmserving_operator.events import Event, build_event, events_between

NOW = "2026-01-01T00:00:00Z"


def conditions(**verdicts: Verdict) -> tuple[Condition, ...]:
    return set_conditions([], {ConditionType(kind): verdict for kind, verdict in verdicts.items()}, 4, NOW)


@pytest.mark.parametrize(
    ("kind", "before", "after", "expected"),
    [
        ("Ready", Verdict(False, "Starting"), Verdict(True, "Serving"), ("Normal", "Serving")),
        ("Ready", Verdict(True, "Serving"), Verdict(False, "CrashLooping"), ("Warning", "CrashLooping")),
        ("Ready", Verdict(False, "Starting"), Verdict(False, "CrashLooping"), None),
        ("Accepted", Verdict(True, "Accepted"), Verdict(False, "TemplateRefused"), ("Warning", "TemplateRefused")),
        ("Accepted", Verdict(False, "InvalidSpec"), Verdict(False, "TemplateRefused"), ("Warning", "TemplateRefused")),
        ("Accepted", Verdict(False, "InvalidSpec"), Verdict(True, "Accepted"), None),
        ("Conflict", Verdict(False, "NoConflict"), Verdict(True, "NameTaken"), ("Warning", "NameTaken")),
        ("SLAMet", Verdict(True, "TargetsMet"), Verdict(False, "TargetMissed"), ("Warning", "TargetMissed")),
        ("SLAMet", Verdict(False, "TargetMissed"), Verdict(True, "TargetsMet"), ("Normal", "TargetsMet")),
        ("SLAMet", Verdict(True, "TargetsMet"), Verdict(None, "NoTraffic"), None),
        (
            "Saturated",
            Verdict(False, "Headroom"),
            Verdict(True, "MoreReplicasNeeded"),
            ("Warning", "MoreReplicasNeeded"),
        ),
        ("TuningActive", Verdict(True, "Tuning"), Verdict(False, "ModeAdvise"), ("Normal", "ModeAdvise")),
        ("TuningActive", Verdict(True, "Tuning"), Verdict(False, "AgentUnreachable"), ("Warning", "AgentUnreachable")),
        ("TuningActive", Verdict(True, "Tuning"), Verdict(None, "PolicyOnItsWay"), None),
        ("Progressing", Verdict(True, "RollingOut"), Verdict(False, "Complete"), ("Normal", "RolledOut")),
    ],
)
def test_changes_worth_knowing_become_events(
    kind: str, before: Verdict, after: Verdict, expected: tuple[str, str] | None
) -> None:
    found = events_between(conditions(**{kind: before}), conditions(**{kind: after}))

    assert [(event.kind, event.reason) for event in found] == ([expected] if expected else [])


def test_the_same_conditions_repeat_nothing() -> None:
    same = conditions(Ready=Verdict(True, "Serving"), Conflict=Verdict(True, "NameTaken", "x"))

    assert (
        events_between(
            same, conditions(Ready=Verdict(True, "Serving", "other words"), Conflict=Verdict(True, "NameTaken"))
        )
        == []
    )


def test_an_event_is_about_the_resource(owner: Identity) -> None:
    manifest = build_event(owner, Event("Warning", "NameTaken", "x" * 5000), NOW, "pod-1")

    assert manifest["involvedObject"]["uid"] == "uid-1"
    assert manifest["metadata"]["namespace"] == "prod"
    assert len(manifest["message"]) == 1000
