"""Requests that leave by other ways than their last token: nothing of them stays, and the agent learns of it."""

import pytest
from vllm.v1.outputs import EMPTY_MODEL_RUNNER_OUTPUT

from llmserving_agent.measurements import Measurements
from llmserving_agent.sensors.ring import RingReader
from llmserving_agent.signals.attainment import JudgeBy
from llmserving_api.policy import Target
from llmserving_engine.ring import RingWriter

pytestmark = pytest.mark.engine


def telemetry(sim, folder):
    """The agent's reader of a ring that the engine writes from now on."""
    path = folder / "telemetry-0.ring"
    sim.live.measurement._reporter._sink = RingWriter(path, sim.clock.now_ns)
    return RingReader(path)


def until_idle(sim):
    """EngineCore's loop: it goes on while there are requests, or the workers must learn of some that left."""
    for _ in range(50):
        if not sim.scheduler.has_requests() and not sim._queue:
            return
        output = sim.step()
        if not output.total_num_scheduled_tokens:
            sim.clock.now_ns += 1_000_000
            sim.scheduler.update_from_output(output, EMPTY_MODEL_RUNNER_OUTPUT)


@pytest.mark.parametrize("when", ["while the device computes", "between two steps"])
def test_when_all_clients_are_gone_the_agent_sees_an_idle_engine(engine, tmp_path, when):
    sim = engine(max_num_seqs=4)
    reader = telemetry(sim, tmp_path)
    sim.patch(targets={"ttft_seconds": 0.5})
    names = [sim.add(prompt=32, output=500) for _ in range(12)]
    for _ in range(100):
        sim.step()

    def hang_up():
        for name in names:
            if name in sim.scheduler.requests:
                sim.abort(name)

    if when == "between two steps":
        hang_up()
    else:
        sim.meanwhile = hang_up
    until_idle(sim)
    assert not sim.scheduler.requests

    agent = Measurements()
    agent.judge_by = JudgeBy(ttft=Target(percentile=95, target_seconds=0.5))
    agent.take(reader.read(), sim.clock.now_ns / 1e9)
    later = sim.clock.now_ns / 1e9 + 3600
    assert agent.running(None) == 0
    assert agent.last_step.waiting == 0
    assert agent.overdue_waiting(later) == 0


def test_an_engine_that_holds_all_requests_back_reports_it_a_few_times_a_second_only(engine):
    sim = engine()
    law = {"name": "wait", "parameters": {"types": [{"gather": 8}], "hold_seconds": 10.0}}
    sim.patch(planner=law, lease_seconds=3600)
    sim.add(32, 5)
    start = len(sim.rows.steps)
    for _ in range(1000):
        sim.scheduler.update_from_output(sim.scheduler.schedule(), EMPTY_MODEL_RUNNER_OUTPUT)
        sim.clock.now_ns += 1_000_000
    rows = sim.rows.steps[start:]
    assert rows[0].waiting == 1
    assert 5 <= len(rows) <= 12


@pytest.mark.parametrize("way", ["preempted and aborted", "a turn ended by a stop token, then aborted"])
def test_outputs_that_never_came_are_forgotten_with_their_request(engine, way):
    sim = engine()
    for _ in range(4):
        sim.add(32, 3000)
    stopping = set()
    usual = sim._token
    sim._token = lambda name: 2 if name in stopping and len(sim.outputs.get(name, ())) % 5 == 4 else usual(name)
    for number in range(20):
        if way == "preempted and aborted":
            names = [sim.add(32, 200) for _ in range(4)]
        else:
            names = [sim.add(32, 50, name=f"session-{number}", resumable=True)]
            stopping.update(names)
            sim.scheduler.requests[names[0]].sampling_params._all_stop_token_ids = {2}
            sim.scheduler.requests[names[0]].sampling_params.stop_token_ids = [2]
        for _ in range(6 if way == "preempted and aborted" else 12):
            sim.step()
        if way == "preempted and aborted":
            sim.scheduler.reset_prefix_cache(reset_running_requests=True)
            sim.step()
        for name in names:
            sim.abort(name)
        for _ in range(5):
            sim.step()
    assert not sim.live.measurement._missed
    assert not sim.live.measurement._idle
    assert sim.control.progress.faults == 0


def test_a_model_that_predicts_nonsense_does_not_end_control(engine, tmp_path):
    sim = engine()
    reader = telemetry(sim, tmp_path)
    parameters = {"coefficients": [1e6] * 10, "residuals": [[], [], []], "error": 0.03}
    sim.patch(planner={"name": "predictive", "parameters": parameters}, lease_seconds=3600)
    for _ in range(4):
        sim.add(200, 10)
    for _ in range(60):
        sim.step()
    document = sim.control.document()
    assert document["contract"] == {"mode": "full", "ok": True, "reason": ""}
    assert document["faults"] == 0
    assert reader.read().records
