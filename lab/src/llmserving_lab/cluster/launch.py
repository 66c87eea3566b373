"""Starting a cluster: what the machine must have, the state folder, the guardian, and the wait until all is ready."""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from llmserving_lab.cluster import debian, guardian
from llmserving_lab.cluster.addresses import API_PORT, NODE_ADDRESS, NODE_NAME, PAUSE_IMAGE
from llmserving_lab.cluster.api import ApiClient
from llmserving_lab.cluster.certificates import Authority
from llmserving_lab.cluster.configuration import kubeconfig
from llmserving_lab.cluster.entering import import_image
from llmserving_lab.cluster.errors import ClusterError
from llmserving_lab.cluster.forwarder import SOCKET, request_forward
from llmserving_lab.cluster.locations import cache_root
from llmserving_lab.cluster.namespace import Manifest
from llmserving_lab.cluster.plan import IDENTITIES, cluster_plan
from llmserving_lab.cluster.progress import step
from llmserving_lab.cluster.tools import CONTROL_PLANE, KUBERNETES_VERSION, NODE, Toolchain
from llmserving_lab.images.archive import single_file_image

KUBECONFIG = "kubeconfig"
"""For the host's side, with every right; below the state folder."""

_FACTS = "facts.json"
_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?")
_LONGEST_SOCKET_PATH = 107
_PATIENCE_SECONDS = 300.0


@dataclass(frozen=True)
class Facts:
    """What is known of a cluster since it became ready, left in its state folder for others."""

    programs: Mapping[str, Path]
    ready_seconds: float

    def write(self, state: Path) -> None:
        """Leave them."""
        programs = {name: str(path) for name, path in self.programs.items()}
        (state / _FACTS).write_text(json.dumps({"programs": programs, "ready_seconds": self.ready_seconds}))

    @classmethod
    def read(cls, state: Path) -> Facts | None:
        """What was left; None while the cluster is starting."""
        with contextlib.suppress(FileNotFoundError):
            content = json.loads((state / _FACTS).read_text())
            programs = {name: Path(path) for name, path in content["programs"].items()}
            return cls(programs, content["ready_seconds"])
        return None


@dataclass(frozen=True)
class Launched:
    """A cluster that is ready."""

    state: Path
    facts: Facts
    guardian: subprocess.Popen[str]


def clusters_folder() -> Path:
    """One folder per cluster of this user."""
    return cache_root() / "clusters"


def launch(name: str, *, node: bool, lifeline: int | None) -> Launched:
    """Start a cluster and wait until it is ready.

    Args:
        name: names its state folder and its control groups.
        node: whether it has a node beside the control plane.
        lifeline: read end of a pipe whose end ends the cluster; None for one that stays.

    Raises:
        ClusterError: what is missing, or which component failed.
    """
    programs = _prerequisites(node=node)
    claim = _claim(name)
    state, started = claim.state, time.monotonic()
    with step(f"starting Kubernetes {KUBERNETES_VERSION}" + ("" if node else " (control plane only)")):
        with claim.lock:
            _write_state(state, programs, node=node)
            process = _start_guardian(claim, lifeline)
        try:
            _wait_ready(state, programs, process, node=node)
        except BaseException:
            process.terminate()
            process.wait()
            guardian.sweep(clusters_folder())
            raise
    facts = Facts(programs, time.monotonic() - started)
    facts.write(state)
    return Launched(state, facts, process)


def last_words(process: subprocess.Popen[str], state: Path) -> str:
    """What a guardian that has ended said, or the last line of its log where it did not end in order."""
    said = process.stdout.read().strip().splitlines() if process.stdout else []
    with contextlib.suppress(FileNotFoundError):
        said = said or (state / "logs" / "guardian.log").read_text().strip().splitlines()
    return said[-1] if said else "its guardian was killed"


def _prerequisites(*, node: bool) -> dict[str, Path]:
    """Everything a cluster needs of the machine, installed or built where it can be.

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
    longest = clusters_folder() / name / SOCKET
    if len(str(longest)) > _LONGEST_SOCKET_PATH:
        raise ClusterError(f"{longest} is too long for a Unix socket: set XDG_CACHE_HOME to a shorter path")
    guardian.sweep(clusters_folder())
    return guardian.claim(clusters_folder(), name)


def _write_state(state: Path, programs: Mapping[str, Path], *, node: bool) -> None:
    for folder in ("pki", "logs", "run", "cni"):
        (state / folder).mkdir()
    authority = Authority(state / "pki", dt.datetime.now(dt.UTC))
    for identity in IDENTITIES:
        authority.issue(identity)
    authority.issue_service_account_key()
    plan = cluster_plan(state, programs, node=node)
    for path, content in plan.files.items():
        (state / path).write_text(content)
    Manifest(node, plan.before_api, plan.after_api, (str(cache_root()),)).write(state)


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


def _wait_ready(state: Path, programs: Mapping[str, Path], process: subprocess.Popen[str], *, node: bool) -> None:
    """Wait until API and node are ready, loading the pause image on the way.

    Raises:
        ClusterError: the cluster ended meanwhile, with the component's name, or patience did.
    """
    api: ApiClient | None = None
    image_missing = node
    deadline = time.monotonic() + _PATIENCE_SECONDS
    unready = "it has not begun"
    while process.poll() is None:
        if time.monotonic() > deadline:
            raise ClusterError(f"the cluster was not ready within {_PATIENCE_SECONDS:.0f} s: {unready}")
        try:
            if api is None:
                api = _reach_api(state)
            if image_missing:
                _load_pause(state, programs)
                image_missing = False
            if not api.ready():
                unready = "the API server is not ready"
            elif node and not api.node_ready(NODE_NAME):
                unready = "the node is not ready"
            else:
                return
        except (OSError, ClusterError) as error:  # what it speaks to has not started yet
            unready = str(error)
        time.sleep(0.1)
    raise ClusterError(f"the cluster did not start: {last_words(process, state)}")


def _reach_api(state: Path) -> ApiClient:
    port = request_forward(state, NODE_ADDRESS, API_PORT)
    file = state / KUBECONFIG
    file.touch(mode=0o600)
    file.write_text(kubeconfig(state, f"https://127.0.0.1:{port}", "admin"))
    return ApiClient(file)


def _load_pause(state: Path, programs: Mapping[str, Path]) -> None:
    archive = state / "pause.tar"
    single_file_image(programs["pause"], PAUSE_IMAGE, archive)
    import_image(state, programs["ctr"], archive)
    archive.unlink()
