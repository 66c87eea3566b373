"""A vLLM API server in a process of its own, with the plug-in put in by the environment alone, as in a pod."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import signal
import socket
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx

from llmserving_api.names import ENV_CONTROL_DIR, socket_name
from llmserving_lab.serving.control import call_control

SERVED_NAME = "m"
START_SECONDS = 600.0
STOP_SECONDS = 60.0
LOG_TAIL = 4000

_ENTRY_POINTS = "[vllm.general_plugins]\nllmserving = llmserving_engine.plugin:register\n"
_METADATA = "Metadata-Version: 2.1\nName: llmserving-engine\nVersion: 0\n"


class ServerFailedError(RuntimeError):
    """The server did not come up; the message holds the end of its log."""


@dataclass(frozen=True, slots=True)
class ServerPlan:
    """A server to start.

    Attributes:
        python: Interpreter that has vLLM.
        model: Model folder.
        arguments: Flags of vLLM besides model, name, host and port.
        environment: Environment of the process.
        plugin: Whether the plug-in is put in.
    """

    python: Path
    model: Path
    arguments: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))
    plugin: bool = True


class VLLMServer:
    """A running server; use it as a context manager, which waits until it is healthy and stops it at the end."""

    def __init__(self, plan: ServerPlan, folder: Path) -> None:
        """Start it.

        Args:
            plan: What to start.
            folder: Empty folder for its log, its control socket and the plug-in; made if need be.
        """
        folder.mkdir(parents=True, exist_ok=True)
        self.plan = plan
        self.control = folder / "control"
        self.control.mkdir()
        self.log = folder / "server.log"
        self.url = f"http://127.0.0.1:{free_port()}"
        environment = {"VLLM_NO_USAGE_STATS": "1", "HF_HUB_OFFLINE": "1", "DO_NOT_TRACK": "1", **plan.environment}
        environment.pop(ENV_CONTROL_DIR, None)  # without it the plug-in stays out, also where it is installed
        if plan.plugin:
            site = folder / "site"
            put_plugin(site)
            paths = [str(site), environment.get("PYTHONPATH", "")]
            environment["PYTHONPATH"] = os.pathsep.join(path for path in paths if path)
            environment[ENV_CONTROL_DIR] = str(self.control)
        command = [
            *(str(plan.python), "-m", "vllm.entrypoints.openai.api_server", "--model", str(plan.model)),
            *("--served-model-name", SERVED_NAME, "--host", "127.0.0.1", "--port", self.url.rsplit(":", 1)[1]),
            *plan.arguments,
        ]
        with self.log.open("w") as log:
            # A session of its own: whatever vLLM starts ends with it.
            self.process = subprocess.Popen(
                command, env=environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
            )

    def __enter__(self) -> Self:
        try:
            self.wait()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def wait(self, seconds: float = START_SECONDS) -> None:
        """Wait until the server is healthy.

        Raises:
            ServerFailedError: it ended, or takes longer.
        """
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if self.process.poll() is not None:
                raise ServerFailedError(f"vLLM ended with code {self.process.returncode}: {self.log_tail()}")
            try:
                if httpx.get(f"{self.url}/health", timeout=5).status_code == 200:
                    return
            except httpx.HTTPError:
                pass
            time.sleep(0.5)
        raise ServerFailedError(f"vLLM is not healthy after {seconds:.0f} s: {self.log_tail()}")

    def stop(self) -> None:
        """End it and everything it started."""
        self.process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(STOP_SECONDS)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def call(self, method: str, target: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """A call of the plug-in's control API."""
        return call_control(self.control / socket_name(0), method, target, body)

    def log_tail(self) -> str:
        """The end of its log."""
        return self.log.read_text(errors="replace")[-LOG_TAIL:]


def put_plugin(site: Path) -> None:
    """What the init container leaves in a pod: the plug-in's package and its metadata, nothing else of the project."""
    found = importlib.util.find_spec("llmserving_engine")
    if found is None or not found.submodule_search_locations:
        raise ServerFailedError("the package llmserving_engine is not importable: run `make setup`")
    metadata = site / "llmserving_engine-0.dist-info"
    metadata.mkdir(parents=True)
    (site / "llmserving_engine").symlink_to(Path(found.submodule_search_locations[0]).resolve())
    (metadata / "METADATA").write_text(_METADATA)
    (metadata / "entry_points.txt").write_text(_ENTRY_POINTS)


def free_port() -> int:
    """A port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
