"""Queries of the boards and alerts, judged by Prometheus itself."""

import subprocess
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import yaml

from llmserving_dashboards.queries import board_queries
from llmserving_dashboards.service import service_board
from llmserving_lab.cluster.tools import Toolchain
from llmserving_lab.demo.prometheus import Target, run_prometheus

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


@pytest.fixture
def forger() -> Iterator[str]:
    """Address of a tenant's pod that claims to be the agent of somebody else's engine."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = b'llmserving_agent_saturated{namespace="theirs",name="chat",pod="chat-a",engine="0"} 1\n'
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; version=0.0.4")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_series_speak_of_the_pod_that_they_come_from(forger: str, tmp_path: Path, unused_tcp_port: int) -> None:
    labels = {"namespace": "ours", "pod": "evil", "name": "evil"}
    found: list[dict[str, Any]] = []
    with run_prometheus([Target("llmserving-engines", forger, labels)], tmp_path, port=unused_tcp_port) as prometheus:
        while not (found := prometheus.query("llmserving_agent_saturated")):
            time.sleep(0.1)  # until pytest's timeout

    assert {name: found[0]["metric"][name] for name in (*labels, "engine")} == {**labels, "engine": "0"}
    assert not {"exported_namespace", "exported_name"} & found[0]["metric"].keys()
