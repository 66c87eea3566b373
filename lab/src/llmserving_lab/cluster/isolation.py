"""What process 1 changes inside the cluster's namespaces: mounts, control groups, kernel settings and the network."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from llmserving_lab.cluster import cgroups
from llmserving_lab.cluster.addresses import NODE_ADDRESS, NODE_NETWORK_BITS, SERVICE_RANGE

KERNEL_SETTINGS: Mapping[str, str] = {
    "vm/overcommit_memory": "1",
    "vm/panic_on_oom": "0",
    "kernel/panic": "10",
    "kernel/panic_on_oops": "1",
    "kernel/keys/root_maxkeys": "1000000",
    "kernel/keys/root_maxbytes": "25000000",
}
"""What kubelet would set for the whole machine. It finds these values in files mounted over the settings instead."""


def prepare_network() -> None:
    """A bridge with the node's address, the service range towards it, and no way out of the machine."""
    for command in (
        "link set lo up",
        "link add node0 type bridge",
        f"address add {NODE_ADDRESS}/{NODE_NETWORK_BITS} dev node0",
        "link set node0 up",
        f"route add {SERVICE_RANGE} dev node0",
        "route add unreachable default",
    ):
        _command("ip", *command.split())
    Path("/proc/sys/net/ipv4/ip_forward").write_text("1")


def prepare_mounts(kept: Sequence[str]) -> None:
    """Private places for what the components write: /run, and copies-on-write of /var/lib and /var/log.

    Mounts made from here on reach the containers (rshared) but never the host (rprivate first).
    """
    _command("mount", "--make-rprivate", "/")
    _command("mount", "--make-rshared", "/")
    handles = [os.open(folder, os.O_PATH | os.O_DIRECTORY) for folder in kept]
    _command("mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", "/run")
    upper = Path(tempfile.mkdtemp(dir="/run", prefix="overlay-"))
    for covered in ("lib", "log"):
        layers = [upper / covered, upper / f"{covered}.work"]
        for layer in layers:
            layer.mkdir(mode=0o755)
        options = f"lowerdir=/var/{covered},upperdir={layers[0]},workdir={layers[1]}"
        _command("mount", "-t", "overlay", "-o", options, "overlay", f"/var/{covered}")
    for folder, handle in zip(kept, handles, strict=True):
        if folder.startswith(("/run/", "/var/lib/", "/var/log/")):
            Path(folder).mkdir(parents=True, exist_ok=True)
            _command("mount", "--rbind", f"/proc/self/fd/{handle}", folder, pass_fds=(handle,))
        os.close(handle)
    _command("mount", "-t", "sysfs", "sysfs", "/sys")  # the interfaces of this network, not of the host's


def mount_cgroups() -> None:
    """Mount the hierarchies anew: seen from this cgroup namespace their top is the cluster's own group."""
    memberships = cgroups.memberships(Path("/proc/self/cgroup").read_text())
    if not any(memberships):
        _mount_v2()
        return
    _command("mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", str(cgroups.MOUNT_POINT))
    for controllers in filter(None, memberships):
        point = cgroups.MOUNT_POINT / controllers.removeprefix("name=")
        point.mkdir()
        try:
            _command("mount", "-t", "cgroup", "-o", cgroups.mount_options(controllers), "cgroup", str(point))
        except subprocess.CalledProcessError:
            point.rmdir()  # a hierarchy nobody has mounted
            continue
        if "," in controllers:
            for controller in controllers.split(","):
                (cgroups.MOUNT_POINT / controller).symlink_to(controllers)


def _mount_v2() -> None:
    _command("mount", "-t", "cgroup2", "cgroup2", str(cgroups.MOUNT_POINT))
    leaf = cgroups.MOUNT_POINT / "components"  # a group with children may hold no processes itself
    leaf.mkdir()
    (leaf / "cgroup.procs").write_text("1")
    controllers = (cgroups.MOUNT_POINT / "cgroup.controllers").read_text().split()
    cgroups.enable_v2(cgroups.MOUNT_POINT, controllers)


def hold_kernel_settings() -> None:
    """Mount files with the wanted values over the machine's settings: nothing is left to set, and nothing is set."""
    folder = Path(tempfile.mkdtemp(dir="/run", prefix="settings-"))
    for name, value in KERNEL_SETTINGS.items():
        stand_in = folder / name.replace("/", "-")
        stand_in.write_text(f"{value}\n")
        _command("mount", "--bind", str(stand_in), f"/proc/sys/{name}")


def _command(*arguments: str, pass_fds: Sequence[int] = ()) -> None:
    subprocess.run(arguments, check=True, capture_output=True, text=True, pass_fds=pass_fds)
