"""What `make test-gpu` checks on a card, on the simulated one: the same checks, limits and helpers."""

import asyncio
from pathlib import Path

import pytest

from llmserving_api.control import PATH_DEVICE
from llmserving_fakes.beside import agent_under_load
from llmserving_lab.device.model import load_device
from llmserving_lab.nvml.state import DeviceState
from llmserving_lab.serving.agent import RSS_LIMIT_BYTES
from llmserving_lab.serving.bounds import move_bounds_under_load
from llmserving_lab.serving.server import VLLMServer
from llmserving_lab.traces.arrival import Arrival

pytestmark = [pytest.mark.engine, pytest.mark.timeout(900)]

DEVICE = "rtxpro6000-llama-3.1-8b"


def test_live_bounds_are_obeyed_under_traffic_and_no_request_fails(simulated_server: VLLMServer) -> None:
    load = [Arrival(0.0, 40, 250) for _ in range(300)]  # more than are served until the last change
    report = asyncio.run(move_bounds_under_load(simulated_server, load, (32, 4, 16, 2, 64)))
    assert report.failed == []
    assert len(report.records) == 300
    assert all(change.obeyed for change in report.changes), report.changes
    assert all(change.waiting for change in report.changes[:4]), "not the cap but the load was what limited"
    state = simulated_server.call("GET", "/v1/runtime_config")
    assert state["contract"]["mode"] == "full"
    assert state["faults"] == 0


def test_the_engine_relays_the_card_that_nvml_shows(simulated_server: VLLMServer) -> None:
    shown = DeviceState.of(load_device(DEVICE))
    (device,) = simulated_server.call("GET", PATH_DEVICE)["devices"]
    assert (device["uuid"], device["name"]) == (shown.uuid, shown.name)
    assert device["memory_total_bytes"] == shown.total_bytes
    assert device["memory_used_bytes"] == shown.used_bytes


def test_an_agent_beside_the_server_reads_the_card_by_its_uuid_and_acts(
    simulated_server: VLLMServer, tmp_path: Path
) -> None:
    load = [Arrival(0.1 * index, 200, 60) for index in range(100)]
    served = agent_under_load(simulated_server, tmp_path / "agent", simulated_server.plan.environment, load)
    usage, status = served.usage, served.status
    assert [record.error for record in served.records if record.error] == []
    assert status.gpu.source == "nvml"
    assert status.gpu.devices[0].uuid == DeviceState.of(load_device(DEVICE)).uuid
    assert status.engines[0].reachable
    assert status.latency.requests >= 90
    assert usage.rss_bytes <= RSS_LIMIT_BYTES
    assert 0 < usage.cpu_ratio < 0.5, "a share of one core; its limit is held where the machine is not shared"
