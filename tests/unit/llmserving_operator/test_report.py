from collections.abc import Callable
from typing import Any

import pytest

from llmserving_api.conditions import ConditionType
from llmserving_api.status import AgentStatus
from llmserving_api.v1alpha1 import LLMServingSpec, LLMServingStatus
from llmserving_operator.children.identity import Identity
from llmserving_operator.conditions import Verdict, find
from llmserving_operator.observe import Observation, Pod, Report
from llmserving_operator.report import build_status, build_unread_status, hear_agents, seconds_until_write

MakeSpec = Callable[..., LLMServingSpec]
MakeObservation = Callable[..., Observation]
MakePod = Callable[..., Pod]
MakeAgent = Callable[..., AgentStatus]

NOW = "2026-01-01T00:00:00Z"
TRAFFIC = {"ttft": {180: 100}, "itl": {150: 1000}, "requests": 100, "good": 99}


@pytest.fixture
def build(owner: Identity, make_spec: MakeSpec) -> Callable[..., LLMServingStatus]:
    def build(observation: Observation, previous: LLMServingStatus | None = None) -> LLMServingStatus:
        return build_status(
            owner,
            make_spec(),
            observation,
            previous or LLMServingStatus(),
            accepted=Verdict(True, "Accepted"),
            update_pending=False,
            now=NOW,
        )

    return build


@pytest.fixture
def served(make_observation: MakeObservation, make_pod: MakePod, make_agent: MakeAgent) -> Observation:
    return make_observation(pods=(make_pod("a"),), reports={"uid-a": Report(make_agent(latency=TRAFFIC))})


def words(status: LLMServingStatus) -> dict[str, str]:
    return {condition.type: condition.reason for condition in status.conditions}


def test_a_served_resource_shows_what_its_agents_measure(
    build: Callable[..., LLMServingStatus], served: Observation
) -> None:
    status = build(served)

    assert words(status)["Ready"] == "Serving"
    assert words(status)["SLAMet"] == "TargetsMet"
    assert status.sla is not None
    assert status.sla.attainment == "99.0%"
    assert (status.replicas, status.ready_replicas, status.selector) == (1, 1, "llmserving.io/name=chat")
    assert [engine.pod for engine in status.engines] == ["a"]


def test_agents_not_asked_yet_leave_what_was_known(
    build: Callable[..., LLMServingStatus], served: Observation, make_observation: MakeObservation
) -> None:
    """A restarted operator has asked nobody; it must not say that nothing is known."""
    before = build(served)
    after = build(make_observation(pods=served.pods), before)

    assert after == before


def test_a_starting_pod_does_not_unsettle_the_serving_ones(
    build: Callable[..., LLMServingStatus], served: Observation, make_pod: MakePod, make_agent: MakeAgent
) -> None:
    starting = make_agent(engine={"reachable": False, "message": "no socket yet"}, policy_revision=None)
    pods = (*served.pods, make_pod("b", ready=False))
    observation = Observation(
        children={}, foreign={}, pods=pods, reports={**served.reports, "uid-b": Report(starting)}, deliveries={}
    )
    status = build(observation)

    assert words(status)["TuningActive"] == "Tuning"
    assert words(status)["AgentsConnected"] == "AllConnected"
    assert [(engine.pod, engine.reachable) for engine in status.engines] == [("a", True), ("b", False)]


def test_requests_that_wait_for_a_jammed_engine_are_no_lack_of_traffic(
    build: Callable[..., LLMServingStatus], make_observation: MakeObservation, make_pod: MakePod, make_agent: MakeAgent
) -> None:
    """The pod is not ready any more, its agent still counts who waits."""
    jammed = make_agent(latency={"overdue_waiting": 4})
    observation = make_observation(pods=(make_pod("a", ready=False),), reports={"uid-a": Report(jammed)})

    assert words(build(observation))["SLAMet"] == "TargetMissed"


def test_terminating_pods_are_not_counted(
    build: Callable[..., LLMServingStatus], make_observation: MakeObservation, make_pod: MakePod
) -> None:
    status = build(make_observation(pods=(make_pod("a", terminating=True),)))

    assert (status.replicas, status.ready_replicas) == (0, 0)


def test_only_ready_pods_without_an_answer_are_silent(make_observation: MakeObservation, make_pod: MakePod) -> None:
    observation = make_observation(
        pods=(make_pod("a"), make_pod("b", ready=False)),
        reports={"uid-a": Report(None, "timeout"), "uid-b": Report(None, "timeout")},
    )

    assert hear_agents(observation).silent == {"a": "timeout"}


def test_a_spec_that_is_not_understood_keeps_what_was_known(
    build: Callable[..., LLMServingStatus], served: Observation, owner: Identity
) -> None:
    before = build(served)
    after = build_unread_status(owner, before, Verdict(False, "InvalidSpec", "spec.sla: no"), NOW)

    assert (words(after)["Accepted"], words(after)["Ready"], words(after)["SLAMet"]) == (
        "InvalidSpec",
        "InvalidSpec",
        "TargetsMet",
    )
    assert after.sla == before.sla


def test_the_status_survives_its_way_through_the_api_server(
    build: Callable[..., LLMServingStatus], served: Observation
) -> None:
    """Otherwise a restarted operator would find a difference and write."""
    status = build(served)

    assert LLMServingStatus.model_validate(status.manifest()) == status


class TestWrites:
    @pytest.fixture
    def before(self, build: Callable[..., LLMServingStatus], served: Observation) -> LLMServingStatus:
        return build(served)

    def test_nothing_new_is_never_written(self, before: LLMServingStatus) -> None:
        assert seconds_until_write(before, before, 0.0, 1000.0) is None

    @pytest.mark.parametrize("change", [{"replicas": 2}, {"ready_replicas": 0}, {"observed_generation": 9}])
    def test_what_others_act_on_is_written_at_once(self, change: dict[str, Any], before: LLMServingStatus) -> None:
        assert seconds_until_write(before, before.model_copy(update=change), 100.0, 100.1) == 0.0

    def test_a_changed_condition_is_written_at_once(self, before: LLMServingStatus) -> None:
        condition = find(before.conditions, ConditionType.SLA_MET)
        assert condition is not None
        missed = condition.model_copy(update={"status": "False"})
        others = tuple(c for c in before.conditions if c.type != "SLAMet")
        after = before.model_copy(update={"conditions": (*others, missed)})

        assert seconds_until_write(before, after, 100.0, 100.1) == 0.0

    def test_figures_wait_for_their_turn(self, before: LLMServingStatus) -> None:
        after = before.model_copy(update={"kv_usage": "80%"})

        assert seconds_until_write(before, after, 100.0, 110.0) == pytest.approx(20.0)
        assert seconds_until_write(before, after, 100.0, 131.0) == 0.0
