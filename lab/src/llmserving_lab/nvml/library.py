"""Builds the stand-in library with the C compiler and keeps it in the cache."""

from __future__ import annotations

import hashlib
import subprocess
from importlib.resources import files
from pathlib import Path

from llmserving_lab.cluster import debian
from llmserving_lab.cluster.locations import cache_root

SONAME = "libnvidia-ml.so.1"

COMPILER_PACKAGES = {"gcc": "gcc", "gencat": "libc6-dev"}


def build_library(cache: Path | None = None) -> Path:
    """The library's file, compiled now where it is missing.

    Raises:
        ClusterError: there is no compiler and it cannot be installed.
    """
    source = files("llmserving_lab.nvml").joinpath("nvml.c").read_bytes()
    folder = (cache or cache_root() / "nvml") / hashlib.sha256(source).hexdigest()[:16]
    library = folder / SONAME
    if not library.is_file():
        debian.ensure(COMPILER_PACKAGES)
        folder.mkdir(parents=True, exist_ok=True)
        scratch = folder / f".{SONAME}.new"
        command = [
            "gcc",
            "-shared",
            "-fPIC",
            "-O1",
            "-Wall",
            f"-Wl,-soname,{SONAME}",
            "-x",
            "c",
            "-o",
            str(scratch),
            "-",
        ]
        subprocess.run(command, input=source, check=True)
        scratch.rename(library)
    return library
