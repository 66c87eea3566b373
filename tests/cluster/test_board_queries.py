"""Every query of the boards is PromQL that Prometheus itself takes."""

import subprocess
from pathlib import Path

import yaml

from llmserving_dashboards.queries import board_queries
from llmserving_dashboards.service import service_board
from llmserving_lab.cluster.tools import Toolchain

VARIABLES = {"namespace": "default", "name": "chat", "__rate_interval": "1m"}


def test_prometheus_parses_every_query(tmp_path: Path) -> None:
    rules = [
        {"record": f"board:query:{number}", "expr": query.expr}
        for number, query in enumerate(board_queries(service_board(), VARIABLES))
    ]
    file = tmp_path / "queries.yaml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "boards", "rules": rules}]}))
    promtool = Toolchain().find(["promtool"])["promtool"]
    finished = subprocess.run([promtool, "check", "rules", file], capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr
    assert f"{len(rules)} rules found" in finished.stdout
