"""What the agent costs: processor time and memory of the real process beside an engine that steps 100 times a second.

    .venv/bin/python agent/benchmarks/cost.py [--law Predictive] [--seconds 30] [--steps 100] [--json FILE]

A stand-in for the engine (the plug-in's own control server and ring writer, no vLLM) runs in a process of its own: 16 to 112
decodes a step, a prompt of any length in every second one, one finished request every second step, metrics scraped every 5 s
and status polled every second as the operator does. The figures are of `llmserving-agent supervise` and the loop it started,
from /proc. Exit status 1 when they exceed 2 % of a core or 96 MiB.
"""

import argparse
import json
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from random import Random

from llmserving_api.latency import bucket_of
from llmserving_api.names import ring_name, socket_name
from llmserving_api.policy import DEFAULT_LAW
from llmserving_engine.bounds import Bounds
from llmserving_engine.clock import SystemClock
from llmserving_engine.control import MODE_FULL, Contract, ControlState
from llmserving_engine.health import Heartbeat
from llmserving_engine.ring import RingWriter
from llmserving_engine.server import ControlServer
from llmserving_engine.telemetry import RequestRow, StepRow

CPU_LIMIT_RATIO = 0.02
RSS_LIMIT_BYTES = 96 << 20
WARM_UP_SECONDS = 5.0
FACTS = {
    "vllm_version": "0.32.0",
    "scheduler_class": "StandIn",
    "rank": 0,
    "pid": 1,
    "model": "stand-in",
    "max_model_len": 8192,
    "block_size": 16,
    "num_gpu_blocks": 30000,
    "async_scheduling": True,
    "chunked_prefill": True,
    "prefix_caching": True,
    "tensor_parallel_size": 1,
    "pipeline_parallel_size": 1,
    "data_parallel_size": 1,
}
POLICY = {
    "version": 1,
    "revision": 1,
    "namespace": "default",
    "name": "bench",
    "mode": "Auto",
    "sla": {
        "time_to_first_token": {"percentile": 95, "target_seconds": 2.0},
        "inter_token_latency": {"percentile": 95, "target_seconds": 0.05},
    },
    "max_num_seqs": {"min": 8, "max": 512},
    "max_num_batched_tokens": {"min": 256, "max": 8192},
}


def stand_in(folder: Path, steps_per_second: float) -> None:
    """Be an engine until killed."""
    clock = SystemClock()
    control = ControlState.create(clock, FACTS, Contract(MODE_FULL, ok=True), Bounds(512, 8192), Bounds(256, 8192))
    ControlServer(folder / socket_name(0), control, Heartbeat(clock.monotonic_ns()), lambda: True).start()
    ring = RingWriter(folder / ring_name(0), clock.monotonic_ns())
    noise = Random(1)
    period = 1 / steps_per_second
    due = time.monotonic()
    while True:
        due += period
        time.sleep(max(0.0, due - time.monotonic()))
        progress, now = control.progress, clock.monotonic_ns()
        progress.step += 1
        bounds = progress.applied.advance(control.desired, now, progress.step)
        progress.applied.observe(64, 512)
        decodes = noise.randint(16, 112)
        prefill = noise.randint(1, max(1, bounds.max_num_batched_tokens - decodes)) if progress.step % 2 else 0
        duration = round((8e-3 + 6e-5 * decodes + 4e-5 * min(prefill, 512)) * noise.gauss(1.0, 0.02) * 1e9)
        gaps: dict[int, int] = {}
        for _ in range(decodes):
            bucket = bucket_of(noise.gauss(0.03, 0.003))
            gaps[bucket] = gaps.get(bucket, 0) + 1
        row = StepRow(
            *(0, progress.step, now, now, duration),
            *(prefill, decodes, min(1, prefill), decodes, 1000 * decodes, prefill * prefill // 2, 0),
            *(decodes + 1, 3, 0, 0, 0, 4000, 30000),
            *(bounds.max_num_seqs, bounds.max_num_batched_tokens, bounds.max_num_batched_tokens, 0, 0, 0, 0, 1.0),
            gaps=list(gaps.items()),
            first_tokens=[(bucket_of(0.3), 1)] if prefill else [],
        )
        ring.step(row)
        if progress.step % 2:
            ring.request(RequestRow(0, now - 5 * 10**9, now, 1000, 0, 150, 149, 3, 0, 0, 0, 0, 0.3, 5.0, 0.1, 0.06))


def process_seconds(pid: int) -> float:
    """User and system time of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def process_rss(pid: int) -> int:
    """Most memory a process has had resident, in bytes."""
    status = Path(f"/proc/{pid}/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) << 10


def child_of(pid: int) -> int:
    """The one child of a process."""
    return int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])


def wait_for(url: str, log: Path, limit_seconds: float = 60.0) -> None:
    """Wait until a URL answers 200; ends the program with the agent's log otherwise."""
    end = time.monotonic() + limit_seconds
    while time.monotonic() < end:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except OSError:
            time.sleep(0.2)
    sys.exit(f"{url} did not answer in {limit_seconds:.0f} s:\n{log.read_text()}")


def measure(folder: Path, law: str, seconds: float) -> dict[str, float]:
    """Run the agent beside the stand-in and read what it used."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    (folder / "live.json").write_text(json.dumps(POLICY | {"law": law}))
    command = [sys.executable, "-m", "llmserving_agent", "supervise", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--control-dir", str(folder), "--policy-dir", str(folder), "--engine-metrics", ""]
    with (folder / "agent.log").open("wb") as log:
        supervisor = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        wait_for(f"http://127.0.0.1:{port}/readyz", folder / "agent.log")
        time.sleep(WARM_UP_SECONDS)
        loop = child_of(supervisor.pid)
        started, used = time.monotonic(), process_seconds(loop) + process_seconds(supervisor.pid)
        for second in range(round(seconds)):
            paths = ["/v1/status"] + (["/metrics"] if second % 5 == 0 else [])
            for path in paths:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
                    status = answer.read()
                    if path == "/v1/status":
                        document = json.loads(status)
            time.sleep(max(0.0, started + second + 1 - time.monotonic()))
        used = process_seconds(loop) + process_seconds(supervisor.pid) - used
        elapsed = time.monotonic() - started
        engine = document["engines"][0]
        return {
            "elapsed_seconds": round(elapsed, 2),
            "cpu_ratio": round(used / elapsed, 4),
            "loop_rss_bytes": process_rss(loop),
            "supervisor_rss_bytes": process_rss(supervisor.pid),
            "requests_seen": document["latency"]["requests"],
            "telemetry_age_seconds": round(engine["telemetry_age_seconds"], 3),
        }
    finally:
        supervisor.send_signal(signal.SIGTERM)
        supervisor.wait(20)


def main() -> int:
    """Measure, print, judge."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--law", default=DEFAULT_LAW.value)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--steps", type=float, default=100.0, help="engine steps a second")
    parser.add_argument("--json", type=Path, help="write the figures here too")
    flags = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        engine = multiprocessing.get_context("spawn").Process(target=stand_in, args=(Path(name), flags.steps))
        engine.start()
        try:
            figures = measure(Path(name), flags.law, flags.seconds)
        finally:
            engine.kill()
            engine.join()
    rss = figures["loop_rss_bytes"] + figures["supervisor_rss_bytes"]
    print(json.dumps(figures, indent=1))
    print(f"{figures['cpu_ratio']:.2%} of a core (limit {CPU_LIMIT_RATIO:.0%})")
    print(f"{rss / 2**20:.1f} MiB resident in both processes (limit {RSS_LIMIT_BYTES >> 20})")
    if flags.json is not None:
        flags.json.write_text(json.dumps(figures, indent=1) + "\n")
    return int(figures["cpu_ratio"] > CPU_LIMIT_RATIO or rss > RSS_LIMIT_BYTES)


if __name__ == "__main__":
    sys.exit(main())
