from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from llmserving_lab.__main__ import app
from llmserving_lab.bench.plan import TargetPlan
from llmserving_lab.bench.policies import setup_of
from llmserving_lab.device.model import StepBatch, load_device
from llmserving_lab.reproductions.claims import REPRODUCTIONS
from llmserving_lab.reproductions.measures import Measure, figure, gain, is_served
from llmserving_lab.reproductions.settings import FIGURE_3
from llmserving_lab.traces.load import build_load

PAGE = Path(__file__).parents[4] / "docs" / "explanation" / "reproductions.md"


@pytest.mark.parametrize("one", REPRODUCTIONS, ids=lambda one: one.name)
def test_every_reproduction_has_runs_that_can_be_made_and_a_place_in_the_documentation(one: Any) -> None:
    load = build_load(one.plan(one.policies[0], one.rate).load)
    assert len(load) == one.requests
    assert len(one.policies) >= 2
    for policy in one.policies:
        setup_of(policy)
    assert f"`{one.name}`" in PAGE.read_text(encoding="utf-8")


def test_names_are_unique() -> None:
    names = [one.name for one in REPRODUCTIONS]
    assert len(names) == len(set(names))


def test_the_published_line_is_that_of_the_paper() -> None:
    device = load_device(FIGURE_3)
    for sequences in (91, 227):
        step = StepBatch((), sequences, sequences * 500, 500, sequences)
        assert device.step_seconds(step).seconds == pytest.approx(0.030 + 0.00022 * sequences, rel=1e-3)


def test_more_throughput_and_less_latency_are_both_gains() -> None:
    assert gain(Measure.THROUGHPUT, 1983.0, 2146.0) == pytest.approx(0.082, abs=1e-3)
    assert gain(Measure.LATENCY, 41.7, 32.3) == pytest.approx(0.225, abs=1e-3)
    assert gain(Measure.LATENCY, 10.0, 12.0) < 0


def test_a_figure_is_read_from_what_a_run_says() -> None:
    run = {"attainment": 0.9, "e2e_mean_s": 12.0, "output_tokens": 500, "virtual_s": 20.0}
    assert [figure(one, run) for one in (Measure.THROUGHPUT, Measure.GOOD, Measure.LATENCY)] == [25.0, 0.9, 12.0]


@pytest.mark.parametrize(
    ("changes", "served"),
    [({}, True), ({"tpot_mean_s": 0.051}, False), ({"ttft_p50_s": 2.5}, False), ({"queue_growing": True}, False)],
)
def test_a_rate_is_served_by_the_papers_criterion(changes: dict[str, Any], served: bool) -> None:
    run = {"queue_growing": False, "tpot_mean_s": 0.049, "ttft_p50_s": 0.5}
    assert is_served(run | changes, TargetPlan(itl=0.05)) is served


def test_an_unknown_name_is_answered_with_those_there_are() -> None:
    result = CliRunner().invoke(app, ["reproduce", "--only", "magic"])
    assert result.exit_code == 2
    assert "no such reproduction 'magic'; there are memory-gsm8k" in " ".join(result.output.split())
