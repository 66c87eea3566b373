"""Debian packages the lab needs, installed when they are missing."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from llmserving_lab.cluster.errors import ClusterError
from llmserving_lab.cluster.progress import step

NODE_PACKAGES: Mapping[str, str] = {
    "ip": "iproute2",
    "nft": "nftables",
    "runc": "runc",
    "/usr/lib/cni/bridge": "containernetworking-plugins",
    "unshare": "util-linux",
    "setpriv": "util-linux",
}
"""Program, by name or by path → the package that brings it."""
CONTROL_PLANE_PACKAGES: Mapping[str, str] = {name: NODE_PACKAGES[name] for name in ("ip", "unshare", "setpriv")}
IMAGE_PACKAGES: Mapping[str, str] = {"mmdebstrap": "mmdebstrap", "buildah": "buildah"}

_WAIT_FOR_OTHERS = "--option=DPkg::Lock::Timeout=300"
_SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def find_program(name: str) -> Path | None:
    """Where a program is, looking in the system's folders too (a user's PATH often lacks sbin)."""
    found = shutil.which(name, path=f"{os.environ.get('PATH', '')}:{_SYSTEM_PATH}")
    return Path(found) if found else None


def ensure(packages: Mapping[str, str]) -> None:
    """Install the packages of the programs that are missing.

    Raises:
        ClusterError: something is missing and cannot be installed: what to install by hand.
    """
    missing = sorted({package for program, package in packages.items() if find_program(program) is None})
    if not missing:
        return
    names = " ".join(missing)
    if os.geteuid() != 0:
        raise ClusterError(f"missing Debian packages: apt-get install {names} (as root)")
    if find_program("apt-get") is None:
        raise ClusterError(f"missing programs of the Debian packages {names}: install their like on this system")
    with step(f"installing Debian packages {names}"):
        install = ["apt-get", _WAIT_FOR_OTHERS, "install", "--yes", "--quiet", "--no-install-recommends", *missing]
        if _apt(install).returncode == 0:
            return
        _apt(["apt-get", "update", "--quiet"])
        finished = _apt(install)
        if finished.returncode != 0:
            reason = (finished.stderr.strip().splitlines() or ["no output"])[-1]
            raise ClusterError(f"apt-get install {names} failed: {reason}")


def _apt(command: list[str]) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
