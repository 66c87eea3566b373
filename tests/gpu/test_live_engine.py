"""A real engine on a real card, with the plug-in put in by the environment alone."""

import asyncio
import json
from pathlib import Path

import pytest

from llmserving_agent.sensors.gpu import EngineGPU
from llmserving_agent.sensors.nvml import NVML
from llmserving_agent.sensors.relay import Relay
from llmserving_api.control import PATH_DEVICE, DeviceReport
from llmserving_fakes.beside import agent_under_load
from llmserving_lab.serving.agent import CPU_LIMIT_RATIO, RSS_LIMIT_BYTES
from llmserving_lab.serving.bounds import move_bounds_under_load
from llmserving_lab.serving.gpu import GPUHost
from llmserving_lab.serving.server import VLLMServer
from llmserving_lab.traces.arrival import Arrival

pytestmark = [pytest.mark.gpu, pytest.mark.timeout(900)]


def test_the_card_is_read_by_its_uuid(nvml: NVML, host: GPUHost) -> None:
    (card,) = nvml.read([host.card.uuid])
    assert card.uuid == host.card.uuid
    assert card.memory_total_bytes > 1 << 30
    assert card.memory_free_bytes + card.memory_used_bytes <= card.memory_total_bytes


def test_the_engine_relays_what_nvml_says_of_the_card(live_server: VLLMServer, host: GPUHost, nvml: NVML) -> None:
    report = DeviceReport.model_validate(live_server.call("GET", PATH_DEVICE))
    relayed = next(device for device in report.devices if device.uuid == host.card.uuid)
    (read,) = nvml.read([host.card.uuid])
    assert (relayed.name, relayed.memory_total_bytes) == (read.name, read.memory_total_bytes)
    assert abs(relayed.memory_used_bytes - read.memory_used_bytes) < 1 << 30
    assert read.memory_used_bytes > 0.2 * read.memory_total_bytes, "the engine took a third of the card"


def test_the_agent_takes_the_engines_card_where_there_are_several(live_server: VLLMServer, host: GPUHost) -> None:
    relay = Relay()
    report = DeviceReport.model_validate(live_server.call("GET", PATH_DEVICE))
    relay.devices = tuple(device for device in report.devices if device.uuid == host.card.uuid)
    reading = EngineGPU(relay).read(0.0)
    assert (reading.source, [device.uuid for device in reading.devices]) == ("nvml", [host.card.uuid])


def test_live_bounds_are_obeyed_under_traffic_and_no_request_fails(live_server: VLLMServer) -> None:
    load = [Arrival(0.0, 100, 1500) for _ in range(400)]
    report = asyncio.run(move_bounds_under_load(live_server, load, (32, 4, 16, 2, 64)))
    assert report.failed == []
    assert len(report.records) == 400
    assert all(change.obeyed for change in report.changes), report.changes
    assert all(change.waiting for change in report.changes[:4]), "the load ended before the bounds were looked at"
    state = live_server.call("GET", "/v1/runtime_config")
    assert state["contract"] == {"mode": "full", "ok": True, "reason": ""}
    assert state["faults"] == 0


def test_the_agent_beside_the_engine_stays_within_its_limits(
    live_server: VLLMServer, host: GPUHost, tmp_path: Path, output: Path
) -> None:
    load = [Arrival(0.05 * index, 200, 100) for index in range(400)]
    served = agent_under_load(live_server, tmp_path / "agent", host.environment, load, start_seconds=5.0)
    usage, status = served.usage, served.status
    (output / "agent.json").write_text(json.dumps({"cpu_ratio": usage.cpu_ratio, "rss_bytes": usage.rss_bytes}) + "\n")
    print(f"\nagent: {usage.cpu_ratio:.2%} of a core, {usage.rss_bytes / 2**20:.0f} MiB resident")
    assert [record.error for record in served.records if record.error] == []
    assert len(served.records) == len(load)
    assert status.gpu.source == "nvml"
    assert [device.uuid for device in status.gpu.devices] == [host.card.uuid]
    assert usage.cpu_ratio <= CPU_LIMIT_RATIO
    assert usage.rss_bytes <= RSS_LIMIT_BYTES
