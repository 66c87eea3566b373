"""One LLMServing in a cluster, and what a test asks of it."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import httpx

from llmserving_api.names import LABEL_RESOURCE, PORT_AGENT
from llmserving_api.status import PATH_STATUS, AgentStatus
from llmserving_lab.demo.settings import MODEL, NAMESPACE
from llmserving_lab.demo.site import Site
from llmserving_lab.traces.arrival import Arrival
from llmserving_lab.traffic.__main__ import write_load
from llmserving_lab.traffic.record import RequestRecord

READY_SECONDS = 180.0
PATIENCE_SECONDS = 60.0
LOAD_SECONDS = 180.0

Manifest = dict[str, Any]
T = TypeVar("T")


class NotInTimeError(AssertionError):
    """Something that should have happened did not."""


def eventually(what: str, check: Callable[[], T | None], seconds: float = PATIENCE_SECONDS) -> T:
    """The first true answer of a check.

    Raises:
        NotInTimeError: there was none; the message says what was waited for.
    """
    deadline = time.monotonic() + seconds
    while True:
        answer = check()
        if answer:
            return answer
        if time.monotonic() >= deadline:
            raise NotInTimeError(f"not within {seconds:.0f} s: {what}")
        time.sleep(0.5)


class Serving:
    """One LLMServing and what a test asks of it."""

    def __init__(self, site: Site, name: str) -> None:
        self._site = site
        self.name = name

    def manifest(self) -> Manifest:
        """The resource, as the API server has it."""
        found: Manifest = json.loads(self._site.kubectl("get", "llmserving", self.name, "--output=json"))
        return found

    def conditions(self) -> dict[str, str]:
        """Condition → status."""
        return {one["type"]: one["status"] for one in self.manifest().get("status", {}).get("conditions", [])}

    def is_ready(self) -> bool:
        """Whether the resource says it is Ready."""
        return self.conditions().get("Ready") == "True"

    def wait_ready(self) -> None:
        """Wait for the condition Ready.

        Raises:
            NotInTimeError: it does not come.
        """
        eventually(f"{self.name} is Ready", self.is_ready, READY_SECONDS)

    def pod(self) -> Manifest:
        """Its only pod."""
        (pod,) = self._site.objects("pods", NAMESPACE, f"{LABEL_RESOURCE}={self.name}")
        return pod

    def patch(self, spec: Manifest) -> int:
        """Edit it as a user does; its generation afterwards."""
        answer = self._site.kubectl(
            "patch",
            "llmserving",
            self.name,
            "--type=merge",
            f"--patch={json.dumps({'spec': spec})}",
            "--output=jsonpath={.metadata.generation}",
        )
        return int(answer)

    def agent(self) -> AgentStatus | None:
        """What its agent says; None while it does not answer."""
        try:
            port = self._site.forward(NAMESPACE, self.pod()["metadata"]["name"], PORT_AGENT)
            answer = httpx.get(f"http://127.0.0.1:{port}{PATH_STATUS}", trust_env=False, timeout=5)
        except httpx.HTTPError:
            return None
        return AgentStatus.model_validate_json(answer.content)

    def wait_applied(self, generation: int) -> AgentStatus:
        """Wait until the engine has confirmed a generation of the resource.

        Raises:
            NotInTimeError: it does not.
        """

        def applied() -> AgentStatus | None:
            status = self.agent()
            return status if status is not None and (status.policy_revision or 0) >= generation else None

        return eventually(f"generation {generation} in the engine", applied)

    def execute(self, container: str, code: str) -> str:
        """Run Python in one of the pod's containers."""
        pod = self.pod()["metadata"]["name"]
        return self._site.kubectl("exec", pod, f"--container={container}", "--", "python3", "-c", code)

    def start_load(self, arrivals: Sequence[Arrival], folder: Path) -> subprocess.Popen[str]:
        """Begin to send requests through the Service."""
        load = folder / "load.json"
        write_load(load, list(arrivals))
        command, url = self._site.client(
            NAMESPACE,
            self.name,
            [sys.executable, "-m", "llmserving_lab.traffic", f"--load={load}", f"--model={MODEL}"],
        )
        return subprocess.Popen([*command, f"--url={url}"], stdout=subprocess.PIPE, text=True)


def restarts(pod: Manifest) -> int:
    """Restarts of all containers of a pod."""
    statuses = pod["status"].get("containerStatuses", []) + pod["status"].get("initContainerStatuses", [])
    return sum(int(status["restartCount"]) for status in statuses)


def steady_load(rate: float, seconds: float) -> list[Arrival]:
    """Requests of one kind at a constant rate."""
    return [Arrival(number / rate, 400, 120) for number in range(round(rate * seconds))]


def finished_load(process: subprocess.Popen[str]) -> list[RequestRecord]:
    """What a load's process measured, when it has ended.

    Raises:
        RuntimeError: the process failed.
    """
    out, _ = process.communicate(timeout=LOAD_SECONDS)
    if process.returncode != 0:
        raise RuntimeError("the traffic process failed; its error is above")
    return [RequestRecord.from_json(line) for line in out.splitlines()[1:]]
