"""What left the engine or was computed is reported once, in order, when there is time for it."""

from types import SimpleNamespace

import pytest

from llmserving_engine.batch_ledger import Changes
from llmserving_engine.bounds import Bounds, Targets
from llmserving_engine.planning.protocol import StepComposition, StepPlan, Track
from llmserving_engine.reporting import MeasuredStep, Reporter, request_row
from llmserving_engine.telemetry import Outcome, RequestClass, RequestRow, StepRow
from llmserving_engine.tracking import RequestTracker

WALL = 10**18
MILLISECOND = 10**6


class Rows:
    """A sink that keeps what it is given."""

    def __init__(self) -> None:
        self.all: list[StepRow | RequestRow] = []

    def step(self, row: StepRow) -> None:
        self.all.append(row)

    def request(self, row: RequestRow) -> None:
        self.all.append(row)

    @property
    def order(self) -> list[int]:
        """Numbers of the steps, and the times at which requests left."""
        return [row.step if isinstance(row, StepRow) else row.finished_ns for row in self.all]


def request(name: str, *, status: str = "FINISHED_STOPPED") -> SimpleNamespace:
    return SimpleNamespace(
        request_id=name,
        arrival_time=WALL / 1e9,
        status=SimpleNamespace(name=status),
        num_prompt_tokens=7,
        num_output_tokens=3,
        priority=0,
    )


def step(number: int) -> MeasuredStep:
    changes = Changes({}, StepComposition(), set(), [], [], 0)
    return MeasuredStep(None, changes, StepPlan(8, 64), number, 0, 5, 1, 0, Bounds(8, 64), 64, 1)


def left(name: str) -> Track:
    return Track(request(name), 0, RequestClass.INTERACTIVE)


def test_nothing_is_written_before_it_is_time() -> None:
    rows = Rows()
    reporter = Reporter(RequestTracker(), rows, kv_blocks=10)
    reporter.departed.append((left("a"), 101))
    reporter.completed(step(1))
    assert not rows.all
    reporter.write()
    assert rows.order == [101, 1]
    reporter.write()
    assert rows.order == [101, 1]


def test_a_step_is_not_lost_when_the_next_is_completed_before_it_was_written() -> None:
    rows = Rows()
    reporter = Reporter(RequestTracker(), rows, kv_blocks=10)
    for number in (1, 2, 3):
        reporter.departed.append((left("a"), 100 + number))
        reporter.completed(step(number))
    reporter.write()
    assert rows.order == [101, 102, 1, 103, 2, 3]


@pytest.mark.parametrize(("predicted_ns", "written"), [(-5, 0), (7, 7), (10**24, 2**64 - 1)])
def test_whatever_a_step_model_predicts_fits_its_field(predicted_ns: int, written: int) -> None:
    rows = Rows()
    reporter = Reporter(RequestTracker(), rows, kv_blocks=10)
    odd = step(1)
    odd.plan.predicted_ns = predicted_ns
    reporter.completed(odd)
    reporter.write()
    assert [row.predicted_ns for row in rows.all if isinstance(row, StepRow)] == [written]


def test_what_a_sink_fails_on_is_not_offered_again() -> None:
    class Full(Rows):
        def request(self, row: RequestRow) -> None:
            raise OSError("full")

    rows = Full()
    reporter = Reporter(RequestTracker(), rows, kv_blocks=10)
    reporter.departed.append((left("a"), 101))
    with pytest.raises(OSError, match="full"):
        reporter.write()
    reporter.completed(step(2))
    reporter.write()
    assert rows.order == [2]


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        ("FINISHED_ABORTED", Outcome.ABORTED),
        ("FINISHED_ERROR", Outcome.FAILED),
        ("FINISHED_STOPPED", Outcome.FINISHED),
        ("FINISHED_LENGTH_CAPPED", Outcome.FINISHED),
    ],
)
def test_outcomes_follow_the_engine(status: str, outcome: Outcome) -> None:
    assert request_row(Track(request("a", status=status), 0, RequestClass.INTERACTIVE), 1).outcome == outcome


def test_every_field_of_a_requests_row_says_what_its_name_does() -> None:
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
    assert tracker.depart("a") is track
    assert request_row(track, 200 * MILLISECOND)._asdict() == {
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
