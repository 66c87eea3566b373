"""A control group of the cluster's own, below the one this process is in, so that nothing of the host's is touched.

cgroup v1: one child group per hierarchy. cgroup v2: one group at the top of the hierarchy, because a group that holds
processes cannot hand controllers to its children.
"""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from llmserving_lab.cluster.errors import ClusterError

MOUNT_POINT = Path("/sys/fs/cgroup")
_MOUNT_FLAGS = {"rw", "ro", "xattr", "noprefix", "clone_children"}
WEIGHT = 16
V2_CONTROLLERS = ("cpuset", "cpu", "io", "memory", "pids")


@dataclass(frozen=True)
class Hierarchy:
    """One mounted cgroup v1 hierarchy, seen from this process."""

    controllers: str
    """As in `/proc/self/cgroup`: `cpu,cpuacct`, or `name=systemd`."""
    group: Path
    """The folder of the group this process is in."""


def memberships(self_cgroup: str) -> dict[str, str]:
    """`/proc/self/cgroup` as controllers → path. The unified hierarchy has no controllers: its key is empty."""
    lines = (line.split(":", 2) for line in self_cgroup.splitlines())
    return {controllers: path for _, controllers, path in lines}


def mount_options(controllers: str) -> str:
    """What mounts a v1 hierarchy: its controllers, or its name where it has none."""
    return f"none,{controllers}" if controllers.startswith("name=") else controllers


def v1_hierarchies(self_cgroup: str, mountinfo: str) -> list[Hierarchy]:
    """The mounted v1 hierarchies, from `/proc/self/cgroup` and `/proc/self/mountinfo`.

    Hierarchies that are not mounted are left out: what nobody mounted, nobody uses.
    """
    mounts = dict(_v1_mounts(mountinfo))
    found = []
    for controllers, path in memberships(self_cgroup).items():
        mount = mounts.get(frozenset(controllers.split(",")))
        if controllers and mount:
            root, point = mount
            relative = Path(path).relative_to(root) if Path(path).is_relative_to(root) else Path()
            found.append(Hierarchy(controllers, Path(point) / relative))
    return found


def _v1_mounts(mountinfo: str) -> Iterable[tuple[frozenset[str], tuple[str, str]]]:
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        kind, _, options = after.split(" ", 2)
        if kind == "cgroup":
            root, point = before.split(" ")[3:5]
            names = frozenset(options.split(",")) - _MOUNT_FLAGS
            yield names, (root, _unescape(point))


def _unescape(path: str) -> str:
    """Undo the kernel's octal escapes of blanks in mount points."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match.group(1), 8)), path)


def is_v2(mount_point: Path = MOUNT_POINT) -> bool:
    """Whether the machine runs on the unified hierarchy alone."""
    return (mount_point / "cgroup.controllers").is_file()


def create(name: str) -> list[Path]:
    """Make the cluster's groups and return them; a process moves in by writing its id to `cgroup.procs` of each.

    Raises:
        ClusterError: the groups cannot be made, and why.
    """
    if is_v2():
        return [create_v2(name, MOUNT_POINT)]
    hierarchies = v1_hierarchies(Path("/proc/self/cgroup").read_text(), Path("/proc/self/mountinfo").read_text())
    if not hierarchies:
        raise ClusterError("no control groups are mounted below /sys/fs/cgroup: mount cgroup v1 or v2 there")
    groups: list[Path] = []
    try:
        for hierarchy in hierarchies:
            group = hierarchy.group / name
            group.mkdir()
            groups.append(group)
            for setting in ("cpuset.cpus", "cpuset.mems"):  # empty in a new group, and then nothing may join
                if (group / setting).exists():
                    (group / setting).write_text((hierarchy.group / setting).read_text())
            _give_weight(group)
    except OSError as error:
        remove(groups)
        raise ClusterError(
            f"a control group could not be made ({error}): run as root with a writable /sys/fs/cgroup"
        ) from error
    return groups


def _give_weight(group: Path) -> None:
    """Let the group's processes together have what `WEIGHT` processes outside it would get of a busy processor.

    A new group counts as a single process, and a cluster beside a few busy programs would starve.
    """
    for setting, unit in (("cpu.shares", 1024), ("cpu.weight", 100)):
        if (group / setting).exists():
            (group / setting).write_text(str(WEIGHT * unit))


def create_v2(name: str, mount_point: Path) -> Path:
    """Make a group at the top of the unified hierarchy, with the controllers a node needs.

    Raises:
        ClusterError: the controllers cannot be handed down.
    """
    available = (mount_point / "cgroup.controllers").read_text().split()
    wanted = [controller for controller in V2_CONTROLLERS if controller in available]
    try:
        enable_v2(mount_point, wanted)
        (mount_point / name).mkdir()
        _give_weight(mount_point / name)
    except OSError as error:
        raise ClusterError(
            f"cgroup v2 controllers {' '.join(wanted)} cannot be handed to a new group ({error}): run on the "
            "machine itself, or in a container whose top control group holds no processes, or set KUBECONFIG"
        ) from error
    return mount_point / name


def enable_v2(group: Path, controllers: Iterable[str]) -> None:
    """Hand controllers to the children of a v2 group."""
    (group / "cgroup.subtree_control").write_text(" ".join(f"+{controller}" for controller in controllers))


def remove(
    groups: Sequence[Path],
    *,
    patience_seconds: float = 10.0,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> list[Path]:
    """Remove groups with all below them, waiting for processes that are still ending; returns what is left."""
    deadline = clock() + patience_seconds
    while True:
        for group in groups:
            _remove_tree(group)
        left = [group for group in groups if group.exists()]
        if not left or clock() >= deadline:
            return left
        sleep(0.02)


def _remove_tree(group: Path) -> None:
    """A group's files vanish with it, so only folders are removed, the deepest first."""
    with contextlib.suppress(OSError):
        for child in [entry for entry in group.iterdir() if entry.is_dir()]:
            _remove_tree(child)
        group.rmdir()
