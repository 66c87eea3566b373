"""Programs of the host, run inside a cluster's namespaces."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

from llmserving_lab.cluster.errors import ClusterError
from llmserving_lab.cluster.guardian import Processes


def in_network(state: Path, arguments: Sequence[str]) -> list[str]:
    """A command line that runs `arguments` in the cluster's network, with the host's files.

    The process is the caller's to end; it does not end with the cluster.
    """
    return ["nsenter", f"--net={_namespaces(state)}/net", *arguments]


def in_node(state: Path, arguments: Sequence[str]) -> list[str]:
    """A command line that runs `arguments` in all of the cluster's namespaces and ends with it."""
    spaces = _namespaces(state)
    enter = [f"--mount={spaces}/mnt", f"--net={spaces}/net", f"--pid={spaces}/pid_for_children", "--wd=/"]
    return ["nsenter", *enter, *arguments]


def import_image(state: Path, ctr: Path, archive: Path) -> None:
    """Give the images of an OCI or Docker archive to the node's containerd.

    Raises:
        ClusterError: containerd refused the archive.
    """
    command = in_node(state, [str(ctr), "--namespace=k8s.io", "images", "import", "-"])
    with archive.open("rb") as stream:
        finished = subprocess.run(command, stdin=stream, capture_output=True, text=True, check=False)
    if finished.returncode != 0:
        raise ClusterError(f"{archive.name} could not be loaded: {finished.stderr.strip()}")


def _namespaces(state: Path) -> str:
    processes = Processes.read(state)
    if processes is None:
        raise ClusterError(f"cluster {state.name} is not running")
    return f"/proc/{processes.namespace}/ns"
