"""The report page: one file that needs nothing else, with every phase and edit in it."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from llmserving_api.control import Bounds
from llmserving_lab.demo.edits import MadeEdit
from llmserving_lab.demo.figure import figure
from llmserving_lab.demo.granted import granted_of
from llmserving_lab.demo.report import write_report
from llmserving_lab.demo.result import Surroundings, result
from llmserving_lab.demo.script import Edit, Script
from llmserving_lab.demo.timeline import Run
from llmserving_lab.demo.view import LiveState, summary
from llmserving_lab.demo.watch import Observation
from llmserving_lab.traffic.record import RequestRecord

TIGHTER = Edit(5, "ITL <50ms>", {}, itl_seconds=0.05, phase="tight")


@pytest.fixture
def run() -> Run:
    times = tuple(100.0 + 0.04 * number for number in range(50))
    bounds = Bounds(max_num_seqs=64, max_num_batched_tokens=512)
    seen = Observation(
        time=101.0, asked=101.0, pod="chat-1-abcde", revision=2, mode="Auto", law="SLA", requested=bounds,
        applied=bounds, effective=bounds, itl_p95=0.04, running=1, waiting=0, kv_usage=0.1, reason="", message="",
        device="", gpu_source="nvml",
    )  # fmt: skip
    return Run(
        started=99.0,
        script=Script((TIGHTER,), seconds=10),
        sent=1,
        records=(RequestRecord(99.5, 10, 50, times, times[-1]),),
        observations=(seen,),
        edits=(MadeEdit(TIGHTER, 104.0, 104.2, 2, 104.6, 104.9),),
    )


@pytest.fixture
def page(run: Run, tmp_path: Path) -> str:
    around = Surroundings("v1.36.3", 5.0, "0.32.0", "a card", "nvml", 40.0, 0, True, 1, "one request", {}, {}, 3)
    path = tmp_path / "report.html"
    write_report(path, run, result(run, around), {"kubectl get llms": "NAME <none>"})
    return path.read_text()


def test_the_page_loads_nothing_from_elsewhere(page: str) -> None:
    assert re.findall(r"<(?:script|link|img)[^>]+(?:src|href)=", page) == []


def test_what_steps_were_granted_is_drawn_beside_the_bound(run: Run) -> None:
    matrix = [{"metric": {"pod": "chat-1-abcde"}, "values": [[1101.0, "384.5"], [1103.0, "NaN"]]}]
    traces = figure(replace(run, granted=granted_of(matrix, wall_offset=1000.0))).data
    (drawn,) = [trace for trace in traces if "granted" in trace.name]
    (bound,) = [trace for trace in traces if "bound" in trace.name and trace.yaxis == drawn.yaxis]
    assert (list(drawn.x), list(drawn.y)) == ([2.0], [384.5])
    assert list(bound.y) == [512]


def test_phases_edits_and_figures_are_in_it_and_texts_are_escaped(page: str) -> None:
    for text in ('<td class="">tight</td>', "ITL &lt;50ms&gt;", "0.60 s", "NAME &lt;none&gt;", "0 failed"[:1]):
        assert text in page


def test_a_run_without_any_traffic_still_has_a_report(tmp_path: Path) -> None:
    empty = Run(99.0, Script((), seconds=10), 0, (), (), ())
    around = Surroundings("v1", None, "0", "d", "", 1.0, 1, False, 1, "none", {}, {}, None)
    write_report(tmp_path / "report.html", empty, result(empty, around), {})
    assert "card bad" in (tmp_path / "report.html").read_text()


def test_a_line_of_the_view_counts_requests_and_shows_bounds(run: Run) -> None:
    state = LiveState(run.script, 5, 99.0, list(run.records), {"p": run.observations[0]}, list(run.edits))
    line = summary(state, 102.0)
    assert "1/5 ended, 0 failed" in line
    assert "64 seqs 512 tokens" in line
    assert "ITL p95 40 ms" in line
