import random
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from llmserving_engine.bounds import Bounds, Targets
from llmserving_engine.planning.candidates import Candidates
from llmserving_engine.planning.lengths import EDGES, cell_of
from llmserving_engine.planning.lives import Lives
from llmserving_engine.planning.predictive import build_predictive
from llmserving_engine.planning.protocol import StepView
from llmserving_fakes.small_engine import SECOND, SmallEngine
from llmserving_fakes.small_engine import Request as Served


@dataclass
class Request:
    request_id: str
    num_prompt_tokens: int
    num_output_tokens: int = 0

    @property
    def num_tokens(self) -> int:
        return self.num_prompt_tokens + self.num_output_tokens


@dataclass
class View:
    running: list[Request]
    prefilling: dict[str, Request] = field(default_factory=dict)
    decode_tokens: int = 1


def counted(requests: Iterable[Request]) -> dict[int, tuple[int, int]]:
    groups: dict[int, tuple[int, int]] = {}
    for request in requests:
        edge = EDGES[cell_of(request.num_output_tokens)]
        count, size = groups.get(edge, (0, 0))
        groups[edge] = count + 1, size + request.num_tokens
    return groups


def kept(lives: Lives, view: Any) -> dict[int, tuple[int, int]]:
    return {edge: (count, size) for edge, count, size in lives.groups(view)}


class Counting(RuleBasedStateMachine):
    """What is kept up to date is what counting everybody anew would give."""

    def __init__(self) -> None:
        super().__init__()
        self.lives = Lives()
        self.requests: dict[str, Request] = {}
        self.born = 0

    @rule(prompt=st.integers(1, 5000), outputs=st.sampled_from([0, 0, 0, 7, 100, EDGES[-1] - 1, EDGES[-1] + 5]))
    def begin(self, prompt: int, outputs: int) -> None:
        self.born += 1
        request = Request(f"r{self.born}", prompt, outputs)
        self.requests[request.request_id] = request
        self.lives.begin(request.request_id, prompt, outputs)

    @precondition(lambda self: self.requests)
    @rule(data=st.data())
    def end(self, data: st.DataObject) -> None:
        request_id = data.draw(st.sampled_from(sorted(self.requests)))
        del self.requests[request_id]
        self.lives.end(request_id)
        self.lives.end(request_id)

    @rule(steps=st.integers(1, 40))
    def step(self, steps: int) -> None:
        for _ in range(steps):
            self.lives.step()
        for request in self.requests.values():
            request.num_output_tokens += steps

    @rule()
    def one_comes_unseen(self) -> None:
        self.born += 1
        self.requests[f"r{self.born}"] = Request(f"r{self.born}", 300, 12)

    @rule()
    def look(self) -> None:
        assert kept(self.lives, View(list(self.requests.values()))) == counted(self.requests.values())
        assert sum(self.lives.counts()) == len(self.requests)


TestLives = Counting.TestCase
TestLives.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)


def test_those_whose_prompt_is_being_computed_count_as_if_it_were():
    lives = Lives()
    lives.begin("old", 1000, 20)
    prefilling = {"new": Request("new", 300), "back": Request("back", 200, 50)}
    view = View([Request("old", 1000, 20), *prefilling.values()], prefilling)
    assert list(lives.groups(view)) == [(0, 2, 550), (16, 1, 1020)]


def test_with_several_tokens_a_step_all_are_counted_anew():
    lives = Lives()
    request = Request("r", 1000)
    lives.begin("r", 1000)
    lives.step()
    request.num_output_tokens = 4
    assert list(lives.groups(View([request], decode_tokens=4))) == [(0, 1, 1004)]


@pytest.mark.parametrize("blocks", [4000, 400])
def test_the_planner_keeps_count_of_all_that_decode_and_of_what_is_left_of_prompts_without_counting_anew(
    monkeypatch: pytest.MonkeyPatch, blocks: int
):
    looks = recounts = 0
    work = Candidates.work

    def look(self: Candidates, view: StepView, *others: Any) -> Any:
        nonlocal looks
        looks += 1
        decoding = [one for one in view.running if one.request_id not in view.prefilling]
        assert kept(self.lives, View(decoding)) == counted(decoding)
        assert all(job.left == job.work for job in self.order.accepted)
        return work(self, view, *others)

    def recount(self: Lives, view: StepView) -> None:
        nonlocal recounts
        recounts += 1

    monkeypatch.setattr(Candidates, "work", look)
    monkeypatch.setattr(Lives, "_recount", recount)
    chance = random.Random(4)
    load = [Served(f"r{k}", 0.05 * k, chance.randint(20, 900), chance.randint(1, 400)) for k in range(150)]
    bounds, targets = Bounds(64, 2048), Targets(2 * SECOND, SECOND // 20)
    engine = SmallEngine(load, build_predictive({}), blocks=blocks, bounds=bounds, targets=targets)
    for step in engine.steps():
        if step % 15 == 0 and engine.running:
            engine.preempt()
    assert looks > 500
    assert not recounts
