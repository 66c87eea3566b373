"""Streaming sessions: between two inputs they hold a slot, but they do not run."""

import pytest

pytestmark = pytest.mark.engine


def with_idle_sessions(sim, count):
    for number in range(count):
        sim.add(32, 4, name=f"session-{number}", resumable=True)
    for _ in range(20):
        sim.step()
    assert sim.scheduler.num_waiting_for_streaming_input == count
    assert not sim.scheduler.running


def test_a_bound_below_the_number_of_idle_sessions_admits_requests_and_inputs(engine):
    sim = engine(max_num_seqs=8)
    with_idle_sessions(sim, 6)
    sim.patch(max_num_seqs=2, lease_seconds=3600)
    sim.add(32, 4, name="ordinary")
    sim.add(16, 4, name="session-0", resumable=True)
    for _ in range(30):
        sim.step()
        assert len(sim.scheduler.running) <= 2
    assert "ordinary" in sim.finished
    assert len(sim.outputs["session-0"]) == 8
    assert sim.control.document()["prefill_openings"] == 0


def test_running_requests_and_sessions_never_exceed_the_slots_of_the_engine(engine):
    sim = engine(max_num_seqs=8)
    seen = []

    class Watching(type(sim.live.planner.law)):
        name = "watching"

        def plan(self, view):
            seen.append(view.bounds.max_num_seqs)
            return super().plan(view)

    with_idle_sessions(sim, 6)
    sim.live.planner.law = Watching()
    for _ in range(5):
        sim.add(32, 4)
    for _ in range(30):
        sim.step()
        assert len(sim.scheduler.running) <= 2
    assert len(sim.finished.keys() - {f"session-{number}" for number in range(6)}) == 5
    assert set(seen) == {2}, "a planner is shown as many slots as there are"


def test_where_control_ends_the_sessions_still_leave_room(engine):
    sim = engine(max_num_seqs=8)
    sim.patch(fallback={"max_num_seqs": 3, "max_num_batched_tokens": 256})
    with_idle_sessions(sim, 6)
    sim.live.surrender("test", RuntimeError("broken"))
    sim.add(32, 4, name="ordinary")
    sim.add(16, 4, name="session-0", resumable=True)
    for _ in range(30):
        sim.step()
    assert "ordinary" in sim.finished
    assert len(sim.outputs["session-0"]) == 8


@pytest.mark.parametrize("planner", ["bounds", "predictive"])
def test_the_next_input_of_a_session_is_computed_at_once(engine, planner):
    sim = engine()
    sim.patch(planner={"name": planner}, targets={"itl_seconds": 0.05, "ttft_seconds": 2.0}, lease_seconds=3600)
    for _ in range(4):
        sim.add(32, 2000)
    sim.add(32, 4, name="session", resumable=True)
    for turn in range(1, 6):
        for _ in range(30):
            sim.step()
        assert len(sim.outputs["session"]) == 4 * turn
        sim.add(64, 4, name="session", resumable=True)
        for _ in range(4):
            sim.step()
        assert len(sim.outputs["session"]) > 4 * turn
    sim.abort("session")
    for _ in range(3):
        sim.step()
    assert sim.control.document()["prefill_openings"] == 0
    assert sim.control.progress.faults == 0


def test_a_start_up_limit_on_active_requests_is_where_bounds_start_not_where_they_end(engine):
    def with_few_active(scheduler):
        scheduler.scheduler_config.max_num_active_seqs = 2
        scheduler.max_num_active_reqs = 2

    sim = engine(max_num_seqs=8, prepare=with_few_active)
    for _ in range(10):
        sim.add(32, 50)
    for _ in range(3):
        sim.step()
    assert len(sim.scheduler.running) == 2
    sim.patch(max_num_seqs=6)
    for _ in range(3):
        sim.step()
    assert len(sim.scheduler.running) == 6
