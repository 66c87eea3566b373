"""The agent's client and runner against the plug-in's own server and ring writer, in one process."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from llmserving_agent.actuation import Outcome
from llmserving_agent.actuator import ControlClient
from llmserving_agent.report import build_status
from llmserving_agent.runner import Runner, wall_clock
from llmserving_agent.sensors.ring import RingReader
from llmserving_agent.settings import Settings
from llmserving_api.control import Bounds, RuntimePatch, SLATargets
from llmserving_api.latency import bucket_of
from llmserving_api.names import ring_name, socket_name
from llmserving_api.status import AgentStatus
from llmserving_api.telemetry import Outcome as Ended
from llmserving_api.telemetry import RequestRecord
from llmserving_engine.bounds import Bounds as EngineBounds
from llmserving_engine.clock import SystemClock
from llmserving_engine.control import MODE_FULL, MODE_OBSERVE, Contract, ControlState
from llmserving_engine.health import Heartbeat
from llmserving_engine.ring import RingWriter
from llmserving_engine.server import ControlServer
from llmserving_engine.telemetry import RequestRow, StepRow
from llmserving_fakes.documents import engine_facts

FACTS = engine_facts(model="llama", cudagraph_capture_sizes=(1, 2, 4, *range(8, 513, 8))).model_dump(mode="json")


class Plugin:
    """The plug-in's server and ring of one rank, stepped by the test."""

    def __init__(self, folder: Path, *, contract: Contract | None = None, pid: int = 7, rank: int = 0) -> None:
        clock = SystemClock()
        contract = contract or Contract(MODE_FULL, ok=True)
        facts = {**FACTS, "pid": pid, "rank": rank}
        self.control = ControlState.create(clock, facts, contract, EngineBounds(512, 8192), EngineBounds(256, 8192))
        self.server = ControlServer(
            folder / socket_name(rank), self.control, Heartbeat(clock.monotonic_ns()), lambda: True
        )
        self.ring = RingWriter(folder / ring_name(rank), clock.monotonic_ns())
        self.clock = clock
        self.server.start()

    def step(self, *, running: int, waiting: int) -> None:
        """A step filled up with prefill: 20 ms and 12 µs for each token of it."""
        progress, now = self.control.progress, self.clock.monotonic_ns()
        progress.step += 1
        progress.running = running
        bounds = progress.applied.advance(self.control.desired, now, progress.step)
        prefill = max(0, bounds.max_num_batched_tokens - running)
        milliseconds = 20 + 0.012 * prefill
        progress.applied.observe(running, running + prefill)
        self.ring.step(
            StepRow(
                flags=0,
                step=progress.step,
                scheduled_ns=now,
                completed_ns=now,
                duration_ns=round(milliseconds * 1e6),
                prefill_tokens=prefill,
                decode_tokens=running,
                prefill_requests=1 if prefill else 0,
                decode_requests=running,
                decode_context_tokens=running * 1000,
                prefill_attention_tokens=0,
                padded_tokens=0,
                running=running,
                waiting=waiting,
                overdue_waiting=0,
                finished=0,
                preempted=0,
                kv_blocks_used=running * 60,
                kv_blocks_total=30000,
                max_num_seqs=bounds.max_num_seqs,
                max_num_batched_tokens=bounds.max_num_batched_tokens,
                token_budget=bounds.max_num_batched_tokens,
                held=0,
                oldest_waiting_ns=0,
                predicted_ns=0,
                operation_id=self.control.desired.operation_id,
                trim=1.0,
                gaps=[(bucket_of(milliseconds / 1e3), running)],
                first_tokens=[(bucket_of(0.3), 1)],
            )
        )

    def close(self) -> None:
        self.server.close()
        self.ring.close()


@pytest.fixture
def plugin(tmp_path: Path) -> Iterator[Plugin]:
    plugin = Plugin(tmp_path)
    yield plugin
    plugin.close()


def policy(revision: int = 1, **changes: Any) -> str:
    document = {
        "version": 1,
        "revision": revision,
        "namespace": "default",
        "name": "chat",
        "mode": "Auto",
        "law": "MemorySLA",
        "sla": {
            "time_to_first_token": {"percentile": 95, "target_seconds": 2.0},
            "inter_token_latency": {"percentile": 95, "target_seconds": 0.05},
        },
        "max_num_seqs": {"min": 8, "max": 512},
        "max_num_batched_tokens": {"min": 256, "max": 8192},
    }
    return json.dumps({**document, **changes})


async def test_client_reads_the_document_and_applies_a_change(tmp_path: Path, plugin: Plugin) -> None:
    client = ControlClient(tmp_path)
    assert client.ranks() == (0,)
    answer = await client.config(0)
    assert answer.outcome is Outcome.APPLIED
    assert answer.config is not None
    assert answer.config.ceilings == Bounds(max_num_seqs=512, max_num_batched_tokens=8192)
    patch = RuntimePatch(
        operation_id=answer.config.operation_id + 1,
        max_num_seqs=64,
        max_num_batched_tokens=1024,
        fallback=Bounds(max_num_seqs=128, max_num_batched_tokens=2048),
        lease_seconds=30.0,
        targets=SLATargets(ttft_seconds=2.0, itl_seconds=0.05),
    )
    answer = await client.patch(0, patch)
    assert answer.outcome is Outcome.APPLIED
    assert answer.config is not None
    assert answer.config.requested == Bounds(max_num_seqs=64, max_num_batched_tokens=1024)
    assert answer.config.targets.itl_seconds == pytest.approx(0.05)
    await client.close()


async def test_a_bound_above_the_ceiling_is_refused_with_field_value_and_range(tmp_path: Path, plugin: Plugin) -> None:
    client = ControlClient(tmp_path)
    answer = await client.patch(0, RuntimePatch(operation_id=1, max_num_seqs=513))
    assert (answer.outcome, answer.status) == (Outcome.REFUSED, 400)
    assert "max_num_seqs" in answer.message
    assert "513" in answer.message
    assert "1..512" in answer.message
    await client.close()


async def test_an_older_operation_is_refused(tmp_path: Path, plugin: Plugin) -> None:
    client = ControlClient(tmp_path)
    await client.patch(0, RuntimePatch(operation_id=9, max_num_seqs=64))
    answer = await client.patch(0, RuntimePatch(operation_id=8, max_num_seqs=32))
    assert (answer.outcome, answer.status) == (Outcome.REFUSED, 409)
    assert plugin.control.desired.requested.max_num_seqs == 64
    await client.close()


async def test_an_engine_that_can_only_be_observed_answers_501(tmp_path: Path) -> None:
    plugin = Plugin(tmp_path, contract=Contract(MODE_OBSERVE, ok=False, reason="no admission gate found"))
    client = ControlClient(tmp_path)
    answer = await client.patch(0, RuntimePatch(operation_id=1, max_num_seqs=64))
    assert (answer.outcome, answer.status) == (Outcome.REFUSED, 501)
    assert "no admission gate found" in answer.message
    await client.close()
    plugin.close()


async def test_a_missing_socket_is_unreachable(tmp_path: Path) -> None:
    client = ControlClient(tmp_path)
    answer = await client.config(0)
    assert answer.outcome is Outcome.UNREACHABLE
    assert "engine-0.sock" in answer.message
    await client.close()


class Agent:
    """A runner whose passes the test makes, with real time between them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.runner = Runner(Settings(control_dir=folder, policy_dir=folder, engine_metrics=""))

    def set_policy(self, document: str) -> None:
        scratch = self.folder / "new.json"
        scratch.write_text(document)
        scratch.rename(self.folder / "live.json")

    async def passes(self, until: Any, plugin: Plugin | None = None, limit_seconds: float = 20.0, **load: Any) -> None:
        end = time.monotonic() + limit_seconds
        while not until():
            assert time.monotonic() < end, self.status().model_dump_json(indent=1)
            if plugin is not None:
                plugin.step(**load)
            self.runner.tick(time.monotonic())
            await asyncio.sleep(0.02)

    def status(self) -> AgentStatus:
        now = time.monotonic()
        return build_status(self.runner.loop, now, wall_clock(now))


async def test_long_steps_with_prefill_lower_the_token_bound(tmp_path: Path, plugin: Plugin) -> None:
    agent = Agent(tmp_path)
    agent.set_policy(policy())
    await agent.passes(
        lambda: plugin.control.desired.requested.max_num_batched_tokens < 4096,
        plugin,
        running=30,
        waiting=4,
    )
    decision = agent.status().engines[0].last_decision
    assert decision is not None
    assert decision.acted
    assert "over target 50 ms" in decision.message
    assert "tokens" in decision.message


async def test_an_edit_is_reported_by_revision_after_the_engine_confirmed_it(tmp_path: Path, plugin: Plugin) -> None:
    agent = Agent(tmp_path)
    agent.set_policy(policy(1))
    await agent.passes(lambda: agent.status().policy_revision == 1)
    agent.set_policy(policy(2, max_num_seqs={"min": 8, "max": 64}))
    await agent.passes(lambda: agent.status().policy_revision == 2)
    assert plugin.control.desired.requested.max_num_seqs == 64
    assert plugin.control.desired.fallback.max_num_seqs == 64


async def test_advise_decides_and_leaves_the_engine_on_fallback_bounds(tmp_path: Path, plugin: Plugin) -> None:
    agent = Agent(tmp_path)
    agent.set_policy(policy(1, mode="Advise", max_num_batched_tokens={"min": 256, "max": 4096}))
    await agent.passes(
        lambda: any("ITL" in one.message for one in agent.status().decisions),
        plugin,
        running=30,
        waiting=4,
    )
    assert plugin.control.desired.requested == EngineBounds(256, 4096)
    assert not any(one.acted for one in agent.status().decisions)


async def test_an_observed_engine_is_never_asked_to_change(tmp_path: Path) -> None:
    plugin = Plugin(tmp_path, contract=Contract(MODE_OBSERVE, ok=False, reason="no admission gate found"))
    agent = Agent(tmp_path)
    agent.set_policy(policy())
    await agent.passes(lambda: agent.status().policy_revision == 1)
    status = agent.status().engines[0]
    assert status.last_decision is not None
    assert not status.last_decision.acted
    assert "no admission gate found" in status.last_decision.message
    assert plugin.control.desired.operation_id == 0
    plugin.close()


async def test_a_restarted_engine_is_adopted_again(tmp_path: Path) -> None:
    first = Plugin(tmp_path, pid=7)
    agent = Agent(tmp_path)
    agent.set_policy(policy())
    await agent.passes(lambda: first.control.desired.operation_id > 0)
    first.close()
    await agent.passes(lambda: not agent.status().engines[0].reachable)
    second = Plugin(tmp_path, pid=8)
    await agent.passes(lambda: second.control.desired.operation_id > 0)
    facts = agent.status().engines[0].facts
    assert facts is not None
    assert facts.pid == 8
    second.close()


async def test_a_restarted_agent_goes_on_from_the_bounds_in_force(tmp_path: Path, plugin: Plugin) -> None:
    client = ControlClient(tmp_path)
    await client.patch(0, RuntimePatch(operation_id=41, max_num_seqs=96, max_num_batched_tokens=768))
    await client.close()
    agent = Agent(tmp_path)
    agent.set_policy(policy())
    await agent.passes(lambda: plugin.control.desired.operation_id > 41)
    assert plugin.control.desired.requested == EngineBounds(96, 768)
    assert plugin.control.desired.operation_id == 42


async def test_every_rank_has_its_own_bounds(tmp_path: Path) -> None:
    plugins = [Plugin(tmp_path, rank=rank) for rank in range(2)]
    agent = Agent(tmp_path)
    agent.set_policy(policy())
    await agent.passes(
        lambda: plugins[0].control.desired.requested.max_num_batched_tokens < 8192,
        plugins[0],
        running=30,
        waiting=4,
    )
    assert plugins[1].control.desired.requested.max_num_batched_tokens == 8192
    assert [engine.rank for engine in agent.status().engines] == [0, 1]
    for plugin in plugins:
        plugin.close()


def child_of(pid: int) -> int | None:
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return int(children[0]) if children else None


def wait_until(condition: Callable[[], bool], limit_seconds: float = 60.0) -> None:
    end = time.monotonic() + limit_seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def is_ready(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/readyz").status_code == 200
    except httpx.HTTPError:
        return False


def test_a_killed_loop_comes_back_and_goes_on_from_the_bounds_in_force(tmp_path: Path, plugin: Plugin) -> None:
    """The real process: supervisor, loop, sockets, files."""
    (tmp_path / "seed.json").write_text(policy(1, max_num_seqs={"min": 8, "max": 48}))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "llmserving_agent", "supervise", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--control-dir", str(tmp_path), "--policy-dir", str(tmp_path), "--engine-metrics", ""]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        wait_until(lambda: plugin.control.desired.requested.max_num_seqs == 48)
        before, loop = plugin.control.desired, child_of(process.pid)
        assert loop is not None
        os.kill(loop, signal.SIGKILL)
        wait_until(lambda: plugin.control.desired.operation_id > before.operation_id)
        assert plugin.control.desired.requested == before.requested
        assert child_of(process.pid) not in (None, loop)
        wait_until(lambda: is_ready(port))
        status = AgentStatus.model_validate_json(httpx.get(f"http://127.0.0.1:{port}/v1/status").content)
        assert status.policy_revision == 1
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    events = [json.loads(line)["event"] for line in (tmp_path / "log").read_text().splitlines()]
    assert events.count("loop started") == 2
    assert "decision" in events


def test_request_rows_are_read_as_written(tmp_path: Path, plugin: Plugin) -> None:
    plugin.ring.request(RequestRow(0, 1, 2, 100, 16, 7, 6, 1, 0, -3, 1, 1, 0.25, 1.5, 0.1, 0.08))
    (record,) = RingReader(tmp_path / ring_name(0)).read().records
    assert record == RequestRecord(Ended.FINISHED, 1, 2, 100, 16, 7, 6, 1, 0, -3, 1, 1, 0.25, 1.5, 0.1, 0.08)
