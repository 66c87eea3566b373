"""Nothing of ours stops the engine: faults end control, say so, and every request is served."""

import pytest
import vllm
from vllm.v1.core.sched.scheduler import Scheduler

import llmserving_lab.bench.engine as lab
from llmserving_engine.batch_ledger import BatchLedger
from llmserving_engine.changes import ControlError
from llmserving_engine.enforcement import Enforcement
from llmserving_engine.measurement import Measurement
from llmserving_engine.planning import registry
from llmserving_engine.planning.bounds_only import BoundsOnly
from llmserving_engine.planning.protocol import StepPlan
from llmserving_engine.reporting import Reporter

pytestmark = pytest.mark.engine


class Faulty(BoundsOnly):
    """Fails in one method after a few steps."""

    name = "faulty"

    def __init__(self, method):
        self.steps = 0
        self.method = method

    def _fail(self, method):
        if method == self.method and self.steps > 3:
            raise RuntimeError(f"no {method}")

    def plan(self, view):
        self.steps += 1
        self._fail("plan")
        if self.method == "order" and self.steps > 3:
            return StepPlan(64, 512, running=list(view.running)[:-1])
        return super().plan(view)

    def arrived(self, track):
        self._fail("arrived")

    def departed(self, track):
        self._fail("departed")

    def on_device(self, now_ns):
        self._fail("on_device")

    def completed(self, done):
        self._fail("completed")


def serve(sim, steps=40):
    names = []
    for _ in range(steps):
        names.append(sim.add(prompt=30, output=15))
        sim.step()
    sim.run()
    assert set(sim.finished) == set(names)
    assert all(len(sim.outputs[name]) == 15 for name in names)


@pytest.mark.parametrize("method", ["plan", "order", "arrived", "departed", "on_device", "completed"])
def test_a_law_that_fails_is_dropped_and_bounds_go_on_being_obeyed(engine, monkeypatch, method):
    monkeypatch.setitem(registry.PLANNERS, "faulty", lambda parameters: Faulty(method))
    sim = engine()
    sim.patch(planner={"name": "faulty"})
    serve(sim)
    document = sim.control.document()
    assert document["contract"]["mode"] == "caps"
    assert "faulty" in document["contract"]["reason"]
    assert document["planner"]["name"] == "bounds"
    assert document["faults"] == 1
    sim.patch(max_num_seqs=2)
    for _ in range(10):
        sim.add(prompt=8, output=10)
    sim.step()
    assert len(sim.scheduler.running) == 2


@pytest.mark.parametrize(
    ("owner", "method"),
    [
        (Enforcement, "put"),
        (Measurement, "scheduled"),
        (Measurement, "on_device"),
        (Reporter, "write"),
        (Measurement, "completed"),
        (Measurement, "settle_departures"),
        (Measurement, "preempted"),
    ],
)
def test_a_fault_of_our_own_ends_control_and_gives_the_scheduler_back(engine, monkeypatch, owner, method):
    sim = engine(kv_blocks=60, max_model_len=512)
    boot_budget = sim.scheduler.max_num_scheduled_tokens
    fallback = {"max_num_seqs": 24, "max_num_batched_tokens": 128}
    sim.patch(max_num_seqs=8, max_num_batched_tokens=64, fallback=fallback)
    for _ in range(5):
        sim.add(prompt=100, output=60)
        sim.step()

    def broken(*args, **kwargs):
        raise RuntimeError("broken")

    monkeypatch.setattr(owner, method, broken)
    serve_names = [sim.add(prompt=100, output=60) for _ in range(20)]
    sim.run()
    assert set(serve_names) <= set(sim.finished)
    document = sim.control.document()
    assert document["contract"]["mode"] == "observe"
    assert "broken" in document["contract"]["reason"]
    assert document["faults"] >= 1
    assert (sim.scheduler.max_num_active_reqs, sim.scheduler.max_num_scheduled_tokens) == (24, boot_budget)
    assert document["applied"] == {"max_num_seqs": 24, "max_num_batched_tokens": boot_budget}
    with pytest.raises(ControlError) as refused:
        sim.patch(max_num_seqs=4)
    assert refused.value.status == 501


@pytest.mark.parametrize("owner", [Measurement, BatchLedger])
def test_after_a_single_fault_the_steps_that_follow_are_reported(engine, monkeypatch, owner):
    sim = engine()
    names = [sim.add(prompt=30, output=40) for _ in range(5)]
    for _ in range(5):
        sim.step()
    with monkeypatch.context() as broken:
        broken.setattr(owner, "scheduled", lambda *args, **kwargs: 1 / 0)
        sim.step()
    sim.run()
    assert set(sim.finished) == set(names)
    assert len(sim.rows.requests) == len(names)
    assert sim.rows.steps[-1].completed_ns == sim.clock.now_ns
    assert sim.control.progress.faults == 1


@pytest.mark.parametrize("decodes_pause", [False, True])
def test_an_exception_of_vllm_is_passed_on_and_nothing_of_the_step_stays(engine, monkeypatch, decodes_pause):
    class Parker(BoundsOnly):
        name = "parker"

        def plan(self, view):
            parked = [] if decodes_pause else [request.request_id for request in view.running]
            return StepPlan(64, 512, parked=parked, chunk_tokens=16, decodes_pause=decodes_pause)

    def state(scheduler):
        return scheduler.current_step, [request.next_decode_eligible_step for request in scheduler.running]

    monkeypatch.setitem(registry.PLANNERS, "parker", lambda parameters: Parker())
    sim = engine()
    for _ in range(5):
        sim.add(prompt=8, output=50)
        sim.step()
    before = state(sim.scheduler)
    sim.patch(planner={"name": "parker"})
    monkeypatch.setattr(Scheduler, "schedule", lambda *args: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        sim.scheduler.schedule()
    assert state(sim.scheduler) == before
    assert sim.scheduler.scheduler_config.long_prefill_token_threshold == 0


def refuses_control(sim, *words):
    document = sim.control.document()
    assert document["contract"]["mode"] == "observe"
    assert all(word in document["contract"]["reason"] for word in words), document["contract"]
    boot = (sim.scheduler.max_num_active_reqs, sim.scheduler.max_num_scheduled_tokens)
    serve(sim)
    assert (sim.scheduler.max_num_active_reqs, sim.scheduler.max_num_scheduled_tokens) == boot
    assert sim.rows.steps
    assert all(row.flags & 8 for row in sim.rows.steps)
    with pytest.raises(ControlError):
        sim.patch(max_num_seqs=4)
    return document


def test_an_unknown_release_is_only_observed(engine, monkeypatch):
    monkeypatch.setattr(vllm, "__version__", "0.99.1")
    refuses_control(engine(), "0.99.1")


def test_a_scheduler_that_limits_admission_otherwise_is_only_observed(engine, monkeypatch):
    original = Scheduler.schedule

    def schedule(self, throttle_prefills=False):
        return original(self, throttle_prefills)

    monkeypatch.setattr(Scheduler, "schedule", schedule)
    refuses_control(engine(), "max_num_active_reqs", "token_budget")


def test_values_that_differ_from_the_configuration_are_only_observed(engine):
    def other(scheduler):
        scheduler.max_num_active_reqs = 7

    refuses_control(engine(prepare=other), "max_num_active_reqs is 7")


def test_a_foreign_scheduler_class_is_only_observed(engine, monkeypatch):
    for name in ("Scheduler", "AsyncScheduler"):
        monkeypatch.setattr(lab, name, type("Foreign", (getattr(lab, name),), {}))
    refuses_control(engine(), "Foreign")


@pytest.mark.parametrize(
    ("feature", "spoil"),
    [
        ("PipelineParallel", lambda s: setattr(s.vllm_config.parallel_config, "pipeline_parallel_size", 2)),
        ("KVConnector", lambda s: setattr(s.vllm_config, "kv_transfer_config", object())),
        ("Pooling", lambda s: setattr(s.vllm_config.model_config, "runner_type", "pooling")),
    ],
)
def test_features_not_tested_on_hardware_are_named_and_only_observed(engine, feature, spoil):
    def prepare(scheduler):
        spoil(scheduler)

    sim = engine(prepare=prepare)
    document = sim.control.document()
    assert document["engine"]["unsupported"] == [feature]
    assert document["contract"]["mode"] == "observe"
    assert document["contract"]["ok"]
