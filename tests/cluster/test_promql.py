"""Queries of the boards and alerts, judged by Prometheus itself."""

import subprocess
from pathlib import Path

import pytest
import yaml

from llmserving_dashboards.queries import board_queries
from llmserving_dashboards.service import service_board
from llmserving_lab.cluster.tools import Toolchain

RULES = Path(__file__).parents[2] / "observability" / "rules"
VARIABLES = {"namespace": "default", "name": "chat", "__rate_interval": "1m"}


@pytest.fixture(scope="module")
def promtool() -> Path:
    return Toolchain().find(["promtool"])["promtool"]


def run(*command: str | Path) -> str:
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    return finished.stdout


def test_prometheus_parses_every_query_of_the_boards(promtool: Path, tmp_path: Path) -> None:
    rules = [
        {"record": f"board:query:{number}", "expr": query.expr}
        for number, query in enumerate(board_queries(service_board(), VARIABLES))
    ]
    file = tmp_path / "queries.yaml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "boards", "rules": rules}]}))
    assert f"{len(rules)} rules found" in run(promtool, "check", "rules", file)


def test_the_alerts_fire_on_what_they_are_for(promtool: Path) -> None:
    run(promtool, "check", "rules", RULES / "llmserving.yaml")
    run(promtool, "test", "rules", RULES / "llmserving.test.yaml")
