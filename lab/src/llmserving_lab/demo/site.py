"""Where the demo runs: the embedded cluster, or one of the user's own, behind one interface."""

from __future__ import annotations

import contextlib
import json
import os
import re
import select
import shutil
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from llmserving_lab.cluster.embedded import EmbeddedCluster
from llmserving_lab.cluster.errors import ClusterError
from llmserving_lab.cluster.progress import say, step
from llmserving_lab.cluster.tools import Toolchain
from llmserving_lab.images.build import Image

PORT_FORWARD_SECONDS = 15.0


class Site(ABC):
    """A cluster and the ways into it.

    Attributes:
        kubectl_program: The kubectl to call.
        kubeconfig: How it reaches the cluster.
        ready_seconds: Time from the cluster's start until it was ready; None for one that was there before.
    """

    def __init__(self, kubectl_program: Path, kubeconfig: Path, ready_seconds: float | None) -> None:
        self.kubectl_program = kubectl_program
        self.kubeconfig = kubeconfig
        self.ready_seconds = ready_seconds

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        """Run kubectl and return what it prints.

        Raises:
            ClusterError: kubectl failed; the message is its own.
        """
        finished = subprocess.run(
            self.kubectl_command(*arguments), input=stdin, capture_output=True, text=True, check=False
        )
        if finished.returncode != 0:
            raise ClusterError(f"kubectl {' '.join(arguments)}: {finished.stderr.strip()}")
        return finished.stdout

    def kubectl_command(self, *arguments: str) -> list[str]:
        """The command line of a kubectl call."""
        return [str(self.kubectl_program), f"--kubeconfig={self.kubeconfig}", *arguments]

    def objects(self, kind: str, namespace: str, selector: str = "") -> list[dict[str, Any]]:
        """Objects of a kind, as the API server has them."""
        chosen = [f"--selector={selector}"] if selector else []
        items: list[dict[str, Any]] = json.loads(
            self.kubectl("get", kind, f"--namespace={namespace}", *chosen, "--output=json")
        )["items"]
        return items

    @property
    def version(self) -> str:
        """Version of the API server."""
        return str(json.loads(self.kubectl("version", "--output=json"))["serverVersion"]["gitVersion"])

    @abstractmethod
    def load(self, images: Iterable[Image]) -> None:
        """Make images available to pods."""

    @abstractmethod
    def forward(self, namespace: str, pod: str, port: int) -> int:
        """Carry connections from a port of 127.0.0.1 to a pod's port; returns that port."""

    @abstractmethod
    def client(self, namespace: str, service: str, arguments: Sequence[str]) -> tuple[list[str], str]:
        """A client of a service: the command line that runs `arguments` where it can be reached, and its URL there."""

    def close(self) -> None:
        """Release what `forward` and `client` hold: nothing, unless a site says otherwise."""
        return


class EmbeddedSite(Site):
    """The embedded cluster of this process."""

    def __init__(self, cluster: EmbeddedCluster) -> None:
        super().__init__(cluster.programs["kubectl"], cluster.kubeconfig, cluster.ready_seconds)
        self.cluster = cluster

    def load(self, images: Iterable[Image]) -> None:
        """Import the archives into the node's containerd."""
        for image in images:
            with step(f"loading the image {image.target}"):
                self.cluster.load_image(image.archive)

    def forward(self, namespace: str, pod: str, port: int) -> int:
        """Through the cluster's own forwarder."""
        status = json.loads(self.kubectl("get", "pod", pod, f"--namespace={namespace}", "--output=json"))["status"]
        return self.cluster.forward(status["podIP"], port)

    def client(self, namespace: str, service: str, arguments: Sequence[str]) -> tuple[list[str], str]:
        """Inside the cluster's network, where the service's own address works."""
        spec = json.loads(self.kubectl("get", "service", service, f"--namespace={namespace}", "--output=json"))["spec"]
        return self.cluster.command(arguments), f"http://{spec['clusterIP']}:{spec['ports'][0]['port']}"


class OwnSite(Site):
    """A cluster of the user's own. Connections go through `kubectl port-forward`, which picks one pod of a service."""

    def __init__(self, kubeconfig: Path) -> None:
        super().__init__(Toolchain().find(["kubectl"])["kubectl"], kubeconfig, None)
        self._forwards: list[subprocess.Popen[str]] = []

    def load(self, images: Iterable[Image]) -> None:
        """Into the lab's own detached cluster or a kind cluster; other clusters must have the images already."""
        context = self.kubectl("config", "current-context").strip()
        lab = next((one for one in EmbeddedCluster.running() if one.kubeconfig == self.kubeconfig), None)
        for image in images:
            if lab is not None:
                lab.load_image(image.archive)
            elif context.startswith("kind-") and shutil.which("kind"):
                name = context.removeprefix("kind-")
                subprocess.run(["kind", "load", "image-archive", str(image.archive), "--name", name], check=True)
            else:
                say(f"the cluster must have the image {image.name}: load {image.archive} on its nodes")

    def forward(self, namespace: str, pod: str, port: int) -> int:
        """Through the API server."""
        return self._forward(namespace, f"pod/{pod}", port)

    def client(self, namespace: str, service: str, arguments: Sequence[str]) -> tuple[list[str], str]:
        """On this machine, through the API server."""
        return list(arguments), f"http://127.0.0.1:{self._forward(namespace, f'service/{service}', 80)}"

    def _forward(self, namespace: str, target: str, port: int) -> int:
        command = self.kubectl_command("port-forward", f"--namespace={namespace}", target, f":{port}")
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        self._forwards.append(process)
        assert process.stdout is not None  # noqa: S101  # asked for above
        deadline = time.monotonic() + PORT_FORWARD_SECONDS
        while time.monotonic() < deadline and select.select([process.stdout], [], [], 1.0)[0]:
            found = re.search(r"127\.0\.0\.1:(\d+)", process.stdout.readline())
            if found:
                return int(found[1])
        raise ClusterError(f"kubectl port-forward {target} does not start: see whether the pod runs")

    def close(self) -> None:
        """End the forwards."""
        for process in self._forwards:
            process.terminate()
            process.wait()


@contextlib.contextmanager
def open_site(kubeconfig: Path | None, *, gpus: int) -> Iterator[Site]:
    """The cluster for the length of the block.

    Args:
        kubeconfig: The user's own cluster, or None for an embedded one.
        gpus: GPUs the embedded cluster's node claims to have.

    Raises:
        ClusterError: what is missing, and what to do.
    """
    if kubeconfig is None:
        with EmbeddedCluster.start(capacity={"nvidia.com/gpu": str(gpus)}) as cluster:
            yield EmbeddedSite(cluster)
        return
    site = OwnSite(kubeconfig)
    try:
        yield site
    finally:
        site.close()


def own_kubeconfig() -> Path | None:
    """The cluster named by `KUBECONFIG`, if it names one.

    Raises:
        ClusterError: there is no such file.
    """
    named = os.environ.get("KUBECONFIG", "")
    if not named:
        return None
    kubeconfig = Path(named).expanduser()
    if not kubeconfig.is_file():
        raise ClusterError(f"KUBECONFIG={named}: no such file; unset KUBECONFIG for an embedded cluster")
    return kubeconfig
