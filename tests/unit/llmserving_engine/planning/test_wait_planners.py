"""WAIT and Nested WAIT in the step: who is held, who is parked, and that nothing waits for ever."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmserving_engine.bounds import Bounds, Targets
from llmserving_engine.planning.protocol import ParameterError, PlannerChoice, StepPlan, StepView, Track
from llmserving_engine.planning.registry import build

SECOND = 1_000_000_000


@dataclass(eq=False)
class Request:
    request_id: str
    num_prompt_tokens: int
    output: int
    num_output_tokens: int = 0
    num_output_placeholders: int = 0


@dataclass
class ToyEngine:
    """One token for every request that runs and is not parked, each step of 50 ms."""

    planner: Any
    bounds: Bounds = field(default_factory=lambda: Bounds(64, 4096))
    now_ns: int = SECOND
    step: int = 0
    waiting: dict[str, Track] = field(default_factory=dict)
    running: dict[str, Track] = field(default_factory=dict)
    finished: list[str] = field(default_factory=list)

    def arrive(self, name: str, prompt: int = 100, output: int = 5) -> None:
        track = Track(Request(name, prompt, output), arrival_ns=self.now_ns)
        self.waiting[name] = track
        self.planner.arrived(track)

    def advance(self, seconds: float = 0.05) -> StepPlan:
        self.step += 1
        self.now_ns += round(seconds * SECOND)
        plan: StepPlan = self.planner.plan(self._view())
        assert plan.only_listed
        for name in plan.waiting_first:
            if name in self.waiting and len(self.running) < plan.max_num_seqs:
                track = self.waiting.pop(name)
                track.first_scheduled_ns = self.now_ns
                self.running[name] = track
        for name in list(self.running):
            if name not in plan.parked:
                request = self.running[name].request
                request.num_output_tokens += 1
                if request.num_output_tokens >= request.output:
                    self.planner.departed(self.running.pop(name))
                    self.finished.append(name)
        return plan

    def preempt(self, name: str) -> None:
        track = self.running[name]
        self.planner.preempted(track)

    def _view(self) -> StepView:
        requests = [track.request for track in self.running.values()]
        return StepView(
            step=self.step,
            now_ns=self.now_ns,
            bounds=self.bounds,
            ceilings=self.bounds,
            targets=Targets(),
            running=requests,
            prefilling={},
            decode_context_tokens=0,
            waiting=len(self.waiting),
            tracks={**self.running, **self.waiting},
            in_flight_steps=0,
            last_completed_ns=self.now_ns,
            kv_blocks_free=1000,
            kv_blocks_total=1000,
            block_size=16,
            decode_tokens=1,
            max_decode_seqs=64,
        )


def engine(name: str, parameters: Mapping[str, Any]) -> ToyEngine:
    return ToyEngine(build(PlannerChoice(name, parameters)))


TWO_TYPES = {"types": [{"max_prompt_tokens": 512, "gather": 3}, {"gather": 2}], "hold_seconds": 3.0}


def test_requests_of_a_type_are_admitted_together_once_enough_have_gathered() -> None:
    toy = engine("wait", TWO_TYPES)
    toy.arrive("a1")
    toy.arrive("a2")
    toy.arrive("b1", prompt=1000)
    assert toy.advance().waiting_first == ()
    toy.arrive("a3")
    plan = toy.advance()
    assert plan.waiting_first == ("a1", "a2", "a3")
    assert plan.held == 1
    assert set(toy.running) == {"a1", "a2", "a3"}


def test_a_type_short_of_its_threshold_is_admitted_at_the_deadline() -> None:
    toy = engine("wait", TWO_TYPES)
    toy.arrive("b1", prompt=1000)
    toy.advance(2.9)
    assert not toy.running
    toy.advance(0.2)
    assert set(toy.running) == {"b1"}


def test_an_aborted_request_no_longer_counts_towards_the_threshold() -> None:
    toy = engine("wait", TWO_TYPES)
    toy.arrive("a1")
    toy.arrive("a2")
    toy.planner.departed(toy.waiting.pop("a1"))
    toy.arrive("a3")
    assert toy.advance().waiting_first == ()


def test_a_group_that_does_not_fit_goes_on_being_offered() -> None:
    toy = engine("wait", TWO_TYPES | {"in_system": 2})
    for name in ("a1", "a2", "a3"):
        toy.arrive(name)
    toy.advance()
    assert set(toy.running) == {"a1", "a2"}
    for _ in range(10):
        toy.advance()
    assert toy.finished == ["a1", "a2", "a3"]


def test_new_thresholds_apply_to_those_already_held() -> None:
    toy = engine("wait", TWO_TYPES)
    toy.arrive("a1")
    toy.advance()
    toy.planner.configure({"types": [{"gather": 1}], "hold_seconds": 3.0})
    assert toy.advance().waiting_first == ("a1",)


NESTED = {"boundaries": [4], "gather": [1, 2], "hold_seconds": 10.0}


def test_survivors_are_parked_at_the_boundary_until_enough_have_gathered() -> None:
    toy = engine("nested-wait", NESTED)
    toy.arrive("long1", output=10)
    toy.arrive("short", output=3)
    for _ in range(4):
        toy.advance()
    toy.arrive("other", output=10)
    plan = toy.advance()
    assert plan.parked == ("long1",)
    assert toy.running["long1"].request.num_output_tokens == 4
    for _ in range(8):
        toy.advance()
    assert toy.running["long1"].request.num_output_tokens > 4


def test_the_parked_are_the_first_to_lose_their_blocks() -> None:
    toy = engine("nested-wait", NESTED)
    toy.arrive("long1", output=10)
    for _ in range(4):
        toy.advance()
    toy.arrive("new", output=10)
    toy.advance()
    plan = toy.advance()
    assert [request.request_id for request in plan.running or ()] == ["new", "long1"]


def test_nobody_waits_for_company_when_nothing_else_runs() -> None:
    toy = engine("nested-wait", NESTED)
    toy.arrive("alone", output=10)
    for _ in range(12):
        toy.advance()
    assert toy.finished == ["alone"]


def test_new_boundaries_let_the_parked_move_on() -> None:
    toy = engine("nested-wait", NESTED)
    toy.arrive("long1", output=10)
    toy.arrive("young", output=30)
    for _ in range(5):
        toy.advance()
    toy.planner.configure({"boundaries": [8], "gather": [1, 5], "hold_seconds": 10.0})
    toy.advance()
    assert toy.running["long1"].request.num_output_tokens >= 5


arrivals = st.lists(
    st.tuples(st.floats(0, 2), st.integers(1, 3000), st.integers(1, 40)),
    min_size=1,
    max_size=25,
)


@settings(max_examples=60, deadline=None)
@given(
    arrivals=arrivals,
    gather=st.lists(st.integers(1, 12), min_size=3, max_size=3),
    cap=st.integers(1, 8),
    nested=st.booleans(),
)
def test_every_request_finishes_whatever_the_thresholds(
    arrivals: list[tuple[float, int, int]], gather: list[int], cap: int, nested: bool
) -> None:
    if nested:
        toy = engine("nested-wait", {"boundaries": [5, 20], "gather": gather, "hold_seconds": 1.0, "in_system": cap})
    else:
        types = [{"max_prompt_tokens": 300, "gather": gather[0]}, {"gather": gather[1]}]
        toy = engine("wait", {"types": types, "hold_seconds": 1.0, "in_system": cap})
    for number, (pause, prompt, output) in enumerate(arrivals):
        toy.arrive(f"r{number}", prompt, output)
        toy.advance(0.05 + pause)
    for _ in range(2000):
        if len(toy.finished) == len(arrivals):
            break
        toy.advance()
    assert sorted(toy.finished) == sorted(f"r{number}" for number in range(len(arrivals)))


@pytest.mark.parametrize(
    ("name", "parameters", "field"),
    [
        ("wait", {}, "planner.types"),
        ("wait", {"types": [], "hold_seconds": 1}, "planner.types"),
        ("wait", {"types": [{"gather": 0}], "hold_seconds": 1}, "planner.types[0].gather"),
        ("wait", {"types": [{"gather": 1, "max_prompt_tokens": 5}], "hold_seconds": 1}, "planner.types[0]"),
        ("wait", {"types": [{"gather": 1}], "hold_seconds": 0}, "planner.hold_seconds"),
        ("wait", {"types": [{"gather": 1}], "hold_seconds": 1, "seats": 3}, "planner.seats"),
        ("nested-wait", {"boundaries": [5, 5], "gather": [1, 1, 1], "hold_seconds": 1}, "planner.boundaries[1]"),
        ("nested-wait", {"boundaries": [5], "gather": [1], "hold_seconds": 1}, "planner.gather"),
        ("nested-wait", {"boundaries": [5], "gather": [1, True], "hold_seconds": 1}, "planner.gather[1]"),
    ],
)
def test_a_wrong_parameter_is_named(name: str, parameters: Mapping[str, Any], field: str) -> None:
    with pytest.raises(ParameterError) as error:
        build(PlannerChoice(name, parameters))
    assert error.value.field == field
    assert error.value.allowed
