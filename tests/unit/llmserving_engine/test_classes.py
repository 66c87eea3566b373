"""What a client says of a request in `vllm_xargs`, and latencies of batch requests apart from the others'."""

from types import SimpleNamespace
from typing import Any

import pytest

from llmserving_engine.bounds import Targets
from llmserving_engine.classes import KEY, class_of
from llmserving_engine.reporting import histograms
from llmserving_engine.telemetry import RequestClass
from llmserving_engine.tracking import RequestTracker

SECOND = 10**9


def request(name: str = "a", said: Any = None) -> SimpleNamespace:
    arguments = None if said is None else {KEY: said}
    return SimpleNamespace(
        request_id=name,
        arrival_time=0.0,
        sampling_params=SimpleNamespace(extra_args=arguments),
    )


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (None, RequestClass.INTERACTIVE),
        ("interactive", RequestClass.INTERACTIVE),
        ("batch", RequestClass.BATCH),
        ("Batch!", RequestClass.UNKNOWN),
        (3, RequestClass.UNKNOWN),
        (["batch"], RequestClass.UNKNOWN),
    ],
)
def test_a_class_is_taken_as_said_and_nothing_said_is_an_error(said: Any, expected: RequestClass) -> None:
    assert class_of(request(said=said)) is expected


def test_other_arguments_and_requests_without_sampling_say_nothing() -> None:
    other = request()
    other.sampling_params.extra_args = {"session_id": "x"}
    assert class_of(other) is RequestClass.INTERACTIVE
    other.sampling_params = None
    assert class_of(other) is RequestClass.INTERACTIVE


def served(*said: str | None) -> RequestTracker:
    tracker = RequestTracker()
    tracker.set_targets(Targets(ttft_ns=SECOND, itl_ns=SECOND // 20))
    for index, one in enumerate(said):
        tracker.arrive(request(str(index), one), 0, 0)
    return tracker


def test_gaps_and_first_tokens_of_batch_are_counted_apart() -> None:
    tracker = served(None, "batch", "batch", "nonsense")
    gaps, firsts, batch_gaps, batch_firsts = histograms(tracker.outputs(["0", "1", "2", "3"], [], 4, SECOND))
    assert sum(count for _, count in firsts) == 2
    assert sum(count for _, count in batch_firsts) == 2
    assert not gaps
    assert not batch_gaps
    gaps, firsts, batch_gaps, batch_firsts = histograms(tracker.outputs([], [], 4, 2 * SECOND))
    assert [count for _, count in gaps] == [2]
    assert [count for _, count in batch_gaps] == [2]
    assert not firsts
    assert not batch_firsts


def test_a_batch_request_that_pauses_or_leaves_is_no_longer_in_the_stream() -> None:
    tracker = served(None, "batch", "batch")
    tracker.outputs(["0", "1", "2"], [], 3, SECOND)
    tracker.depart("1")
    gaps, _, batch_gaps, _ = histograms(tracker.outputs([], ["2"], 1, 2 * SECOND))
    assert [count for _, count in gaps] == [1]
    assert not batch_gaps
    _, _, batch_gaps, _ = histograms(tracker.outputs(["2"], [], 2, 4 * SECOND))
    ((_, count),) = batch_gaps
    assert count == 1
    track = tracker.depart("2")
    assert track is not None
    assert (track.request_class, track.gaps, track.max_gap_ns) == (RequestClass.BATCH, 1, 3 * SECOND)


def test_batch_requests_are_never_overdue() -> None:
    tracker = served("batch", "batch")
    assert tracker.overdue(100 * SECOND) == (0, 0)
    tracker.arrive(request("late"), 0, 0)
    assert tracker.overdue(100 * SECOND)[0] == 1
    tracker.outputs(["0"], [], 1, 101 * SECOND)
    tracker.depart("1")
    assert tracker.overdue(102 * SECOND)[0] == 1
