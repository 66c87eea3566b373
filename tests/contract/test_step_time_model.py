"""The step-time model is written by the agent and evaluated by the plug-in: both must mean the same."""

import json
import random

import pytest

from llmserving_agent.laws.predictive import memory as agent
from llmserving_agent.laws.predictive.law import PLANNER, planner_of
from llmserving_agent.laws.predictive.learner import Learner
from llmserving_agent.laws.protocol import Setting
from llmserving_api.control import Bounds
from llmserving_api.policy import Limits, Target
from llmserving_engine.planning import step_model as engine
from llmserving_engine.planning.registry import PLANNERS
from llmserving_engine.planning.settings import read_settings


def setting() -> Setting:
    target = Target(percentile=90, target_seconds=0.05)
    limits = Limits(min=1, max=8192)
    stock = Bounds(max_num_seqs=256, max_num_batched_tokens=8192)
    return Setting(target, target, None, limits, limits, stock)


def samples(count: int) -> list[agent.Sample]:
    rng = random.Random(3)
    made = []
    for _ in range(count):
        prefill, decodes = rng.choice([0, rng.randrange(1, 3000)]), rng.randrange(1, 200)
        seconds = 0.01 + 4e-5 * prefill + 1e-4 * decodes * (2 if prefill else 1)
        made.append(agent.Sample(prefill, prefill * prefill / 2, decodes, decodes * 900, seconds))
    return made


def test_sizes_and_bends_agree():
    assert agent.BENDS == engine.BENDS
    assert agent.CELLS == engine.CELLS
    assert agent.KINDS == engine.KINDS
    assert all(agent.cell_of(tokens) == engine.cell_of(tokens) for tokens in range(0, 40_000, 7))


def test_the_plug_in_predicts_what_the_agent_fitted():
    learner = Learner().with_samples(samples(2000)).refitted()
    wire = json.loads(json.dumps(planner_of(learner, setting()).parameters))
    model = read_settings(wire).model
    assert model is not None
    assert learner.model is not None
    for one in samples(200):
        predicted = model.seconds(one.prefill, one.pairs, one.decodes, one.context)
        assert predicted == pytest.approx(learner.model.seconds(one), abs=1e-6)


def test_the_percentile_becomes_the_share_of_gaps_that_may_be_long():
    assert read_settings(planner_of(Learner(), setting()).parameters).itl_allowance == pytest.approx(0.1)


def test_the_agent_asks_for_a_planner_that_the_plug_in_has():
    PLANNERS[PLANNER](planner_of(Learner(), setting()).parameters)


def test_the_deadline_that_an_end_to_end_target_implies_is_planned_for():
    assert read_settings(planner_of(Learner(), setting(), 1.25).parameters).ttft_seconds == 1.25
