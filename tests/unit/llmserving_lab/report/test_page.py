"""`llmserving-lab report`: one page that needs nothing else, with every figure that its files have data for."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from llmserving_lab.__main__ import app
from llmserving_lab.report.figures import capacity_figure, colours, course_figure, rates_figure
from llmserving_lab.report.reading import read_result
from llmserving_lab.report.sections import sections

Document = dict[str, Any]
Write = Callable[[str, Document], Path]


def report(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["report", *map(str, arguments)])


@pytest.fixture
def page(rates: Document, capacity: Document, write: Write, tmp_path: Path) -> str:
    rates["caveats"] = ["times <guessed>"]
    out = tmp_path / "new" / "page.html"
    result = report(write("rates", rates), write("capacity", capacity), "--html", out)
    assert result.exit_code == 0, result.output
    assert "12 runs in 2 sections" in result.output
    return out.read_text()


def test_the_page_loads_nothing_from_elsewhere(page: str) -> None:
    assert re.findall(r"<(?:script|link|img)[^>]+(?:src|href)=", page) == []


def test_each_section_has_the_figures_that_it_has_data_for(page: str) -> None:
    figures = set(re.findall(r'<div id="(\w+)" class="plotly-graph-div"', page))
    assert figures == {"rates0", "course0", "capacity1", "rates1", "course1"}


def test_sections_of_equal_name_are_told_apart_by_their_files(page: str) -> None:
    assert '<a href="#s0">conversation (rates)</a><a href="#s1">conversation (capacity)</a>' in page


def test_targets_caveats_and_definitions_are_in_it_and_texts_are_escaped(page: str) -> None:
    for text in ("ITL 100 ms at p95, from 5 s TTFT 2 s, ITL 25 ms at p95", "times &lt;guessed&gt;", "<dt>goodput</dt>"):
        assert text in page


def test_attainment_and_goodput_have_a_line_per_policy_and_the_bar_at_95_percent(rates: Document, write: Write) -> None:
    (section,) = sections([read_result(write("a", rates))])
    chart = rates_figure(section, colours([section]))
    assert chart is not None
    lines = [(line.name, line.xaxis, list(line.x)) for line in chart.data if line.mode == "lines+markers"]
    assert lines == [(name, axis, [4, 6]) for name in ("memory-sla", "static:256x640") for axis in ("x", "x2")]
    assert [shape.y0 for shape in chart.layout.shapes] == [0.95]


def test_the_bar_is_what_passed_and_the_whisker_ends_at_what_failed(capacity: Document, write: Write) -> None:
    capacity["capacity"][0].update(low=2.0, high=2.5)
    capacity["capacity"][1]["high"] = None
    (section,) = sections([read_result(write("a", capacity))])
    chart = capacity_figure(section, colours([section]))
    assert chart is not None
    bars = chart.data[0]
    assert (bars.x[1], bars.error_x.array[1]) == (2.0, 0.5)
    assert bars.error_x.array[0] == 0


def test_bounds_hold_from_each_change_to_the_next_and_to_the_end_of_the_run(rates: Document, write: Write) -> None:
    run = rates["runs"][0]
    run.update(bounds=[[0.0, 512, 8192], [3.0, 256, 1024]], states=[], virtual_s=9.0)
    rates["runs"] = [run]
    (section,) = sections([read_result(write("a", rates))])
    chart = course_figure(section, colours([section]))
    assert chart is not None
    tokens, seqs = chart.data[:2]
    assert (list(tokens.x), list(tokens.y), tokens.line.shape) == ([0, 3, 9], [8192, 1024, 1024], "hv")
    assert list(seqs.y) == [512, 256, 256]
    assert {shape.x0 for shape in chart.layout.shapes} == {5.0}, "the edit of the SLA"


def test_a_button_shows_the_runs_of_its_rate_alone(rates: Document, write: Write) -> None:
    (section,) = sections([read_result(write("a", rates))])
    chart = course_figure(section, colours([section]))
    assert chart is not None
    four, six = (button.args[1] for button in chart.layout.updatemenus[0].buttons)
    assert len(four) == len(chart.data)
    assert [line.visible for line in chart.data] == list(four)
    assert all(one != other for one, other in zip(four, six, strict=True))


def test_runs_without_bounds_and_a_file_with_the_limit_alone_still_make_a_page(
    rates: Document, write: Write, tmp_path: Path
) -> None:
    for run in rates["runs"]:
        del run["bounds"], run["states"]
    limit = rates | {"runs": [{"policy": "limit", "rate_rps": None, "throughput_rps": 21.5}]}
    out = tmp_path / "page.html"
    assert report(write("a", rates), "--html", out).exit_code == 0
    assert 'id="course0"' not in out.read_text()
    assert report(write("b", limit), "--html", out).exit_code == 0


def test_a_bad_file_gets_one_line_and_no_page(rates: Document, write: Write, tmp_path: Path) -> None:
    good = write("good", rates)
    rates["runs"][2]["good"] = -1
    out = tmp_path / "page.html"
    result = report(good, write("bad", rates), "--html", out)
    assert result.exit_code == 2
    assert "bad.json: runs[2].good: " in result.output
    assert len(result.output.strip().splitlines()) == 1
    assert not out.exists()


def test_the_page_never_takes_the_place_of_a_result_file(rates: Document, write: Write) -> None:
    path = write("a", rates)
    before = path.read_text()
    result = report(path, "--html", path)
    assert result.exit_code == 2
    assert "is one of the result files" in result.output
    assert path.read_text() == before


def test_a_page_that_cannot_be_written_gets_one_line(rates: Document, write: Write, tmp_path: Path) -> None:
    result = report(write("a", rates), "--html", tmp_path)
    assert result.exit_code == 2
    assert "cannot be written: Is a directory" in result.output


def test_capacities_have_their_slices_pooled_rate_longest_wait_and_longest_prompts(
    capacity: Document, write: Write, tmp_path: Path
) -> None:
    capacity["capacity"][0].update(
        slice_capacities=[[2.11, 2.17], [3.22, None]],
        pooled=[2.44, 2.51],
        longest_ttft_s=12.5,
        longest_decile=[0.861, 0.911],
    )
    capacity["capacity"][1].update(low=0.0)
    out = tmp_path / "page.html"
    assert report(write("capacity", capacity), "--html", out).exit_code == 0
    page = out.read_text()
    for text in ("2.11, 3.22", "2.44", "12.5 s", "0.861, 0.911", "never reaches 0.95"):
        assert f">{text}<" in page
