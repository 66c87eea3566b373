from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmserving_api.control import Bounds
from llmserving_api.latency import bucket_of
from llmserving_api.status import AgentStatus, DecisionRecord, EngineStatus, GPUSource, LatencyWindow
from llmserving_api.v1alpha1.spec import SLA
from llmserving_api.v1alpha1.status import SLAStatus
from llmserving_operator.aggregate import (
    MAX_ENGINES,
    bounds_range,
    decisions,
    engine_statuses,
    format_duration,
    history,
    judge_targets,
    measure,
)

MakeAgent = Callable[..., AgentStatus]

TTFT = SLA.model_validate({"timeToFirstToken": {"target": "2s", "percentile": 95}})


def agent(**latency: Any) -> AgentStatus:
    return AgentStatus(
        agent_version="1",
        policy_revision=1,
        mode=None,
        law=None,
        engines=(EngineStatus(rank=0, reachable=True),),
        latency=LatencyWindow(window_seconds=300, **latency),
        gpu=GPUSource(source="none"),
    )


def judged(sla: SLA, *agents: AgentStatus) -> SLAStatus:
    return judge_targets(sla, measure(agents).window)


def counts(*seconds: float) -> dict[int, int]:
    found: dict[int, int] = {}
    for value in seconds:
        found[bucket_of(value)] = found.get(bucket_of(value), 0) + 1
    return found


@pytest.mark.parametrize(
    ("seconds", "overdue", "met", "observed"),
    [
        ([0.1] * 100, 0, True, "100ms"),
        ([0.1] * 95 + [5.0] * 5, 0, True, "100ms"),
        ([0.1] * 94 + [5.0] * 6, 0, False, "4.9s"),
        ([0.1] * 95, 5, True, "100ms"),
        ([0.1] * 94, 6, False, ">2s"),
        ([], 1, False, ">2s"),
        ([], 0, None, None),
    ],
)
def test_a_target_holds_while_its_share_stays_within_the_budget(
    seconds: list[float], overdue: int, met: bool | None, observed: str | None
) -> None:
    status = judged(TTFT, agent(ttft=counts(*seconds), overdue_waiting=overdue)).time_to_first_token

    assert status is not None
    assert (status.met, status.observed, status.target) == (met, observed, "2s")


def test_attainment_counts_those_that_wait_too_long_as_misses() -> None:
    assert judged(TTFT, agent(requests=90, good=90, overdue_waiting=10)).attainment == "90.0%"
    assert judged(TTFT, agent()).attainment is None


EVERY = SLA.model_validate(
    {
        "timeToFirstToken": {"target": "2s", "percentile": 90},
        "interTokenLatency": {"target": "50ms"},
        "endToEndLatency": {"target": "60s"},
    }
)


@pytest.mark.parametrize(
    "latency",
    [
        {"failed_unstarted": 20},  # beside the first tokens, gaps and ends of others
        {"failed_unstarted": 0},  # their own first tokens are among those counted
        {"failed_unstarted": 10, "failed_late": 1},
        {},  # an agent that does not tell
    ],
)
def test_what_the_engine_failed_misses_every_target(latency: dict[str, Any]) -> None:
    others: dict[str, Any] = {"ttft": counts(*[0.2] * 80), "itl": counts(*[0.01] * 80), "e2e": counts(*[3.0] * 80)}
    status = judged(EVERY, agent(requests=100, good=80, failed=20, **others, **latency))

    for target in (status.time_to_first_token, status.inter_token_latency, status.end_to_end_latency):
        assert target is not None
        assert (target.met, target.observed) == (False, f">{target.target}")


def test_where_every_request_fails_targets_are_missed() -> None:
    status = judged(TTFT, agent(requests=500, failed=500, failed_unstarted=500))

    assert status.time_to_first_token is not None
    assert status.time_to_first_token.met is False


def test_a_request_that_failed_after_its_first_token_counts_once() -> None:
    """Ten of a hundred: within a budget of 10 %, were the five late ones not counted twice or among more requests."""
    late = counts(*[0.2] * 95, *[5.0] * 5)
    status = judged(EVERY, agent(requests=100, failed=10, failed_unstarted=0, failed_late=5, ttft=late))

    assert status.time_to_first_token is not None
    assert status.time_to_first_token.met is True
    status = judged(EVERY, agent(requests=100, failed=11, failed_unstarted=0, failed_late=5, ttft=late))
    assert status.time_to_first_token is not None
    assert status.time_to_first_token.met is False


def test_waiting_for_longer_than_one_target_is_no_miss_of_another() -> None:
    window: dict[str, Any] = {"ttft": counts(*[0.5] * 1000), "e2e": counts(*[8.0] * 100), "overdue_waiting": 10}
    status = judged(EVERY, agent(**window)).end_to_end_latency
    jammed = judged(EVERY, agent(**window, overdue_e2e=10)).end_to_end_latency

    assert status is not None
    assert jammed is not None
    assert (status.met, jammed.met) == (True, False)


def test_a_target_that_is_met_is_not_shown_as_exceeded() -> None:
    """The bucket that holds 58 ms stands for 59 ms."""
    sla = SLA.model_validate({"interTokenLatency": {"target": "58ms"}})
    status = judged(sla, agent(itl=counts(*[0.058] * 100))).inter_token_latency

    assert status is not None
    assert (status.met, status.observed) == (True, "58ms")


def test_targets_that_are_not_asked_for_are_not_shown() -> None:
    status = judged(TTFT, agent(itl=counts(0.01)))

    assert status.inter_token_latency is None


latencies = st.lists(st.sampled_from([0.01, 0.1, 1.0, 1.9, 2.5, 30.0]), max_size=30)


@given(st.lists(latencies, max_size=5))
def test_many_pods_are_judged_as_one_pod_with_all_their_requests(pods: list[list[float]]) -> None:
    """Counts are added; a percentile of percentiles would differ."""
    apart = [agent(ttft=counts(*pod)) for pod in pods]
    together = agent(ttft=counts(*[second for pod in pods for second in pod]))

    assert judged(TTFT, *apart) == judged(TTFT, together)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.0476, "48ms"), (0.1, "100ms"), (1.234, "1.2s"), (0.999, "1s"), (12.34, "12s"), (0.00123, "1.2ms")],
)
def test_latencies_are_shown_with_two_digits(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


@pytest.mark.parametrize(("values", "text"), [([], None), ([64], "64"), ([64, 64], "64"), ([64, 32, 128], "32-128")])
def test_a_bound_is_a_number_or_a_range(values: list[int], text: str | None) -> None:
    assert bounds_range(values) == text


def test_every_pod_and_rank_has_its_entry(make_agent: MakeAgent) -> None:
    found = engine_statuses({"b": make_agent()}, {"a": "no answer"})

    assert [(entry.pod, entry.rank, entry.reachable, entry.message) for entry in found] == [
        ("a", 0, False, "no answer"),
        ("b", 0, True, ""),
    ]
    assert found[1].applied is not None
    assert found[1].applied.max_num_seqs == 64


def test_engines_in_trouble_are_kept_where_there_are_too_many(make_agent: MakeAgent) -> None:
    many = {f"p{number:03}": make_agent() for number in range(50)}
    found = engine_statuses(many, {"p999": "no answer"})

    assert len(found) == MAX_ENGINES
    assert found[-1].pod == "p999"


def decision(time: str, before: int | None, after: int, *, acted: bool = True) -> DecisionRecord:
    def bounds(seqs: int) -> Bounds:
        return Bounds(max_num_seqs=seqs, max_num_batched_tokens=2048)

    return DecisionRecord(
        time=time,
        law="MemorySLA",
        reason="ITLHigh",
        message="",
        before=None if before is None else bounds(before),
        after=bounds(after),
        acted=acted,
    )


def test_history_holds_what_moved_the_bounds_newest_first(make_agent: MakeAgent) -> None:
    agents = {
        "a": make_agent(decisions=(decision("T3", 64, 32), decision("T1", 64, 64))),
        "b": make_agent(decisions=(decision("T2", None, 16), decision("T4", 16, 8, acted=False))),
    }

    assert [(entry.engine, entry.time) for entry in history(agents)] == [("a", "T3"), ("b", "T2")]


def test_history_is_short(make_agent: MakeAgent) -> None:
    records = tuple(decision(f"T{number}", number, number + 1) for number in range(10, 30))

    assert len(history({"a": make_agent(decisions=records)})) == 10


def test_the_newest_decision_of_any_engine_comes_first(make_agent: MakeAgent) -> None:
    agents = {
        "a": make_agent(engine={"last_decision": decision("T1", 1, 2)}),
        "b": make_agent(engine={"last_decision": decision("T2", 1, 2)}),
    }

    assert decisions(agents)[0].engine == "b/0"
