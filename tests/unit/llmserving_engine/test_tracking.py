"""Latencies of many requests at once are those of each alone."""

import itertools
from types import SimpleNamespace

from hypothesis import given
from hypothesis import strategies as st

from llmserving_engine.bounds import Targets
from llmserving_engine.tracking import GapLog, RequestTracker

WALL = 10**18
MILLISECOND = 10**6


def request(name: str, *, arrival: float = WALL / 1e9) -> SimpleNamespace:
    return SimpleNamespace(request_id=name, arrival_time=arrival)


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
    now = 0
    stream: set[str] = set()
    parted: set[str] = set()  # by a step with output for nobody
    seen: dict[str, list[int]] = {name: [] for name in "abcdef"}
    for producing, duration in zip(steps, durations, strict=False):
        now += duration
        if not producing:
            parted, stream = parted | stream, set()
            continue
        decoding = {name for name, times in seen.items() if times}
        is_pause = bool(decoding) and not decoding & producing  # first tokens alone
        left = parted if is_pause else parted | (stream - producing)
        tracker.outputs(sorted(producing - stream), sorted(left), len(producing), now, is_pause=is_pause)
        parted = set()
        if not is_pause:
            stream = set(producing)
        for name in producing:
            seen[name].append(now)
    for name, times in seen.items():
        track = tracker.depart(name)
        assert track is not None
        gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
        assert track.gaps == len(gaps)
        assert track.gaps_over_target == sum(gap > 120 for gap in gaps)
        assert track.max_gap_ns == max(gaps, default=0)
        assert track.first_token_ns == (times[0] if times else 0)


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


def test_a_request_that_is_not_there_does_not_depart():
    assert RequestTracker().depart("nobody") is None


def test_requests_without_a_token_for_longer_than_the_target_are_overdue_all_at_once():
    tracker = RequestTracker()
    tracker.set_targets(Targets(ttft_ns=100 * MILLISECOND))
    for index in range(1000):
        tracker.arrive(request(str(index)), 0, WALL)
    assert tracker.overdue(90 * MILLISECOND) == (0, 90 * MILLISECOND)
    assert tracker.overdue(200 * MILLISECOND) == (1000, 200 * MILLISECOND)
    tracker.outputs(["0"], [], 1, 200 * MILLISECOND)
    tracker.depart("0")
    tracker.depart("1")
    assert tracker.overdue(210 * MILLISECOND)[0] == 998
    tracker.set_targets(Targets(ttft_ns=300 * MILLISECOND))
    assert tracker.overdue(210 * MILLISECOND)[0] == 0
    tracker.set_targets(Targets())
    assert tracker.overdue(10**12)[0] == 0
