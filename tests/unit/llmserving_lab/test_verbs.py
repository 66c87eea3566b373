from pathlib import Path

import pytest
from typer.testing import CliRunner

from llmserving_lab.__main__ import app
from llmserving_lab.verbs import FlagError, check_writable, chosen, write_json


def test_names_that_are_not_known_are_refused_with_those_that_are() -> None:
    assert chosen("--only", "b, a,b", "abc", "letter") == ["b", "a"]
    assert chosen("--only", "", "abc", "letter") == ["a", "b", "c"]
    with pytest.raises(FlagError, match=r"^--only a,x: no such letter 'x'; there are a, b, c$"):
        chosen("--only", "a,x", "abc", "letter")


def test_a_file_in_a_folder_that_is_not_there_yet_can_be_written(tmp_path: Path) -> None:
    file = tmp_path / "new" / "figures.json"
    check_writable("--json", file)
    assert not file.exists()
    write_json(file, {"rate": 4})
    assert file.read_text() == '{\n "rate": 4\n}\n'


def test_a_file_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(FlagError, match=r"^--json .*/file/x.json: its folder cannot be made"):
        check_writable("--json", tmp_path / "file" / "x.json")
    with pytest.raises(FlagError, match=r"is a folder; it should be a file$"):
        check_writable("--json", tmp_path)


@pytest.mark.parametrize(
    "verb",
    [
        ["bench"],
        ["reproduce"],
        ["validate", "--profile", "rtxpro6000-llama-3.1-8b", "--run", "x"],
        ["demo"],
    ],
)
def test_figures_that_could_not_be_kept_are_not_measured(verb: list[str], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    result = CliRunner().invoke(app, [*verb, "--json", str(tmp_path / "file" / "x.json")])
    assert result.exit_code in {1, 2}
    assert "x.json: its folder cannot be made" in " ".join(result.output.split())
    assert "Traceback" not in result.output


@pytest.mark.parametrize(
    ("verb", "given"),
    [
        (["bench", "--percentile", "120"], "'120'"),
        (["bench", "--percentile", "high"], "'high'"),
        (["demo", "--rate", "0.1"], "'0.1'"),
        (["demo", "--rate", "inf"], "'inf'"),
        (["cluster", "up", "--gpus", "-1"], "'-1'"),
    ],
)
def test_a_value_that_is_out_of_range_or_no_number_is_repeated(verb: list[str], given: str) -> None:
    result = CliRunner().invoke(app, verb, env={"COLUMNS": "200"})
    assert result.exit_code == 2
    assert f"; {given} was given" in result.output


@pytest.mark.parametrize("verb", ["reproduce", "law-plots", "suite"])
def test_a_name_that_is_not_known_is_refused_at_once(verb: str) -> None:
    result = CliRunner().invoke(app, [verb, "--only", "[/x]"])
    assert result.exit_code == 2
    assert "error: --only [/x]: no such" in result.output
