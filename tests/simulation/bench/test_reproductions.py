import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from llmserving_lab.bench.pool import INTERPRETER_VARIABLE
from llmserving_lab.reproductions import cli
from llmserving_lab.reproductions.claims import REPRODUCTIONS


def test_the_memory_law_beats_a_static_cap_far_below_what_fits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gsm8k = next(one for one in REPRODUCTIONS if one.name == "memory-gsm8k")
    small = replace(gsm8k, requests=300, policies=("static:32x8192", "memory"))
    monkeypatch.setattr(cli, "REPRODUCTIONS", (small,))
    monkeypatch.setenv(INTERPRETER_VARIABLE, sys.executable)
    app = typer.Typer()
    app.command()(cli.reproduce)
    file = tmp_path / "reproductions.json"

    result = CliRunner().invoke(app, ["--only", "memory-gsm8k", "--json", str(file)])

    assert result.exit_code == 0, result.output
    (entry,) = json.loads(file.read_text())["reproductions"]
    static, memory = entry["policies"]
    assert (static["policy"], memory["policy"]) == ("static:32x8192", "memory")
    assert entry["gain"] == pytest.approx(memory["figure"] / static["figure"] - 1, abs=1e-3)
    assert entry["gain"] > 0.5
