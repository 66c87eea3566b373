"""What `make test-gpu` checks on a card, on the simulated one: the same checks, limits and helpers."""

import asyncio
import time
from pathlib import Path

import pytest

from llmserving_api.control import PATH_DEVICE
from llmserving_api.policy import Limits, Policy, Target, Targets
from llmserving_lab.device.model import load_device
from llmserving_lab.nvml.state import DeviceState
from llmserving_lab.serving.agent import RSS_LIMIT_BYTES, AgentProcess
from llmserving_lab.serving.bounds import move_bounds_under_load
from llmserving_lab.serving.server import VLLMServer
from llmserving_lab.traces.arrival import Arrival
from llmserving_lab.traffic.client import Endpoint, send_load

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
    policy = Policy(
        revision=1,
        namespace="default",
        name="check",
        sla=Targets(inter_token_latency=Target(percentile=95, target_seconds=0.05)),
        max_num_seqs=Limits(min=8, max=64),
        max_num_batched_tokens=Limits(min=256, max=1024),
    )
    load = [Arrival(0.1 * index, 200, 60) for index in range(100)]
    with AgentProcess(simulated_server, tmp_path / "agent", policy, simulated_server.plan.environment) as agent:
        agent.start_measuring()
        endpoint = Endpoint(simulated_server.url, "m")
        asyncio.run(send_load(load, endpoint, lambda _: None, start=time.monotonic()))
        usage, status = agent.usage(), agent.status()
    assert status.gpu.source == "nvml"
    assert status.gpu.devices[0].uuid == DeviceState.of(load_device(DEVICE)).uuid
    assert status.engines[0].reachable
    assert status.latency.requests >= 90
    assert usage.rss_bytes <= RSS_LIMIT_BYTES
    assert 0 < usage.cpu_ratio < 0.5, "a share of one core; its limit is held where the machine is not shared"
