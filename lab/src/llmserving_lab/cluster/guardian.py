"""The one process of a cluster on the host's side: starts the namespaces and clears up after them.

Run as `python -m llmserving_lab.cluster.guardian STATE_FOLDER LOCK [LIFELINE]`, the latter two inherited descriptors.
The lifeline is the read end of a pipe whose other end the starter holds: when the starter goes, however it goes, the
pipe ends and so does the cluster. Without one the cluster lives until SIGTERM. When the guardian itself is killed, the
kernel ends the namespaces (parent-death signals), and the next start or `cluster status` removes what is left (`sweep`).
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from llmserving_lab.cluster import cgroups
from llmserving_lab.cluster.errors import ClusterError
from llmserving_lab.cluster.namespace import FAILURE

PROCESSES = "processes.json"
GROUPS = "cgroups.json"
LOCK = "lock"

_JOIN_GROUPS = """
for group in "$@"; do [ "$group" = -- ] && break; shift; echo $$ > "$group/cgroup.procs"; done
shift
exec unshare --cgroup "$@"
"""
"""Process 1 enters the control groups and makes them the top of what it sees. `unshare`, outside, stays out of them:
a v2 group that holds a process cannot hand controllers to its children."""


@dataclass(frozen=True)
class Processes:
    """The two processes on the host's side, left in the state folder for others to find."""

    guardian: int
    namespace: int
    """The `unshare` process: its `/proc/PID/ns` names the cluster's namespaces."""

    @classmethod
    def read(cls, state: Path) -> Processes | None:
        """What the guardian left, once it has."""
        with contextlib.suppress(FileNotFoundError):
            return cls(**json.loads((state / PROCESSES).read_text()))
        return None

    def write(self, state: Path) -> None:
        """Leave it for others, whole or not at all."""
        draft = state / f".{PROCESSES}"
        draft.write_text(json.dumps({"guardian": self.guardian, "namespace": self.namespace}))
        draft.rename(state / PROCESSES)


def main() -> None:
    """Guard one cluster from its start to its end. On failure the reason is the last line of output."""
    state = Path(sys.argv[1])
    lifeline = int(sys.argv[3]) if len(sys.argv) > 3 else None
    os.set_inheritable(int(sys.argv[2]), False)  # the lock: held by this process alone, until it ends
    os.setsid()  # a Ctrl-C at the terminal is the starter's to act on
    try:
        groups = cgroups.create(f"llmserving-{state.name}")
    except ClusterError as error:
        print(error, flush=True)
        shutil.rmtree(state)
        raise SystemExit(1) from error
    (state / GROUPS).write_text(json.dumps([str(group) for group in groups]))
    stopping = _stop_requests()
    namespace = _start(state, groups)
    Processes(os.getpid(), namespace.pid).write(state)
    ended_by_itself = _wait(namespace, lifeline, stopping)
    _end(namespace)
    if ended_by_itself:
        with contextlib.suppress(OSError):  # a detached starter no longer listens
            print(_failure(state), flush=True)
    clear(state)
    raise SystemExit(1 if ended_by_itself else 0)


@dataclass(frozen=True)
class Claim:
    """A name taken and its empty state folder, locked."""

    state: Path
    lock: IO[str]
    """Whoever holds it open keeps the cluster from being swept: first the starter, then the guardian."""


def claim(clusters: Path, name: str) -> Claim:
    """Take a name.

    Raises:
        ClusterError: a cluster of that name is running.
    """
    clusters.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(dir=clusters, prefix=".new-"))
    draft.chmod(0o711)
    lock = (draft / LOCK).open("w")
    fcntl.flock(lock, fcntl.LOCK_EX)
    try:
        draft.rename(clusters / name)  # fails where the folder of another cluster is
    except OSError:
        shutil.rmtree(draft)
        raise ClusterError(f"cluster {name} is already running: llmserving-lab cluster down --name {name}") from None
    return Claim(clusters / name, lock)


def clear(state: Path) -> None:
    """Remove what a cluster leaves when its processes are gone: control groups, then the state folder."""
    with contextlib.suppress(FileNotFoundError):
        cgroups.remove([Path(group) for group in json.loads((state / GROUPS).read_text())])
    shutil.rmtree(state, ignore_errors=True)


def sweep(clusters: Path) -> None:
    """Clear what killed guardians have left behind."""
    for lock_file in clusters.glob(f"*/{LOCK}"):
        with contextlib.suppress(FileNotFoundError, BlockingIOError), lock_file.open("r+") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            clear(lock_file.parent)


def _stop_requests() -> int:
    """A descriptor that becomes readable when somebody asks this process to end."""
    readable, writable = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: None)
    signal.set_wakeup_fd(writable)
    return readable


def _start(state: Path, groups: list[Path]) -> subprocess.Popen[bytes]:
    unshare = ["unshare", "--mount", "--net", "--uts", "--ipc", "--pid", "--mount-proc", "--fork", "--kill-child"]
    enter = ["/bin/sh", "-e", "-c", _JOIN_GROUPS, "sh", *map(str, groups), "--"]
    first = [sys.executable, "-m", "llmserving_lab.cluster.namespace", str(state)]
    with (state / "logs" / "namespace.log").open("ab") as log:
        return subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", *unshare, *enter, *first],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd="/",
        )


def _wait(namespace: subprocess.Popen[bytes], lifeline: int | None, stopping: int) -> bool:
    """Wait for an end; returns whether the cluster ended by itself."""
    process = os.pidfd_open(namespace.pid)
    watched = [process, stopping] + ([lifeline] if lifeline is not None else [])
    readable, _, _ = select.select(watched, [], [])
    os.close(process)
    return readable == [process]


def _end(namespace: subprocess.Popen[bytes]) -> None:
    """Kill process 1 of the namespace; `unshare` goes when all others have gone with it."""
    if namespace.poll() is None:
        children = Path(f"/proc/{namespace.pid}/task/{namespace.pid}/children")
        first = children.read_text().split() if children.exists() else []
        for pid in first or [str(namespace.pid)]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)
    namespace.wait()


def _failure(state: Path) -> str:
    """One line that says which component ended and the last thing it said."""
    component, reason = "namespace", "ended"
    with contextlib.suppress(FileNotFoundError):
        report = json.loads((state / FAILURE).read_text())
        component, reason = report["component"], report["reason"]
    log = state / "logs" / f"{component}.log"
    said = log.read_text(errors="replace").strip().splitlines() if log.is_file() else []
    kept = state.parent.parent / "failed-clusters" / state.name
    kept.parent.mkdir(exist_ok=True)
    shutil.copytree(state / "logs", kept)
    return f"{component} {reason}; logs are kept in {kept}" + (f"; it last said: {said[-1]}" if said else "")


if __name__ == "__main__":
    main()
