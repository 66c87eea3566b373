from dataclasses import dataclass

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from llmserving_engine.planning.lengths import EDGES, cell_of
from llmserving_engine.planning.lives import Lives


@dataclass
class Request:
    request_id: str
    num_prompt_tokens: int
    num_output_tokens: int = 0

    @property
    def num_tokens(self) -> int:
        return self.num_prompt_tokens + self.num_output_tokens


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
    def recount(self) -> None:
        self.lives.begin("unknown", 100)
        self.lives.recount(self.requests.values())

    @invariant()
    def is_what_counting_gives(self) -> None:
        counted: dict[int, tuple[int, int]] = {}
        for request in self.requests.values():
            edge = EDGES[cell_of(request.num_output_tokens)]
            count, size = counted.get(edge, (0, 0))
            counted[edge] = count + 1, size + request.num_tokens
        assert {edge: (count, size) for edge, count, size in self.lives.groups({})} == counted
        assert len(self.lives) == len(self.requests)


TestLives = Counting.TestCase
TestLives.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)


def test_those_whose_prompt_is_being_computed_count_as_if_it_were():
    lives = Lives()
    lives.begin("old", 1000, 20)
    groups = list(lives.groups({"new": Request("new", 300), "back": Request("back", 200, 50)}))
    assert groups == [(0, 1, 300), (0, 1, 250), (16, 1, 1020)]
