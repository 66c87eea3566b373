"""One engine rank: what is asked of it and when, refusals, leases, restarts, overdue and idle engines."""

from itertools import pairwise
from typing import Any

import pytest

from llmserving_agent.actuation import Actuation, Answer, Outcome
from llmserving_agent.engine import Engine
from llmserving_agent.sensors.ports import FrontEndShare, Telemetry
from llmserving_api.conditions import DecisionReason
from llmserving_api.control import (
    Bounds,
    Contract,
    ContractMode,
    Drain,
    Lease,
    PlannerChoice,
    RuntimeConfig,
    SLATargets,
)
from llmserving_api.latency import bucket_of
from llmserving_api.policy import AskedLimits, LawName, Mode, Policy, Target, Targets
from llmserving_api.telemetry import MoreRecord, RequestClass, RequestRecord, StepRecord
from llmserving_api.telemetry import Outcome as Ended
from llmserving_fakes.documents import make_policy, obeying, runtime_config, step_record

NO_SHARE = FrontEndShare()


def bounds(seqs: int, tokens: int) -> Bounds:
    return Bounds(max_num_seqs=seqs, max_num_batched_tokens=tokens)


def config(**changes: Any) -> RuntimeConfig:
    """An engine that has run for a while."""
    facts = {"pid": changes.pop("pid", 7), "unsupported": changes.pop("unsupported", ())}
    drain = Drain(active=False, running=1, target=256)
    return runtime_config(facts, **{"applied_step": 1, "step": 100, "operation_id": 5, "drain": drain, **changes})


def policy(revision: int = 1, **changes: Any) -> Policy:
    sla = Targets(
        time_to_first_token=Target(percentile=95, target_seconds=2.0),
        inter_token_latency=Target(percentile=95, target_seconds=0.05),
    )
    return make_policy(revision, **{"sla": sla, **changes})


def adopted(**changes: Any) -> Engine:
    engine = Engine(0)
    engine.observe(Answer(Outcome.APPLIED, config(**changes)), 0.0)
    return engine


def decide(engine: Engine, now: float, share: FrontEndShare = NO_SHARE, **changes: Any) -> Actuation | None:
    return engine.decide(policy(**changes), share, None, now)


def applied(engine: Engine, actuation: Actuation, now: float) -> None:
    engine.confirm(Answer(Outcome.APPLIED, obeying(config(), actuation.patch)), now)


def sense(engine: Engine, *records: StepRecord | MoreRecord | RequestRecord, now: float, **changes: Any) -> None:
    engine.sense(Telemetry(records=records, **changes), now)


def test_nothing_is_decided_before_the_engines_first_document() -> None:
    assert decide(Engine(0), 0.0) is None


def test_the_first_change_carries_targets_fallback_and_lease_and_keeps_the_bounds() -> None:
    engine = adopted(requested=bounds(96, 768), operation_id=41)
    actuation = decide(engine, 0.0)
    assert actuation is not None
    patch = actuation.patch
    assert patch.operation_id == 42
    assert (patch.max_num_seqs, patch.max_num_batched_tokens) == (96, 768)
    assert patch.fallback == bounds(256, 8192)
    assert patch.lease_seconds == 30
    assert patch.targets == SLATargets(ttft_seconds=2.0, itl_seconds=0.05)


def test_the_fallback_is_what_stock_would_choose_within_the_limits() -> None:
    actuation = decide(adopted(), 0.0, max_num_seqs=AskedLimits(min=8, max=64))
    assert actuation is not None
    assert actuation.patch.fallback == bounds(64, 8192)
    assert actuation.patch.max_num_seqs == 64


def test_limits_beyond_the_ceilings_end_at_the_ceilings() -> None:
    actuation = decide(adopted(), 0.0, law=LawName.STATIC, max_num_seqs=AskedLimits(min=1000, max=4096))
    assert actuation is not None
    assert actuation.patch.max_num_seqs == 512


def test_without_maxima_the_ceilings_are_the_limits_of_each_engine() -> None:
    unlimited = {"max_num_seqs": AskedLimits(min=8), "max_num_batched_tokens": AskedLimits(min=256)}
    for ceilings in (bounds(256, 2048), bounds(1024, 16384)):
        actuation = decide(adopted(ceilings=ceilings), 0.0, law=LawName.STATIC, **unlimited)
        assert actuation is not None
        assert (actuation.patch.max_num_seqs, actuation.patch.max_num_batched_tokens) == (
            ceilings.max_num_seqs,
            ceilings.max_num_batched_tokens,
        )


@pytest.mark.parametrize("law", list(LawName))
def test_minima_above_the_ceilings_leave_every_law_at_the_ceilings(law: LawName) -> None:
    engine = adopted(ceilings=bounds(128, 2048), stock=bounds(128, 2048), requested=bounds(64, 1024))
    minima = {"max_num_seqs": AskedLimits(min=500), "max_num_batched_tokens": AskedLimits(min=4096)}
    actuation = decide(engine, 0.0, law=law, **minima)
    assert actuation is not None
    assert (actuation.patch.max_num_seqs, actuation.patch.max_num_batched_tokens) == (128, 2048)
    assert actuation.patch.fallback == bounds(128, 2048)


def test_one_change_at_a_time_is_on_its_way() -> None:
    engine = adopted()
    assert decide(engine, 0.0) is not None
    assert decide(engine, 5.0, revision=2) is None


def test_the_lease_is_renewed_every_ten_seconds_and_not_more_often() -> None:
    engine = adopted()
    sent = []
    for tick in range(400):
        actuation = decide(engine, tick / 10)
        if actuation is not None:
            sent.append(tick / 10)
            applied(engine, actuation, tick / 10)
    assert len(sent) == 4
    assert all(later - sooner <= 11 for sooner, later in pairwise(sent))


def test_an_edit_acts_in_the_next_pass_and_counts_once_confirmed() -> None:
    engine = adopted()
    first = decide(engine, 0.0)
    assert first is not None
    applied(engine, first, 0.0)
    assert engine.confirmed == 1
    second = decide(engine, 0.1, revision=2, max_num_seqs=AskedLimits(min=8, max=32))
    assert second is not None
    assert second.patch.max_num_seqs == 32
    assert engine.confirmed == 1
    applied(engine, second, 0.2)
    assert engine.confirmed == 2


def test_an_edit_that_changes_nothing_for_the_engine_is_confirmed_without_a_call() -> None:
    engine = adopted()
    first = decide(engine, 0.0)
    assert first is not None
    applied(engine, first, 0.0)
    assert decide(engine, 0.1, revision=2) is None
    assert engine.confirmed == 2


def test_a_refused_change_is_said_and_not_repeated_at_once() -> None:
    engine = adopted()
    assert decide(engine, 0.0) is not None
    engine.confirm(Answer(Outcome.REFUSED, status=400, message="max_num_seqs: 256 is not in range 1..128"), 0.1)
    assert engine.taken is not None
    assert engine.taken.decision.reason is DecisionReason.REFUSED
    assert "1..128" in engine.taken.decision.message
    assert not engine.taken.acted
    engine.observe(Answer(Outcome.APPLIED, config()), 1.0)
    assert decide(engine, 2.0) is None
    assert decide(engine, 12.0) is not None


def test_after_an_older_operation_was_refused_the_next_number_is_above_the_engines() -> None:
    engine = adopted(operation_id=5)
    assert decide(engine, 0.0) is not None
    engine.confirm(Answer(Outcome.REFUSED, status=409, message="operation 6 is older than 9"), 0.1)
    engine.observe(Answer(Outcome.APPLIED, config(operation_id=9)), 1.0)
    actuation = decide(engine, 2.0)
    assert actuation is not None
    assert actuation.patch.operation_id == 10


def test_an_engine_out_of_reach_is_left_alone_until_it_answers() -> None:
    engine = adopted()
    assert decide(engine, 0.0) is not None
    engine.confirm(Answer(Outcome.UNREACHABLE, message="engine-0.sock: no such file"), 0.1)
    assert decide(engine, 2.0) is None
    assert engine.taken is not None
    assert engine.taken.decision.reason is DecisionReason.ENGINE_UNREACHABLE
    engine.observe(Answer(Outcome.APPLIED, config(pid=8)), 3.0)
    assert decide(engine, 3.0) is not None


def test_an_engine_that_can_only_be_observed_gets_advice_alone() -> None:
    engine = adopted(contract=Contract(mode=ContractMode.OBSERVE, ok=False, reason="no gate"))
    assert decide(engine, 0.0) is None
    assert engine.confirmed == 1
    assert engine.taken is not None
    assert not engine.taken.acted
    assert "no gate" in engine.taken.decision.message


def test_on_an_engine_that_takes_bounds_alone_a_law_of_bounds_decides_in_place_of_a_planning_one() -> None:
    engine = adopted(contract=Contract(mode=ContractMode.CAPS, ok=False, reason="planner failed: ZeroDivisionError"))
    actuation = decide(engine, 0.0, law=LawName.PREDICTIVE)
    assert actuation is not None
    assert actuation.patch.planner is None
    assert engine.taken is not None
    assert engine.taken.acted
    assert "MemorySLA in place of Predictive" in engine.taken.decision.message
    assert "ZeroDivisionError" in engine.taken.decision.message


@pytest.mark.parametrize(("mode", "expected"), [(Mode.AUTO, True), (Mode.ADVISE, False)])
def test_where_the_planner_could_help_and_is_only_advised_nobody_is_told_to_add_replicas(
    mode: Mode, expected: bool
) -> None:
    in_force = PlannerChoice(name="predictive") if mode is Mode.AUTO else PlannerChoice()
    engine = adopted(planner=in_force)
    engine.judge(policy(mode=mode, law=LawName.PREDICTIVE), NO_SHARE)
    for second in range(15):
        slow = step_record(float(second), gaps=((bucket_of(0.3), 100),))
        sense(engine, slow, now=float(second))
        decide(engine, float(second), mode=mode, law=LawName.PREDICTIVE)
        engine.confirm(Answer(Outcome.APPLIED, config(planner=in_force)), float(second))
    assert engine.is_saturated(15.0) is expected


@pytest.mark.parametrize("unsupported", [(), ("PipelineParallel",)])
def test_advice_on_an_engine_that_is_only_observed_is_of_bounds_which_its_owner_could_set(
    unsupported: tuple[str, ...],
) -> None:
    contract = Contract(mode=ContractMode.OBSERVE, ok=bool(unsupported), reason="no gate")
    engine = adopted(contract=contract, unsupported=unsupported)
    assert decide(engine, 0.0, law=LawName.PREDICTIVE) is None
    assert engine.taken is not None
    assert "(MemorySLA in place of Predictive)" in engine.taken.decision.message


def test_under_features_that_are_not_supported_nothing_is_asked_and_the_feature_is_named() -> None:
    contract = Contract(mode=ContractMode.OBSERVE, ok=True, reason="not tested on real hardware")
    engine = adopted(contract=contract, unsupported=("PipelineParallel",), requested=bounds(9, 300))
    assert decide(engine, 0.0) is None
    assert engine.taken is not None
    assert not engine.taken.acted
    assert engine.taken.decision.message.startswith("advice only with PipelineParallel; ")


@pytest.mark.parametrize("mode", [Mode.OFF, Mode.ADVISE])
def test_without_auto_the_engine_gets_its_fallback_bounds(mode: Mode) -> None:
    actuation = decide(adopted(requested=bounds(9, 300)), 0.0, mode=mode)
    assert actuation is not None
    assert (actuation.patch.max_num_seqs, actuation.patch.max_num_batched_tokens) == (256, 8192)


def test_the_front_ends_share_is_deducted_from_what_the_scheduler_is_given() -> None:
    actuation = decide(adopted(), 0.0, FrontEndShare(0.3))
    assert actuation is not None
    assert actuation.patch.targets is not None
    assert actuation.patch.targets.ttft_seconds == pytest.approx(1.7)
    assert actuation.patch.targets.itl_seconds == 0.05


def test_a_front_end_slower_than_the_target_does_not_stop_the_scheduler() -> None:
    actuation = decide(adopted(), 0.0, FrontEndShare(30.0))
    assert actuation is not None
    assert actuation.patch.targets is not None
    assert actuation.patch.targets.ttft_seconds == pytest.approx(1.0)


def test_after_a_lapsed_lease_the_agent_goes_on_from_where_the_engine_went() -> None:
    lapsed = Lease(seconds=30, remaining_seconds=0, expired=True)
    engine = adopted(requested=bounds(64, 512), applied=bounds(200, 6000), lease=lapsed)
    actuation = decide(engine, 0.0)
    assert actuation is not None
    assert (actuation.patch.max_num_seqs, actuation.patch.max_num_batched_tokens) == (200, 6000)


def test_with_telemetry_that_stopped_while_requests_ran_the_bounds_are_held() -> None:
    engine = adopted()
    sense(engine, step_record(0.0), step_record(0.1), now=0.1)
    decide(engine, 8.0)
    assert engine.taken is not None
    assert engine.taken.decision.reason is DecisionReason.TELEMETRY_STALE


def test_an_engine_whose_last_request_has_left_is_idle() -> None:
    engine = adopted()
    sense(engine, step_record(0.0), step_record(0.1, running=1, finished=1), now=0.1)
    decide(engine, 8.0)
    assert engine.taken is not None
    assert engine.taken.decision.reason is DecisionReason.IDLE


def test_a_jammed_engines_waiting_requests_become_overdue_with_time() -> None:
    engine = adopted()
    engine.judge(policy(), NO_SHARE)
    sense(engine, step_record(0.1, waiting=7, oldest_waiting_ns=10**9), now=0.1)
    assert engine.measured.overdue_waiting(0.2) == 0
    assert engine.measured.overdue_waiting(1.2) == 1
    assert engine.measured.overdue_waiting(2.2) == 7


def test_waiting_is_held_against_the_end_to_end_target_by_itself() -> None:
    engine = adopted()
    sla = Targets(
        time_to_first_token=Target(percentile=95, target_seconds=2.0),
        end_to_end_latency=Target(percentile=95, target_seconds=60.0),
    )
    engine.judge(policy(sla=sla), NO_SHARE)
    sense(engine, step_record(0.1, waiting=7, overdue_waiting=7, oldest_waiting_ns=10**9), now=0.1)
    assert (engine.measured.overdue_waiting(5.0), engine.measured.overdue_e2e(5.0)) == (7, 0)
    assert (engine.measured.overdue_e2e(60.0), engine.measured.overdue_e2e(61.0)) == (1, 7)


def test_batch_requests_are_measured_apart_and_move_nothing() -> None:
    engine = adopted()
    engine.judge(policy(), NO_SHARE)
    slow = ((bucket_of(9.0), 50),)
    more = MoreRecord(2, slow, slow, RequestClass.BATCH)
    late = RequestRecord(Ended.FINISHED, 0, 10**8, 100, 0, 9, 8, 8, 0, 0, 0, RequestClass.BATCH, 60.0, 90.0, 0.1, 9.0)
    sense(engine, step_record(0.0), step_record(0.1, waiting=9), more, late, now=0.1)
    window = engine.window(0.2)
    assert (window.epoch.gaps, window.epoch.first_tokens) == ({}, {})
    assert engine.measured.sla.total.requests == 0
    assert engine.measured.batch.total.missed == 1
    assert sum(engine.measured.batch.total.ttft.values()) == 50
    assert engine.measured.overdue_waiting(60.0) == 0
    assert window.good_share is None
    # What is not a latency counts for all: first tokens that vLLM counts too, lengths, arrivals.
    assert engine.totals.first_tokens == 50
    assert window.lengths.finished == 1


def test_a_request_of_an_unknown_class_counts_as_one_of_the_others_and_is_told() -> None:
    engine = adopted()
    engine.judge(policy(), NO_SHARE)
    odd = RequestRecord(Ended.FINISHED, 0, 10**8, 100, 0, 9, 8, 0, 0, 0, 0, RequestClass.UNKNOWN, 0.1, 1.0, 0.1, 0.02)
    sense(engine, odd, now=0.1)
    assert engine.measured.sla.total.good == 1
    assert engine.totals.results["good"] == 1
    assert engine.totals.class_results["unknown", "good"] == 1


def test_a_law_sees_the_share_of_good_requests_of_the_last_seconds_and_of_this_engine() -> None:
    engine = adopted()
    engine.judge(policy(), NO_SHARE)
    late, good = (
        RequestRecord(Ended.FINISHED, 0, at, 100, 0, 9, 8, 0, 0, 0, 0, 0, ttft, 10.0, 0.1, 0.02)
        for at, ttft in ((10**9, 9.0), (10 * 10**9, 0.1))
    )
    sense(engine, late, good, now=10.0)
    assert engine.window(10.0).good_share == 0.5
    sense(engine, now=17.0)
    assert engine.window(17.0).good_share == 1.0
    assert engine.measured.sla.total.requests == 2
    sense(engine, now=17.1, restarted=True)
    assert engine.window(17.2).good_share is None


def test_a_new_engine_is_measured_anew_and_the_users_latencies_are_kept() -> None:
    engine = adopted()
    gaps = ((bucket_of(0.02), 5),)
    sense(engine, step_record(0.0), step_record(0.1, gaps=gaps), now=0.1)
    sense(engine, now=0.2, restarted=True)
    assert engine.measured.last_step is None
    assert engine.window(0.3).epoch.steps == 0
    assert sum(engine.measured.sla.total.itl.values()) == 5


def test_requests_that_go_down_with_their_engine_are_misses() -> None:
    engine = adopted()
    sense(engine, step_record(0.0), step_record(0.1, running=10, finished=1, waiting=4), now=0.1)
    sense(engine, now=0.2, restarted=True)
    assert engine.measured.sla.total.failed == 13
    assert engine.measured.sla.total.requests == 13
    sense(engine, now=0.3, restarted=True)
    assert engine.measured.sla.total.failed == 13


def test_a_new_process_behind_the_same_socket_is_noticed_by_its_counters() -> None:
    engine = adopted(operation_id=40)
    sense(engine, step_record(0.0), step_record(0.1), now=0.1)
    engine.observe(Answer(Outcome.APPLIED, config(operation_id=0)), 1.0)
    assert engine.measured.last_step is None
