"""Real result files of the bench.

rates.json: `bench --requests 40 --rates 6,4 --slices 2 --policies memory-sla,static:256x640 --itl 100ms --sla-edit 5s:itl=25ms`.
capacity.json: `bench --requests 40 --capacity --slices 1 --policies default,static-grid`.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent

Write = Callable[[str, dict[str, Any]], Path]


@pytest.fixture
def rates() -> dict[str, Any]:
    document: dict[str, Any] = json.loads((HERE / "rates.json").read_text())
    return document


@pytest.fixture
def capacity() -> dict[str, Any]:
    document: dict[str, Any] = json.loads((HERE / "capacity.json").read_text())
    return document


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def to_file(name: str, document: dict[str, Any]) -> Path:
        path = tmp_path / f"{name}.json"
        path.write_text(json.dumps(document))
        return path

    return to_file
