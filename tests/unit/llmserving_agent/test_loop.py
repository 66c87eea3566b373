"""The whole agent's state: several ranks, the revision it vouches for, what it notes for people."""

import pytest

from llmserving_agent.actuation import Answer
from llmserving_agent.actuation import Outcome as Answered
from llmserving_agent.loop import AgentLoop, Noted
from llmserving_agent.report import words
from llmserving_agent.sensors.none import NoFrontEnd, NoGPU
from llmserving_agent.sensors.ports import PolicyReading, Telemetry
from llmserving_api.conditions import DecisionReason
from llmserving_api.control import (
    RuntimeConfig,
    RuntimePatch,
)
from llmserving_api.policy import AskedLimits, Mode, Policy, Target, Targets
from llmserving_api.telemetry import Outcome, RequestRecord
from llmserving_fakes.documents import make_policy, obeying, runtime_config


def document(rank: int, patch: RuntimePatch | None = None) -> RuntimeConfig:
    config = runtime_config({"rank": rank, "pid": rank + 1, "data_parallel_size": 2})
    return config if patch is None else obeying(config, patch)


class World:
    """Two silent ranks and a policy that a test sets."""

    def __init__(self) -> None:
        self.policy: Policy | None = None
        self.telemetry = {0: Telemetry(), 1: Telemetry()}
        self.notes: list[Noted] = []
        self.loop = AgentLoop(
            telemetry=self,
            policy=Policies(self),
            gpu=NoGPU("none here"),
            front_end=NoFrontEnd(),
            wall_clock=lambda now: 1e9 + now,
            on_note=self.notes.append,
        )

    def read(self) -> dict[int, Telemetry]:
        return self.telemetry

    def tick(self, now: float, answering: tuple[int, ...] = (0, 1)) -> None:
        self.loop.sense(now)
        for actuation in self.loop.decide(now):
            if actuation.rank in answering:
                answer = Answer(Answered.APPLIED, document(actuation.rank, actuation.patch))
            else:
                answer = Answer(Answered.REFUSED, status=400, message="no")
            self.loop.confirm(actuation.rank, answer, now)


class Policies:
    def __init__(self, world: World) -> None:
        self.world = world

    def read(self, now: float) -> PolicyReading:
        return PolicyReading(self.world.policy)


@pytest.fixture
def world() -> World:
    world = World()
    for rank in (0, 1):
        world.loop.observe(rank, Answer(Answered.APPLIED, document(rank)), 0.0)
    return world


def test_without_a_policy_nothing_is_asked_of_anybody(world: World) -> None:
    world.tick(0.0)
    assert world.loop.confirmed_revision is None
    assert world.notes == []


def test_a_revision_counts_when_every_rank_has_confirmed_it(world: World) -> None:
    world.policy = make_policy(1)
    world.tick(0.0)
    assert world.loop.confirmed_revision == 1
    world.policy = make_policy(2, max_num_seqs=AskedLimits(min=8, max=64))
    world.tick(0.1, answering=(0,))
    assert world.loop.confirmed_revision == 1
    world.tick(20.0)
    assert world.loop.confirmed_revision == 2


def test_a_rank_out_of_reach_does_not_hold_the_others_back(world: World) -> None:
    world.policy = make_policy(1)
    world.tick(0.0)
    world.loop.observe(1, Answer(Answered.UNREACHABLE, message="gone"), 1.0)
    world.policy = make_policy(2, max_num_seqs=AskedLimits(min=8, max=64))
    world.tick(1.1)
    assert world.loop.confirmed_revision == 2


def test_what_is_decided_again_is_noted_once(world: World) -> None:
    world.policy = make_policy(1)
    for tick in range(100):
        world.tick(tick / 10)
    assert [noted.rank for noted in world.notes] == [0, 1]
    assert {noted.taken.decision.reason for noted in world.notes} == {DecisionReason.TELEMETRY_STALE}
    world.policy = make_policy(2, mode=Mode.OFF)
    world.tick(11.0)
    assert len(world.notes) == 4
    assert world.notes[-1].wall_time == pytest.approx(1e9 + 11)


def test_the_history_is_bounded_and_newest_first(world: World) -> None:
    for revision in range(1, 20):
        world.policy = make_policy(revision, mode=Mode.OFF if revision % 2 else Mode.AUTO)
        world.tick(float(revision))
    assert len(world.loop.history) == 10
    assert world.loop.history[0].taken.at == 19.0


def test_a_decision_is_told_with_what_it_changed(world: World) -> None:
    world.policy = make_policy(1, max_num_seqs=AskedLimits(min=8, max=64))
    world.tick(0.0)
    assert words(world.notes[0].taken) == "limits are now 8 to 64 seqs, 256 to 8192 tokens: 256 → 64 sequences"


def test_what_left_before_the_first_decision_is_judged_by_the_policys_targets(world: World) -> None:
    late = RequestRecord(Outcome.FINISHED, 0, 500_000_000, 100, 0, 1, 0, 0, 0, 0, 0, 0, 3.0, 3.0, 0.1, 0.0)
    world.telemetry = {0: Telemetry(records=(late,))}
    world.policy = make_policy(1, sla=Targets(time_to_first_token=Target(percentile=95, target_seconds=2.0)))
    world.loop.sense(1.0)
    counts = world.loop.engines[0].measured.sla.total
    assert (counts.good, counts.missed) == (0, 1)


def test_every_step_of_a_pass_is_timed_by_name(world: World) -> None:
    world.policy = make_policy(1)
    world.tick(0.0)
    assert set(world.loop.timings) == {"policy", "telemetry", "gpu", "decide"}
