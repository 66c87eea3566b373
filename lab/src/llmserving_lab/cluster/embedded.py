"""A real Kubernetes in namespaces of its own, gone without a trace when its owner is."""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import os
import re
import secrets
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from llmserving_lab.cluster import debian, guardian
from llmserving_lab.cluster.api import ApiClient
from llmserving_lab.cluster.certificates import Authority
from llmserving_lab.cluster.errors import ClusterError
from llmserving_lab.cluster.forwarder import SOCKET as FORWARDER_SOCKET
from llmserving_lab.cluster.forwarder import request_forward
from llmserving_lab.cluster.locations import cache_root
from llmserving_lab.cluster.namespace import Manifest
from llmserving_lab.cluster.plan import (
    API_PORT,
    IDENTITIES,
    NODE_ADDRESS,
    NODE_NAME,
    PAUSE_IMAGE,
    Plan,
    cluster_plan,
    kubeconfig,
)
from llmserving_lab.cluster.progress import say, step
from llmserving_lab.cluster.tools import CONTROL_PLANE, KUBERNETES_VERSION, NODE, Toolchain
from llmserving_lab.images.archive import single_file_image

_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?")
_FACTS = "facts.json"
_LONGEST_SOCKET_PATH = 107


class EmbeddedCluster:
    """A running cluster. Made by `start` or `attach`, never directly.

    Attributes:
        state: the folder with its kubeconfig, certificates, logs and data.
        programs: the Kubernetes programs it runs, by name; `kubectl` among them.
        ready_seconds: from the start of its first process until the API, and the node where there is one, were ready.
    """

    def __init__(self, state: Path, programs: Mapping[str, Path], ready_seconds: float) -> None:
        self.state = state
        self.programs = programs
        self.ready_seconds = ready_seconds

    @property
    def name(self) -> str:
        """What `llmserving-lab cluster` calls it."""
        return self.state.name

    @property
    def kubeconfig(self) -> Path:
        """A kubeconfig for the host's side, with every right."""
        return self.state / "kubeconfig"

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
            cluster, process = _launch(name or unique, node=node, lifeline=readable)
            try:
                cluster.set_node_capacity(capacity or {})
                yield cluster
            finally:
                if process.poll() is not None:
                    say(f"the cluster ended by itself: {_last_words(process, cluster.state)}")
                cluster.stop()
                process.wait()
        finally:
            os.close(readable)
            os.close(writable)

    @classmethod
    def start_detached(cls, *, name: str, node: bool = True) -> EmbeddedCluster:
        """A cluster that stays until `stop`.

        Raises:
            ClusterError: what is missing, or which component failed.
        """
        return _launch(name, node=node, lifeline=None)[0]

    @classmethod
    def attach(cls, name: str) -> EmbeddedCluster | None:
        """The running cluster of that name, if there is one."""
        return next((cluster for cluster in cls.running() if cluster.name == name), None)

    @classmethod
    def running(cls) -> list[EmbeddedCluster]:
        """The clusters of this user that are up. Clears away what killed ones have left."""
        guardian.sweep(_clusters())
        found = []
        for facts in sorted(_clusters().glob(f"*/{_FACTS}")):
            with contextlib.suppress(FileNotFoundError):  # it ends at this moment
                content = json.loads(facts.read_text())
                programs = {program: Path(path) for program, path in content["programs"].items()}
                found.append(cls(facts.parent, programs, content["ready_seconds"]))
        return found

    def stop(self) -> None:
        """End every process and remove every mount, group, interface and file. Returns when that is done."""
        processes = guardian.Processes.read(self.state)
        if processes is not None:
            with contextlib.suppress(ProcessLookupError):
                handle = os.pidfd_open(processes.guardian)
                signal.pidfd_send_signal(handle, signal.SIGTERM)
                select.select([handle], [], [])
                os.close(handle)
        guardian.sweep(_clusters())

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
        return ["nsenter", f"--net=/proc/{self._namespace()}/ns/net", *arguments]

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
        with archive.open("rb") as stream:
            finished = subprocess.run(
                self._inside([str(self.programs["ctr"]), "--namespace=k8s.io", "images", "import", "-"]),
                stdin=stream,
                capture_output=True,
                text=True,
                check=False,
            )
        if finished.returncode != 0:
            raise ClusterError(f"{archive.name} could not be loaded: {finished.stderr.strip()}")

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

    def _namespace(self) -> int:
        processes = guardian.Processes.read(self.state)
        if processes is None:
            raise ClusterError(f"cluster {self.name} is not running")
        return processes.namespace

    def _inside(self, arguments: Sequence[str]) -> list[str]:
        """A command line that runs in all of the cluster's namespaces and ends with it."""
        spaces = f"/proc/{self._namespace()}/ns"
        return [
            "nsenter",
            f"--mount={spaces}/mnt",
            f"--net={spaces}/net",
            f"--pid={spaces}/pid_for_children",
            "--wd=/",
            *arguments,
        ]


def _clusters() -> Path:
    return cache_root() / "clusters"


def _launch(name: str, *, node: bool, lifeline: int | None) -> tuple[EmbeddedCluster, subprocess.Popen[str]]:
    """Start a cluster and wait until it is ready; returns it with its guardian."""
    programs = _prerequisites(node=node)
    claim = _claim(name)
    started = time.monotonic()
    with step(f"starting Kubernetes {KUBERNETES_VERSION}" + ("" if node else " (control plane only)")):
        with claim.lock:
            plan = _write_state(claim.state, programs, node=node)
            Manifest(node, plan.before_api, plan.after_api, (str(cache_root()),)).write(claim.state)
            process = _start_guardian(claim, lifeline)
        cluster = EmbeddedCluster(claim.state, programs, 0.0)
        try:
            _wait_ready(cluster, process, node=node)
        except BaseException:
            process.terminate()
            process.wait()
            guardian.sweep(_clusters())
            raise
        cluster.ready_seconds = time.monotonic() - started
    facts = {
        "programs": {program: str(path) for program, path in programs.items()},
        "ready_seconds": cluster.ready_seconds,
    }
    (claim.state / _FACTS).write_text(json.dumps(facts))
    return cluster, process


def _start_guardian(claim: guardian.Claim, lifeline: int | None) -> subprocess.Popen[str]:
    inherited = [claim.lock.fileno()] + ([lifeline] if lifeline is not None else [])
    log_file = claim.state / "logs" / "guardian.log"
    with log_file.open("a") as log:  # never the starter's own error output: whoever reads that would wait for its end
        return subprocess.Popen(
            [sys.executable, "-m", "llmserving_lab.cluster.guardian", str(claim.state), *map(str, inherited)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            pass_fds=inherited,
        )


def _last_words(process: subprocess.Popen[str], state: Path) -> str:
    """What a guardian that has ended said, or the last line of its log where it did not end in order."""
    said = process.stdout.read().strip().splitlines() if process.stdout else []
    with contextlib.suppress(FileNotFoundError):
        said = said or (state / "logs" / "guardian.log").read_text().strip().splitlines()
    return said[-1] if said else "its guardian was killed"


def _prerequisites(*, node: bool) -> dict[str, Path]:
    """Everything a cluster needs of the machine.

    Raises:
        ClusterError: the first thing that is missing, and what to set up.
    """
    if sys.platform != "linux":
        raise ClusterError("the embedded cluster needs Linux: set KUBECONFIG to a cluster of your own")
    if os.geteuid() != 0:
        raise ClusterError("the embedded cluster needs root: run as root, or set KUBECONFIG to a cluster of your own")
    debian.ensure(debian.NODE_PACKAGES if node else debian.CONTROL_PLANE_PACKAGES)
    programs = Toolchain().find([*CONTROL_PLANE, *(NODE if node else ())])
    runc = debian.find_program("runc")
    return programs | ({"runc": runc} if runc else {})


def _claim(name: str) -> guardian.Claim:
    if not _NAME.fullmatch(name):
        raise ClusterError(f"cluster name {name!r}: use up to 32 lower-case letters, digits and dashes")
    longest = _clusters() / name / FORWARDER_SOCKET
    if len(str(longest)) > _LONGEST_SOCKET_PATH:
        raise ClusterError(f"{longest} is too long for a Unix socket: set XDG_CACHE_HOME to a shorter path")
    guardian.sweep(_clusters())
    return guardian.claim(_clusters(), name)


def _write_state(state: Path, programs: Mapping[str, Path], *, node: bool) -> Plan:
    for folder in ("pki", "logs", "run", "cni"):
        (state / folder).mkdir()
    authority = Authority(state / "pki", dt.datetime.now(dt.UTC))
    for identity in IDENTITIES:
        authority.issue(identity)
    authority.issue_service_account_key()
    plan = cluster_plan(state, programs, node=node)
    for path, content in plan.files.items():
        (state / path).write_text(content)
    return plan


def _wait_ready(cluster: EmbeddedCluster, process: subprocess.Popen[str], *, node: bool) -> None:
    """Wait until API and node are ready, loading the pause image on the way.

    Raises:
        ClusterError: the cluster ended meanwhile; the message names the component.
    """
    port: int | None = None
    image_loaded = not node
    while process.poll() is None:
        with contextlib.suppress(OSError, ClusterError):
            if port is None:
                port = cluster.forward(NODE_ADDRESS, API_PORT)
                content = kubeconfig(cluster.state, f"https://127.0.0.1:{port}", "admin")
                cluster.kubeconfig.touch(mode=0o600)
                cluster.kubeconfig.write_text(content)
            if not image_loaded:
                _load_pause(cluster)
                image_loaded = True
            api = ApiClient(cluster.kubeconfig)
            if api.ready() and (not node or api.node_ready(NODE_NAME)):
                return
        time.sleep(0.1)
    raise ClusterError(f"the cluster did not start: {_last_words(process, cluster.state)}")


def _load_pause(cluster: EmbeddedCluster) -> None:
    archive = cluster.state / "pause.tar"
    single_file_image(cluster.programs["pause"], PAUSE_IMAGE, archive)
    cluster.load_image(archive)
    archive.unlink()
