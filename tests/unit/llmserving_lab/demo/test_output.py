"""What the demo does to the folder it is given, and what it looks at before it builds anything."""

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from llmserving_lab.__main__ import app
from llmserving_lab.demo import cli, run
from llmserving_lab.demo.output import check_output, clear
from llmserving_lab.demo.settings import DemoSettings
from llmserving_lab.traces.csvfile import TraceError
from llmserving_lab.verbs import FlagError


def demo(*arguments: str, environment: dict[str, str] | None = None) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["demo", *arguments], env={"KUBECONFIG": "", "TRACE": "", **(environment or {})})
    assert "Traceback" not in result.output
    return result.exit_code, " ".join(result.output.split())


def fill(folder: Path) -> None:
    """What an earlier demo leaves."""
    for name in ("chat.yaml", "edit-3.yaml", "load.json", "report.html", "requests.jsonl", "result.json"):
        (folder / name).write_text("old")
    for name in ("install", "prometheus/data"):
        (folder / name).mkdir(parents=True)
        (folder / name / "file").write_text("old")


def test_a_folder_with_other_files_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("three years")
    fill(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    code, said = demo("--output", str(tmp_path))
    assert code == 1
    assert f"--output {tmp_path}: holds files that are not a demo's (thesis.tex); give a folder that is new" in said
    assert sorted(tmp_path.rglob("*")) == before


def test_the_figures_may_be_written_into_the_folder_again(tmp_path: Path) -> None:
    (tmp_path / "figures.json").write_text("{}")
    check_output(tmp_path, tmp_path / "figures.json")
    with pytest.raises(FlagError, match=r"\(figures\.json\)"):
        check_output(tmp_path)


def test_what_an_earlier_demo_wrote_is_removed_and_nothing_else(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "kept").write_text("")
    folder = tmp_path / "demo"
    folder.mkdir()
    fill(folder)
    check_output(folder)
    (folder / "notes").write_text("mine")
    (folder / "install" / "file").unlink()
    (folder / "install").rmdir()
    (folder / "install").symlink_to(elsewhere)
    clear(folder)
    assert [path.name for path in folder.iterdir()] == ["notes"]
    assert (elsewhere / "kept").exists()


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    code, said = demo("--output", str(tmp_path / "file" / "demo"))
    assert code == 1
    assert "file/demo: cannot be made: Not a directory" in said


def test_a_bad_trace_leaves_an_earlier_demo_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "Toolchain", lambda: pytest.fail("programs were looked for"))
    fill(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(TraceError, match="cannot be read"):
        run.run_demo(DemoSettings(tmp_path, trace=tmp_path / "nothing.csv"))
    assert sorted(tmp_path.rglob("*")) == before


def test_a_kubeconfig_that_is_not_there_is_told_before_anything_is_built(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(_: Any) -> None:
        pytest.fail("the demo began")

    monkeypatch.setattr(cli, "run_demo", never)
    missing = tmp_path / "kubeconfig"
    code, said = demo("--output", str(tmp_path / "demo"), environment={"KUBECONFIG": str(missing)})
    assert code == 1
    assert f"KUBECONFIG={missing}: no such file; unset KUBECONFIG for an embedded cluster" in said
