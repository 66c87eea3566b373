"""Latencies of many requests at once are those of each alone."""

import itertools
from types import SimpleNamespace

from hypothesis import given
from hypothesis import strategies as st

from llmserving_engine.bounds import Targets
from llmserving_engine.telemetry import Outcome, RequestClass
from llmserving_engine.tracking import GapLog, RequestTracker

WALL = 10**18
MILLISECOND = 10**6


def request(name: str, *, arrival: float = WALL / 1e9, status: str = "FINISHED_STOPPED") -> SimpleNamespace:
    return SimpleNamespace(
        request_id=name,
        arrival_time=arrival,
        status=SimpleNamespace(name=status),
        num_prompt_tokens=7,
        num_output_tokens=3,
        priority=0,
    )


@given(st.lists(st.integers(1, 1000), max_size=60), st.integers(0, 60))
def test_the_log_knows_the_longest_gap_since_any_point(gaps, start):
    log = GapLog()
    for gap in gaps:
        log.append(gap, is_over=gap > 500)
    assert log.longest_since(start) == max(gaps[start:], default=0)
    assert log.count == len(gaps)
    assert log.over == sum(gap > 500 for gap in gaps)


@given(st.lists(st.sets(st.sampled_from("abcdef")), max_size=40), st.lists(st.integers(1, 100), min_size=40))
def test_gaps_of_every_request_are_exact_however_streams_break(steps, durations):
    tracker = RequestTracker()
    tracker.set_targets(Targets(itl_ns=120))
    for name in "abcdef":
        tracker.arrive(request(name), 0, WALL)
    now, before = 0, set()
    seen: dict[str, list[int]] = {name: [] for name in "abcdef"}
    pending_left: set[str] = set()
    for producing, duration in zip(steps, durations, strict=False):
        now += duration
        left = (before - producing) | pending_left
        if not producing:
            pending_left, before = left, set()
            continue
        tracker.outputs(sorted(producing - before), sorted(left), len(producing), now)
        pending_left, before = set(), set(producing)
        for name in producing:
            seen[name].append(now)
    for name, times in seen.items():
        departed = tracker.depart(name, now + 1)
        assert departed is not None
        row = departed[1]
        gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
        assert row.gaps == len(gaps)
        assert row.gaps_over_target == sum(gap > 120 for gap in gaps)
        assert round(row.max_gap_seconds * 1e9) == max(gaps, default=0)
        assert round(row.ttft_seconds * 1e9) == (times[0] if times else 0)


def test_arrival_is_taken_from_the_request_and_a_wrong_clock_is_not_believed():
    tracker = RequestTracker()
    past = tracker.arrive(request("past", arrival=WALL / 1e9 - 2), 10**10, WALL)
    future = tracker.arrive(request("future", arrival=WALL / 1e9 + 500), 10**10, WALL)
    assert past is not None
    assert future is not None
    assert abs(past.arrival_ns - 8 * 10**9) < 1000
    assert future.arrival_ns == 10**10


def test_a_request_that_is_there_already_is_not_tracked_twice():
    tracker = RequestTracker()
    assert tracker.arrive(request("a"), 0, WALL) is not None
    assert tracker.arrive(request("a"), 5, WALL) is None


def test_outcomes_follow_the_engine():
    tracker = RequestTracker()
    statuses = {"FINISHED_ABORTED": Outcome.ABORTED, "FINISHED_ERROR": Outcome.FAILED, "FINISHED_STOPPED": 0}
    for status, outcome in statuses.items():
        tracker.arrive(request(status, status=status), 0, WALL)
        departed = tracker.depart(status, 1)
        assert departed is not None
        assert departed[1].outcome == outcome
    assert tracker.depart("nobody", 1) is None


def test_requests_without_a_token_for_longer_than_the_target_are_overdue_all_at_once():
    tracker = RequestTracker()
    tracker.set_targets(Targets(ttft_ns=100 * MILLISECOND))
    for index in range(1000):
        tracker.arrive(request(str(index)), 0, WALL)
    assert tracker.overdue(90 * MILLISECOND) == (0, 90 * MILLISECOND)
    assert tracker.overdue(200 * MILLISECOND) == (1000, 200 * MILLISECOND)
    tracker.outputs(["0"], [], 1, 200 * MILLISECOND)
    tracker.depart("0", 210 * MILLISECOND)
    tracker.depart("1", 210 * MILLISECOND)
    assert tracker.overdue(210 * MILLISECOND)[0] == 998
    tracker.set_targets(Targets(ttft_ns=300 * MILLISECOND))
    assert tracker.overdue(210 * MILLISECOND)[0] == 0
    tracker.set_targets(Targets())
    assert tracker.overdue(10**12)[0] == 0


def test_every_field_of_a_requests_row_says_what_its_name_does():
    """Rows are made by position: no two fields that could be taken for each other are equal here."""
    tracker = RequestTracker()
    tracker.set_targets(Targets(itl_ns=50 * MILLISECOND))
    leaving = request("a", status="FINISHED_ABORTED")
    leaving.priority = -4
    leaving.sampling_params = SimpleNamespace(extra_args={"llmserving_class": "other"})
    track = tracker.arrive(leaving, 10 * MILLISECOND, WALL)
    assert track is not None
    track.first_scheduled_ns, track.cached_tokens = 30 * MILLISECOND, 5
    track.preemptions, track.relegated = 6, True
    tracker.outputs(["a"], [], 1, 80 * MILLISECOND)
    for now in (100, 180, 190):
        tracker.outputs([], [], 1, now * MILLISECOND)
    departed = tracker.depart("a", 200 * MILLISECOND)
    assert departed is not None
    assert departed[1]._asdict() == {
        "outcome": Outcome.ABORTED,
        "arrival_ns": 10 * MILLISECOND,
        "finished_ns": 200 * MILLISECOND,
        "prompt_tokens": 7,
        "cached_tokens": 5,
        "output_tokens": 3,
        "gaps": 3,
        "gaps_over_target": 1,
        "preemptions": 6,
        "priority": -4,
        "relegated": True,
        "request_class": RequestClass.UNKNOWN,
        "ttft_seconds": 0.07,
        "e2e_seconds": 0.19,
        "queue_seconds": 0.02,
        "max_gap_seconds": 0.08,
    }
