"""The operator as a process of its own, against a real API server, with the rights of the install manifest.

There is no kubelet: tests play it by writing the status of pods, and agents are small HTTP servers on loopback
addresses of their own.
"""

import itertools
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, TypeVar

import pytest
import yaml

from llmserving_api.names import PORT_AGENT
from llmserving_lab.cluster.embedded import EmbeddedCluster

ROOT = Path(__file__).parents[3]
SYSTEM = "llmserving-system"
PATIENCE_SECONDS = 90.0
"""The garbage collector looks for new kinds every 30 s, and is late on a busy machine: only then does it see ours go."""

T = TypeVar("T")
Resource = dict[str, Any]

_numbers = itertools.count(1)


class Kubectl:
    """What a user does, in one namespace."""

    def __init__(self, cluster: EmbeddedCluster, namespace: str) -> None:
        self._cluster = cluster
        self.namespace = namespace

    def run(self, *arguments: str, stdin: str | None = None) -> str:
        return self._cluster.kubectl("-n", self.namespace, *arguments, stdin=stdin)

    def get(self, kind: str, name: str) -> Resource:
        found: Resource = json.loads(self.run("get", kind, name, "-o", "json"))
        return found

    def list(self, kind: str, selector: str = "") -> list[Resource]:
        found: list[Resource] = json.loads(
            self.run("get", kind, "-o", "json", *(["-l", selector] if selector else []))
        )["items"]
        return found

    def apply(self, resource: Resource) -> None:
        self.run("apply", "-f", "-", stdin=yaml.safe_dump(resource))

    def patch(self, kind: str, name: str, change: Resource, *flags: str) -> None:
        self.run("patch", kind, name, "--type=merge", "-p", json.dumps(change), *flags)


class RunningOperator:
    """An operator's process and what it logged."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self.process = process
        self._log = log

    def count(self, event: str) -> int:
        lines = [line for line in self._log.read_text().splitlines() if line.startswith("{")]
        return sum(json.loads(line)["event"] == event for line in lines)


@contextmanager
def running_operator(kubeconfig: Path, namespace: str, log: Path, **settings: str) -> Iterator[RunningOperator]:
    """An operator for one namespace; it must still run at the end, and stop when told to."""
    environment = {
        **{key: value for key, value in os.environ.items() if not key.startswith("LLMSERVING_")},
        "KUBECONFIG": str(kubeconfig),
        "LLMSERVING_OPERATOR_AGENT_IMAGE": "llmserving/agent:1",
        "LLMSERVING_OPERATOR_NAMESPACES": namespace,
        "LLMSERVING_OPERATOR_POLL_SECONDS": "0.3",
        "LLMSERVING_OPERATOR_SETTLE_POLL_SECONDS": "0.2",
        "LLMSERVING_OPERATOR_BIND": "127.0.0.1",
        "LLMSERVING_OPERATOR_PORT": "0",
        "LLMSERVING_OPERATOR_LOG_LEVEL": "debug",
        "LLMSERVING_OPERATOR_LEASE_NAMESPACE": SYSTEM,
        "LLMSERVING_OPERATOR_LEASE_NAME": "llmserving-operator",
        "LLMSERVING_OPERATOR_IDENTITY": f"test-{next(_numbers)}",
        **{f"LLMSERVING_OPERATOR_{key.upper()}": value for key, value in settings.items()},
    }
    with log.open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "llmserving_operator"], env=environment, stdout=output, stderr=output
        )
    try:
        yield RunningOperator(process, log)
        assert process.poll() in (None, 0), f"the operator ended:\n{log.read_text()[-3000:]}"
    finally:
        process.terminate()
        process.wait(20)
    assert process.returncode == 0, log.read_text()[-3000:]
    assert "UserWarning" not in log.read_text(), log.read_text()[-3000:]
    assert "orbidden" not in log.read_text(), log.read_text()[-3000:]


class FakeAgent:
    """An agent that says what it is told to say."""

    def __init__(self, address: str, status: Resource) -> None:
        self.address = address
        self.status = status
        agent = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = json.dumps(agent.status).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer((address, PORT_AGENT), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        self.server.shutdown()
        self.server.server_close()


def agent_status(revision: int, **engine: Any) -> Resource:
    bounds = {"max_num_seqs": 64, "max_num_batched_tokens": 2048}
    contract = {"mode": "full", "ok": True}
    one = {
        "rank": 0,
        "reachable": True,
        "requested": bounds,
        "applied": bounds,
        "effective": bounds,
        "contract": contract,
    }
    return {
        "agent_version": "1",
        "policy_revision": revision,
        "mode": "Auto",
        "law": "MemorySLA",
        "engines": [{**one, **engine}],
        "latency": {"window_seconds": 300, "ttft": {"180": 100}, "itl": {"150": 1000}, "requests": 100, "good": 99},
        "gpu": {"source": "nvml"},
    }


@pytest.fixture
def agent_for() -> Callable[..., Resource]:
    """Status of an agent that acts on a policy revision; other fields of its engine by keyword."""
    return agent_status


@pytest.fixture(scope="session")
def installed(control_plane: EmbeddedCluster, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Everything of the install manifest but the operator's Deployment; a kubeconfig with the operator's token."""
    wanted = (
        "Namespace",
        "ServiceAccount",
        "CustomResourceDefinition",
        "ClusterRole",
        "ClusterRoleBinding",
        "Role",
        "RoleBinding",
    )
    documents = yaml.safe_load_all((ROOT / "manifests" / "install.yaml").read_text())
    chosen = [document for document in documents if document and document["kind"] in wanted]
    control_plane.kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=yaml.safe_dump_all(chosen))
    control_plane.kubectl("wait", "--for=condition=Established", "crd/llmservings.llmserving.io", "--timeout=30s")
    token = control_plane.kubectl("-n", SYSTEM, "create", "token", "llmserving-operator").strip()
    config = yaml.safe_load(control_plane.kubeconfig.read_text())
    config["users"] = [{"name": user["name"], "user": {"token": token}} for user in config["users"]]
    path = tmp_path_factory.mktemp("operator") / "kubeconfig"
    path.write_text(yaml.safe_dump(config))
    return path


@pytest.fixture(scope="session")
def shared(installed: Path, control_plane: EmbeddedCluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A namespace with an operator for all tests that need no operator of their own."""
    control_plane.kubectl("create", "namespace", "shared")
    log = tmp_path_factory.mktemp("operator") / "operator.log"
    with running_operator(installed, "shared", log, lease_name="shared", lease_namespace=""):
        yield "shared"


@pytest.fixture
def kubectl(shared: str, control_plane: EmbeddedCluster) -> Kubectl:
    return Kubectl(control_plane, shared)


@pytest.fixture
def own(control_plane: EmbeddedCluster) -> Kubectl:
    """A namespace without an operator."""
    name = f"own-{next(_numbers)}"
    control_plane.kubectl("create", "namespace", name)
    return Kubectl(control_plane, name)


@pytest.fixture
def start_operator(installed: Path, own: Kubectl, tmp_path: Path) -> Callable[..., Any]:
    """Start an operator for the test's own namespace, as a context."""
    return lambda **settings: running_operator(
        installed, own.namespace, tmp_path / f"operator-{next(_numbers)}.log", **settings
    )


@pytest.fixture
def new_resource() -> Callable[..., Resource]:
    """An LLMServing with a name of its own."""

    def make(**spec: Any) -> Resource:
        return {
            "apiVersion": "llmserving.io/v1alpha1",
            "kind": "LLMServing",
            "metadata": {"name": f"chat{next(_numbers)}"},
            "spec": {
                "model": {"uri": "hf://Qwen/Qwen2.5-7B-Instruct"},
                "engine": {"image": "vllm/vllm-openai:v0.32.0", "resources": {"limits": {"nvidia.com/gpu": 1}}},
                "sla": {"timeToFirstToken": {"target": "2s"}, "interTokenLatency": {"target": "50ms"}},
                **spec,
            },
        }

    return make


@pytest.fixture
def eventually() -> Callable[..., Any]:
    """Ask until the answer is true; fail with the last one."""

    def wait(ask: Callable[[], T]) -> T:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                answer: T | None = ask()
            except RuntimeError:  # kubectl found nothing yet
                if time.monotonic() > deadline:
                    raise
                answer = None
            if answer:
                return answer
            assert time.monotonic() < deadline, f"last answer: {answer!r}"
            time.sleep(0.2)

    return wait


@pytest.fixture
def make_ready() -> Iterator[Callable[[Kubectl, str, Resource], FakeAgent]]:
    """Play the kubelet for one pod: it runs and is ready, and its agent answers."""
    agents: list[FakeAgent] = []

    def play(kubectl: Kubectl, pod: str, status: Resource) -> FakeAgent:
        agent = FakeAgent(f"127.77.0.{next(_numbers)}", status)
        agents.append(agent)
        running = {"state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}}, "ready": True, "restartCount": 0}
        change = {
            "status": {
                "phase": "Running",
                "podIP": agent.address,
                "podIPs": [{"ip": agent.address}],
                "conditions": [
                    {"type": kind, "status": "True"} for kind in ("Ready", "ContainersReady", "PodScheduled")
                ],
                "initContainerStatuses": [{"name": "agent", "image": "a", "imageID": "a", **running}],
            }
        }
        kubectl.patch("pod", pod, change, "--subresource=status")
        return agent

    yield play
    for agent in agents:
        agent.stop()
