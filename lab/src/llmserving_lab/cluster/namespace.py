"""Process 1 inside the cluster's namespaces: starts the components and ends with the first that ends.

Run by `guardian` as `python -m llmserving_lab.cluster.namespace STATE_FOLDER` below `unshare`. When this process goes,
the kernel ends every other process of the namespace, and mounts and interfaces vanish with them.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

from llmserving_lab.cluster import isolation
from llmserving_lab.cluster.addresses import API_PORT, NODE_NAME
from llmserving_lab.cluster.components import Component

MANIFEST = "components.json"
"""What to start: written by `launch`, below the state folder."""
FAILURE = "failure.json"
"""Why the cluster ended by itself: written here, below the state folder."""
FORWARDER = "forwarder"

_API_PATIENCE_SECONDS = 180.0


@dataclass(frozen=True)
class Manifest:
    """What process 1 has to do."""

    node: bool
    before_api: tuple[Component, ...]
    after_api: tuple[Component, ...]
    kept: tuple[str, ...]
    """Folders that stay visible although a folder above them is covered."""

    def write(self, state: Path) -> None:
        """Leave it in the state folder."""
        (state / MANIFEST).write_text(json.dumps(asdict(self)))

    @classmethod
    def read(cls, state: Path) -> Manifest:
        """Read what `write` left."""
        raw: dict[str, Any] = json.loads((state / MANIFEST).read_text())
        before, after = (
            tuple(Component(c["name"], tuple(c["arguments"])) for c in raw[key]) for key in ("before_api", "after_api")
        )
        return cls(raw["node"], before, after, tuple(raw["kept"]))


def main() -> None:
    """Run the cluster until one of its components ends."""
    state = Path(sys.argv[1])
    try:
        _run(state)
    except (OSError, subprocess.CalledProcessError, TimeoutError) as error:
        output = getattr(error, "stderr", None) or ""
        _report(state, "namespace", f"{error} {output}".strip())
        raise SystemExit(1) from error


def _run(state: Path) -> None:
    manifest = Manifest.read(state)
    socket.sethostname(NODE_NAME)
    isolation.prepare_network()
    if manifest.node:
        isolation.prepare_mounts(manifest.kept)
        isolation.mount_cgroups()
        isolation.hold_kernel_settings()
    running: dict[int, Component] = {}
    forwarder = Component(FORWARDER, (sys.executable, "-m", "llmserving_lab.cluster.forwarder", str(state)))
    for component in (forwarder, *manifest.before_api):
        running[_start(state, component)] = component
    failure = _wait_for_api(state, running)
    if failure is None:
        for component in manifest.after_api:
            running[_start(state, component)] = component
        failure = _wait_for_end(running)
    _report(state, *failure)
    raise SystemExit(1)


def _start(state: Path, component: Component) -> int:
    """Start one component with its output in its log file; returns its process id."""
    programs = str(Path(component.arguments[0]).parent)  # containerd looks for its shim on PATH
    path = f"{programs}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    with (state / "logs" / f"{component.name}.log").open("ab") as log:
        return _spawn(component.arguments, {**os.environ, "PATH": path}, log)


def _spawn(arguments: tuple[str, ...], environment: Mapping[str, str], log: IO[bytes]) -> int:
    """As `posix_spawn`, because every child is waited for in one place (`os.wait`)."""
    return os.posix_spawn(
        arguments[0],
        arguments,
        environment,
        file_actions=[(os.POSIX_SPAWN_DUP2, log.fileno(), 1), (os.POSIX_SPAWN_DUP2, log.fileno(), 2)],
    )


def _wait_for_end(running: Mapping[int, Component]) -> tuple[str, str]:
    """Collect orphans until a component ends; returns its name and how it ended."""
    while True:
        ended = _ended(running, *os.wait())
        if ended:
            return ended


def _ended(running: Mapping[int, Component], pid: int, status: int) -> tuple[str, str] | None:
    if pid not in running:
        return None
    code = os.waitstatus_to_exitcode(status)
    return running[pid].name, f"ended with exit code {code}" if code >= 0 else f"was ended by signal {-code}"


def _wait_for_api(state: Path, running: Mapping[int, Component]) -> tuple[str, str] | None:
    """Wait until the API server is ready; returns what ended meanwhile, if something did."""
    context = ssl.create_default_context(cafile=str(state / "pki" / "ca.crt"))
    context.load_cert_chain(state / "pki" / "admin.crt", state / "pki" / "admin.key")
    deadline = time.monotonic() + _API_PATIENCE_SECONDS
    while time.monotonic() < deadline:
        pid, status = os.waitpid(-1, os.WNOHANG)
        ended = _ended(running, pid, status) if pid else None
        if ended:
            return ended
        with contextlib.suppress(OSError, http.client.HTTPException):
            connection = http.client.HTTPSConnection("127.0.0.1", API_PORT, context=context, timeout=2)
            with contextlib.closing(connection):
                connection.request("GET", "/readyz")
                if connection.getresponse().status == http.HTTPStatus.OK:
                    return None
        time.sleep(0.05)
    return "kube-apiserver", f"was not ready within {_API_PATIENCE_SECONDS:.0f} s"


def _report(state: Path, component: str, reason: str) -> None:
    (state / FAILURE).write_text(json.dumps({"component": component, "reason": reason}))


if __name__ == "__main__":
    main()
