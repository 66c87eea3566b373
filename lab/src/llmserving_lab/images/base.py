"""The base images where there is no registry: a small Debian with Python, made from Debian's packages."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from llmserving_lab.cluster.errors import ClusterError
from llmserving_lab.cluster.progress import step
from llmserving_lab.images.builder import Builder

SUITE = "bookworm"
"""Its Python is 3.11, binary compatible with the engine's environment."""

PACKAGES = ("python3", "libgomp1", "libnuma1", "libstdc++6")
"""Python, and the libraries that PyTorch and vLLM link to."""

_LEFT_OUT = ("/usr/share/doc/*", "/usr/share/man/*", "/usr/share/info/*", "/usr/share/locale/*", "/usr/share/lintian/*")
_PIP_DOWNLOAD = (sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes")
_SCRATCH = ".scratch-"
_DIST_PACKAGES = "usr/local/lib/python3.11/dist-packages"


@dataclass(frozen=True)
class BaseImages:
    """Names of the base images in the builder's storage."""

    python: str
    """What runs: the Dockerfile's PYTHON_IMAGE."""
    build: str
    """The same with pip: the Dockerfile's BUILD_IMAGE."""


def ensure_base_images(builder: Builder, build_requirements: Path) -> BaseImages:
    """Make the base images unless the builder's storage has them.

    Args:
        builder: where they go.
        build_requirements: hashed requirements file with pip.

    Raises:
        ClusterError: Debian's packages or pip could not be fetched.
    """
    options = mmdebstrap_options()
    python = f"localhost/llmserving/python:{_key(*options)}"
    build = f"localhost/llmserving/python-build:{_key(*options, build_requirements.read_text())}"
    with FileLock(builder.folder / "base.lock"):
        for abandoned in builder.folder.glob(f"{_SCRATCH}*"):  # of a run that was killed
            shutil.rmtree(abandoned)
        if not builder.has_image(python):
            with step(f"making the base image (Debian {SUITE} with Python)"):
                _make_python_image(builder, python, options)
        if not builder.has_image(build):
            with step("making the build image (the base with pip)"):
                _make_build_image(builder, python, build, build_requirements)
    return BaseImages(python, build)


def mmdebstrap_options() -> list[str]:
    """What decides the base image's content: essential packages and Python, without documentation and apt."""
    left_out = [f"--dpkgopt=path-exclude={pattern}" for pattern in _LEFT_OUT]
    return ["--variant=essential", f"--include={','.join(PACKAGES)}", *left_out, SUITE]


def _key(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:12]


def _make_python_image(builder: Builder, name: str, options: list[str]) -> None:
    with tempfile.TemporaryDirectory(dir=builder.folder, prefix=_SCRATCH) as scratch:
        archive = Path(scratch) / "root.tar"
        finished = subprocess.run(
            ["mmdebstrap", "--quiet", *options[:-1], "--", options[-1], str(archive)],
            capture_output=True,
            text=True,
            check=False,
        )
        if finished.returncode != 0:
            reason = (finished.stderr.strip().splitlines() or ["no output"])[-1]
            raise ClusterError(f"the base image could not be made ({reason}): Debian's package mirror is needed")
        builder.commit("scratch", name, archive)


def _make_build_image(builder: Builder, python: str, name: str, build_requirements: Path) -> None:
    with tempfile.TemporaryDirectory(dir=builder.folder, prefix=_SCRATCH) as scratch:
        wheels, root = Path(scratch) / "wheels", Path(scratch) / "root"
        finished = subprocess.run(
            [*_PIP_DOWNLOAD, "--dest", str(wheels), "--requirement", str(build_requirements)],
            capture_output=True,
            text=True,
            check=False,
        )
        if finished.returncode != 0:
            reason = (finished.stderr.strip().splitlines() or ["no output"])[-1]
            raise ClusterError(f"pip for the build image could not be fetched ({reason}): a package index is needed")
        target = root / _DIST_PACKAGES
        target.mkdir(parents=True)
        for wheel in wheels.glob("pip-*.whl"):
            with zipfile.ZipFile(wheel) as content:
                content.extractall(target)
        archive = shutil.make_archive(str(Path(scratch) / "pip"), "tar", root)
        builder.commit(python, name, Path(archive))
