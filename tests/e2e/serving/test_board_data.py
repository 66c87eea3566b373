"""Every query of the boards finds data in a real Prometheus that scrapes a served engine."""

import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from llmserving_dashboards.queries import board_queries
from llmserving_dashboards.service import service_board
from llmserving_lab.demo.granted import read_granted
from llmserving_lab.demo.prometheus import Prometheus, run_prometheus, targets_of
from llmserving_lab.demo.serving import Serving, eventually, finished_load, steady_load
from llmserving_lab.demo.settings import NAMESPACE
from llmserving_lab.demo.site import EmbeddedSite
from llmserving_lab.demo.timeline import Granted

VARIABLES = {"namespace": NAMESPACE, "name": "chat", "__rate_interval": "20s"}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def prometheus(site: EmbeddedSite, chat: Serving, tmp_path: Path) -> Iterator[Prometheus]:
    with run_prometheus(targets_of(site, NAMESPACE), tmp_path / "prometheus", port=free_port()) as prometheus:
        finished_load(chat.start_load(steady_load(rate=4, seconds=15), tmp_path))
        yield prometheus


def test_operator_agent_and_engine_can_be_scraped(prometheus: Prometheus) -> None:
    up = eventually("three targets are up", lambda: [one for one in prometheus.query("up == 1") if one][:3])
    assert {one["metric"]["endpoint"] for one in up} == {"metrics", "agent", "http"}


def test_what_steps_were_granted_is_read_for_the_report(prometheus: Prometheus) -> None:
    wall_offset = time.time() - time.monotonic()

    def granted() -> tuple[Granted, ...]:
        now = time.monotonic()
        return read_granted(prometheus, now - 30, now, wall_offset=wall_offset)

    points = eventually("budgets of steps", granted)
    assert all(0 < point.tokens <= 8192 and point.pod.startswith("chat-") for point in points)


def test_every_query_of_the_board_has_data(prometheus: Prometheus) -> None:
    queries = [query for query in board_queries(service_board(), VARIABLES) if not query.optional]
    assert queries

    def empty() -> list[str]:
        return [f"{query.place}: {query.expr}" for query in queries if not prometheus.query(query.expr)]

    def complete() -> bool:
        return not empty()

    try:
        eventually("data for every query", complete, seconds=30)
    except AssertionError:
        assert empty() == []
