"""The agent's real process beside a server, as its container runs it, and what it uses."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx

from llmserving_api.policy import Policy
from llmserving_api.status import PATH_STATUS, AgentStatus
from llmserving_lab.serving.server import VLLMServer, free_port

CPU_LIMIT_RATIO = 0.02
"""Of one core, on average while the engine serves."""
RSS_LIMIT_BYTES = 96 << 20
"""Most that both processes, supervisor and loop, may have had resident."""
READY_SECONDS = 60.0
STOP_SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class Usage:
    """What the agent used over a span.

    Attributes:
        cpu_ratio: Processor time over elapsed time.
        rss_bytes: Most that was resident, both processes together.
    """

    cpu_ratio: float
    rss_bytes: int


class AgentProcess:
    """`llmserving-agent supervise` beside a server; use it as a context manager, which waits until it is ready."""

    def __init__(self, server: VLLMServer, folder: Path, policy: Policy, environment: Mapping[str, str]):
        """Start it.

        Args:
            server: The server whose control folder it uses.
            folder: Empty folder for its policy and log; made if need be.
            policy: What it acts on.
            environment: Environment of the process.
        """
        folder.mkdir(parents=True)
        (folder / "live.json").write_text(policy.model_dump_json())
        self.log = folder / "agent.log"
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        command = [
            *(sys.executable, "-m", "llmserving_agent", "supervise", "--host", "127.0.0.1", "--port", str(port)),
            *("--control-dir", str(server.control), "--policy-dir", str(folder)),
            *("--engine-metrics", f"{server.url}/metrics"),
        ]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(command, env=dict(environment), stdout=log, stderr=log)
        self._since = (0.0, 0.0)

    def __enter__(self) -> Self:
        end = time.monotonic() + READY_SECONDS
        while time.monotonic() < end:
            try:
                if httpx.get(f"{self.url}/readyz", timeout=5).status_code == 200:
                    return self
            except httpx.HTTPError:
                pass
            time.sleep(0.2)
        self.stop()
        raise TimeoutError(f"the agent is not ready after {READY_SECONDS:.0f} s: {self.log.read_text()[-2000:]}")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """End it as a container ends."""
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def status(self) -> AgentStatus:
        """Its own report."""
        return AgentStatus.model_validate(httpx.get(f"{self.url}{PATH_STATUS}", timeout=10).json())

    def start_measuring(self) -> None:
        """Begin the span of `usage`."""
        self._since = (time.monotonic(), sum(_cpu_seconds(pid) for pid in self._pids()))

    def usage(self) -> Usage:
        """What it used since `start_measuring`; the loop must not have been respawned meanwhile."""
        began, used = self._since
        pids = self._pids()
        seconds = sum(_cpu_seconds(pid) for pid in pids) - used
        return Usage(seconds / (time.monotonic() - began), sum(_peak_rss_bytes(pid) for pid in pids))

    def _pids(self) -> tuple[int, ...]:
        pid = self.process.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return (pid, *(int(child) for child in children))


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _peak_rss_bytes(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmHWM:")).split()[1]) << 10
