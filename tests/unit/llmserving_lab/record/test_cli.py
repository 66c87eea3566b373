from pathlib import Path

import pytest
from typer.testing import CliRunner

from llmserving_lab.__main__ import app
from llmserving_lab.record import cli


def record(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["record", *arguments], env={"COLUMNS": "400"})
    return result.exit_code, result.output


def test_an_error_is_one_line_and_exit_code_two(tmp_path: Path) -> None:
    code, said = record("--url", "http://127.0.0.1:1", "--out", str(tmp_path / "run"))
    assert code == 2
    (line,) = [line for line in said.splitlines() if line.strip() and "looking at" not in line]
    assert line.startswith("error: http://127.0.0.1:1 cannot be reached")
    assert not (tmp_path / "run").exists()


def test_a_folder_with_a_recording_is_refused_before_the_server_is_asked(tmp_path: Path) -> None:
    (tmp_path / "meta.json").write_text("{}")
    code, said = record("--url", "http://127.0.0.1:1", "--out", str(tmp_path))
    assert code == 2
    assert "holds a recording already" in said


def test_a_load_is_not_dropped_in_silence_beside_a_trace(tmp_path: Path) -> None:
    out = ("--url", "http://127.0.0.1:1", "--out", str(tmp_path / "run"))
    code, said = record(*out, "--trace", "x.csv", "--load", "code")
    assert code == 2
    assert "--load code: not with --trace x.csv" in said


@pytest.mark.parametrize("url", ["http://localhost:8000", "http://127.0.0.2", "http://[::1]:1", "http://0.0.0.0:8000"])
def test_a_server_at_an_address_of_this_machine_is_here(url: str) -> None:
    assert cli.is_here(url)


@pytest.mark.parametrize("url", ["http://10.0.0.7:8000", "http://chat.example", "chat"])
def test_the_card_of_another_machine_is_not_guessed(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli, "NVML", lambda: pytest.fail("NVML of this machine was asked"))
    assert cli.local_card(url) == ""
