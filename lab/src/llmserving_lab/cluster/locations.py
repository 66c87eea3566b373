"""Where the lab keeps what it builds, and where the repository is."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from llmserving_lab.cluster.errors import ClusterError


def cache_root(environ: Mapping[str, str] = os.environ) -> Path:
    """The project's folder under the user's cache: `$XDG_CACHE_HOME/llmserving`, by default `~/.cache/llmserving`."""
    base = environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "llmserving"


def repository_root(start: Path = Path(__file__)) -> Path:
    """The checkout this module runs from: the folder that holds the tools' Go modules and the Dockerfile.

    Raises:
        ClusterError: the lab is installed without its checkout.
    """
    for folder in start.resolve().parents:
        if (folder / "tools" / "kubernetes" / "go.mod").is_file():
            return folder
    raise ClusterError("tools/kubernetes/go.mod not found above the installed lab: run it from a checkout (make setup)")
