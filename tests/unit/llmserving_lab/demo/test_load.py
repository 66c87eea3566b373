"""The demo's traffic: long enough, as fast as asked, and within the model's context."""

from pathlib import Path

import pytest

from llmserving_lab.demo.load import LONGEST_TOKENS, demo_load
from llmserving_lab.demo.settings import DemoSettings
from llmserving_lab.traces.csvfile import TraceError


def settings(rate: float, trace: Path | None = None) -> DemoSettings:
    return DemoSettings(Path("build/demo"), trace, rate)


def test_the_rate_decides_how_many_requests_there_are() -> None:
    arrivals = demo_load(settings(10.0), seconds=100.0)
    assert len(arrivals) == 1000
    assert 80 < arrivals[-1].time < 125


def test_there_are_never_fewer_than_five_hundred() -> None:
    assert len(demo_load(settings(1.0), seconds=100.0)) == 500


def test_prompt_and_answer_fit_the_context(tmp_path: Path) -> None:
    trace = tmp_path / "long.csv"
    rows = "".join(f"{number},{100_000},{300}\n" for number in range(600))
    trace.write_text("TIMESTAMP,ContextTokens,GeneratedTokens\n" + rows)
    arrivals = demo_load(settings(5.0, trace), seconds=100.0)
    assert {one.prompt_tokens + one.output_tokens for one in arrivals} == {LONGEST_TOKENS}


def test_a_trace_that_is_too_short_says_how_long_it_should_be(tmp_path: Path) -> None:
    trace = tmp_path / "short.csv"
    trace.write_text("TIMESTAMP,ContextTokens,GeneratedTokens\n0,10,10\n1,10,10\n")
    with pytest.raises(TraceError, match="has 2 rows; the demo sends 1000"):
        demo_load(settings(10.0, trace), seconds=100.0)
