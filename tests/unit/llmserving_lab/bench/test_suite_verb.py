"""What `llmserving-lab suite` asks to be measured, and where results go."""

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from llmserving_lab.__main__ import app
from llmserving_lab.bench import suite_cli
from llmserving_lab.bench.suite import Cell


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Cell, Path]]:
    """Cells and result files, as they are asked for."""
    asked: list[tuple[Cell, Path]] = []

    def measure(pool: Any, cell: Cell, profile: str, files: Any, path: Path, *others: Any) -> dict[str, Any]:
        asked.append((cell, path))
        return {"cell": cell.name, "capacity": []}

    monkeypatch.setattr(suite_cli, "measure", measure)
    monkeypatch.setattr(suite_cli, "EnginePool", lambda jobs: nullcontext())
    return asked


def run(*arguments: str) -> None:
    result = CliRunner().invoke(app, ["suite", "--full", "--only", "code-own", *arguments])
    assert result.exit_code == 0, result.output


def test_the_whole_cell_is_measured_into_the_folder(asked: list[tuple[Cell, Path]], tmp_path: Path) -> None:
    run("--out", str(tmp_path))
    [(cell, path)] = asked
    assert (cell.slices, path) == (4, tmp_path / "code-own.json")


def test_fewer_slices_do_not_take_the_place_of_the_whole_cells_figures(
    asked: list[tuple[Cell, Path]], tmp_path: Path
) -> None:
    run("--out", str(tmp_path), "--slices", "2")
    [(cell, path)] = asked
    assert (cell.slices, path) == (2, tmp_path / "slices-2" / "code-own.json")
    assert (tmp_path / "slices-2" / "table.md").is_file()
