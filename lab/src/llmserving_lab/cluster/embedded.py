"""A real Kubernetes in namespaces of its own, gone without a trace when its owner is."""

from __future__ import annotations

import contextlib
import os
import secrets
import select
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from llmserving_lab.cluster import guardian
from llmserving_lab.cluster.addresses import NODE_NAME
from llmserving_lab.cluster.api import ApiClient
from llmserving_lab.cluster.entering import import_image, in_network
from llmserving_lab.cluster.errors import ClusterError
from llmserving_lab.cluster.forwarder import request_forward
from llmserving_lab.cluster.launch import KUBECONFIG, Facts, clusters_folder, last_words, launch
from llmserving_lab.cluster.progress import say


class EmbeddedCluster:
    """A running cluster. Made by `start` or `attach`, never directly.

    Attributes:
        state: the folder with its kubeconfig, certificates, logs and data.
        programs: the Kubernetes programs it runs, by name; `kubectl` among them.
        ready_seconds: from the start of its first process until the API, and the node where there is one, were ready.
    """

    def __init__(self, state: Path, facts: Facts) -> None:
        self.state = state
        self.programs = facts.programs
        self.ready_seconds = facts.ready_seconds

    @property
    def name(self) -> str:
        """What `llmserving-lab cluster` calls it."""
        return self.state.name

    @property
    def kubeconfig(self) -> Path:
        """A kubeconfig for the host's side, with every right."""
        return self.state / KUBECONFIG

    @property
    def kubernetes_version(self) -> str:
        """What the API server says it is."""
        return ApiClient(self.kubeconfig).version()

    @property
    def logs(self) -> Path:
        """One file per component."""
        return self.state / "logs"

    @classmethod
    @contextlib.contextmanager
    def start(
        cls, *, node: bool = True, name: str | None = None, capacity: Mapping[str, str] | None = None
    ) -> Iterator[EmbeddedCluster]:
        """A cluster for as long as the block runs.

        Args:
            node: False starts the control plane alone, which is all that tests of the API need.
            name: unique on this machine; made up where none is given.
            capacity: extended resources of the node, as for `set_node_capacity`.

        Raises:
            ClusterError: what is missing, or which component failed.
        """
        readable, writable = os.pipe()
        try:
            unique = f"c{os.getpid()}-{secrets.token_hex(2)}"
            launched = launch(name or unique, node=node, lifeline=readable)
            cluster = cls(launched.state, launched.facts)
            try:
                cluster.set_node_capacity(capacity or {})
                yield cluster
            finally:
                if launched.guardian.poll() is not None:
                    say(f"the cluster ended by itself: {last_words(launched.guardian, launched.state)}")
                cluster.stop()
                launched.guardian.wait()
        finally:
            os.close(readable)
            os.close(writable)

    @classmethod
    def start_detached(cls, *, name: str, node: bool = True) -> EmbeddedCluster:
        """A cluster that stays until `stop`.

        Raises:
            ClusterError: what is missing, or which component failed.
        """
        launched = launch(name, node=node, lifeline=None)
        return cls(launched.state, launched.facts)

    @classmethod
    def attach(cls, name: str) -> EmbeddedCluster | None:
        """The running cluster of that name, if there is one."""
        return next((cluster for cluster in cls.running() if cluster.name == name), None)

    @classmethod
    def running(cls) -> list[EmbeddedCluster]:
        """The clusters of this user that are up. Clears away what killed ones have left."""
        guardian.sweep(clusters_folder())
        known = {
            folder.parent: Facts.read(folder.parent) for folder in sorted(clusters_folder().glob(f"*/{KUBECONFIG}"))
        }
        return [cls(state, facts) for state, facts in known.items() if facts is not None]

    def stop(self) -> None:
        """End every process and remove every mount, group, interface and file. Returns when that is done."""
        processes = guardian.Processes.read(self.state)
        if processes is not None:
            with contextlib.suppress(ProcessLookupError):
                handle = os.pidfd_open(processes.guardian)
                signal.pidfd_send_signal(handle, signal.SIGTERM)
                select.select([handle], [], [])
                os.close(handle)
        guardian.sweep(clusters_folder())

    def forward(self, address: str, port: int) -> int:
        """Carry connections from a port on the host's 127.0.0.1 to `address:port` inside; returns that port.

        Args:
            address: the IP address of a pod, a service or the node.
            port: the port there.
        """
        return request_forward(self.state, address, port)

    def command(self, arguments: Sequence[str]) -> list[str]:
        """A command line that runs `arguments` in the cluster's network, with the host's files.

        The process is the caller's to end; it does not end with the cluster.
        """
        return in_network(self.state, arguments)

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        """Run kubectl against this cluster and return what it prints.

        Raises:
            ClusterError: kubectl failed; the message is its own.
        """
        command = [str(self.programs["kubectl"]), f"--kubeconfig={self.kubeconfig}", *arguments]
        finished = subprocess.run(command, input=stdin, capture_output=True, text=True, check=False)
        if finished.returncode != 0:
            raise ClusterError(f"kubectl {' '.join(arguments)}: {finished.stderr.strip()}")
        return finished.stdout

    def load_image(self, archive: Path) -> None:
        """Make the images of an OCI or Docker archive available to pods (`imagePullPolicy: IfNotPresent`).

        Raises:
            ClusterError: containerd refused the archive.
        """
        import_image(self.state, self.programs["ctr"], archive)

    def set_node_capacity(self, resources: Mapping[str, str]) -> None:
        """Give the node extended resources, for example `{"nvidia.com/gpu": "2"}`, so that pods may ask for them."""
        if resources:
            ApiClient(self.kubeconfig).set_node_capacity(NODE_NAME, resources)

    def host_path(self, path: Path) -> str:
        """The path to write into a pod's `hostPath` volume for a folder of this machine.

        Raises:
            ClusterError: the node cannot see that folder.
        """
        resolved = path.resolve()
        if not resolved.exists():
            raise ClusterError(f"{path} does not exist on this machine")
        if resolved.is_relative_to("/run"):
            raise ClusterError(f"{path} lies under /run, which the node has of its own: copy it elsewhere")
        return str(resolved)
