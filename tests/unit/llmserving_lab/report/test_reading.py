"""Result files are read whole, or refused with one line that names file and field."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llmserving_lab.report.reading import BenchRun, LimitRun, ResultFileError, read_result

Document = dict[str, Any]
Write = Callable[[str, Document], Path]


def test_a_result_file_of_the_bench_is_read(rates: Document, write: Write) -> None:
    result = read_result(write("monday", rates))
    first = result.document.runs[0]
    assert result.name == "monday"
    assert isinstance(first, BenchRun)
    assert list(map(list, first.bounds)) == rates["runs"][0]["bounds"]
    assert len(result.document.runs) == len(rates["runs"])


def test_fields_the_report_does_not_draw_are_passed_over(rates: Document, write: Write) -> None:
    rates["runs"][0]["colour"] = "blue"
    assert read_result(write("a", rates)).document.runs


def test_the_limit_is_no_run_at_a_rate(rates: Document, write: Write) -> None:
    rates["runs"] = [{"policy": "limit", "rate_rps": None, "throughput_rps": 21.5}]
    assert read_result(write("a", rates)).document.runs == (LimitRun(policy="limit", throughput_rps=21.5),)


def change(field: str, value: object) -> Callable[[Document], None]:
    def on_first_run(document: Document) -> None:
        document["runs"][0][field] = value

    return on_first_run


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (change("attainment", 1.2), r"runs\[0\]\.attainment: .*less than or equal to 1, not 1.2"),
        (change("attainment", float("nan")), r"runs\[0\]\.attainment: "),
        (change("good", "many"), r'runs\[0\]\.good: .*integer, not "many"'),
        (change("rate_rps", 0), r"runs\[0\]\.rate_rps: .*greater than 0"),
        (change("bounds", [[0.0, 256]]), r"runs\[0\]\.bounds\[0\]\[2\] is missing"),
        (change("policy", None), r"runs\[0\]\.policy: should be a valid string, not null"),
        (lambda document: document["runs"][1].pop("goodput_rps"), r"runs\[1\]\.goodput_rps is missing"),
        (lambda document: document.update(runs=[{"policy": "limit"}]), r"runs\[0\]\.throughput_rps is missing"),
        (lambda document: document.update(runs=[7]), r"runs\[0\]: should be an object, not 7"),
        (lambda document: document.update(runs=[]), r"runs: is empty"),
        (lambda document: document["plan"]["load"].update(requests=0), r"plan\.load\.requests: "),
        (lambda document: document.update(capacity=[{"policy": "default"}]), r"capacity\[0\]\.measured_as is missing"),
        (lambda document: document.pop("kind"), r"kind: should be `bench`; is this a result file"),
        (lambda document: document.update(kind="demo"), r"kind: should be `bench`; is this a result file"),
    ],
)
def test_a_bad_field_is_named_with_what_would_be_right(
    spoil: Callable[[Document], None], message: str, rates: Document, write: Write
) -> None:
    spoil(rates)
    path = write("bad", rates)
    with pytest.raises(ResultFileError, match=f"^{re.escape(str(path))}: {message}") as caught:
        read_result(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "invalid JSON"),
        (b'{"kind": "bench",', "invalid JSON"),
        (b"[]", "content: should be a JSON object"),
        (b"\xff\xfe\x00", "not a text file"),
    ],
)
def test_what_is_no_result_file_at_all_is_refused(content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_bytes(content)
    with pytest.raises(ResultFileError, match=message):
        read_result(path)


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "none.json", tmp_path):
        with pytest.raises(ResultFileError, match="cannot be read"):
            read_result(path)
