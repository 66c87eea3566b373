"""Puts the engine plug-in where the engine finds it: the init container's job.

The agent's image carries the plug-in's package and its ``dist-info`` (the entry point is found through it). Both are
copied into a folder beside the target and moved into place, so that the engine never sees half of it.
"""

import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

PLUGIN_SOURCE = "/opt/llmserving/plugin-source"
ENV_PLUGIN_SOURCE = "LLMSERVING_PLUGIN_SOURCE"


class PluginError(Exception):
    """The plug-in cannot be installed; the message says what is missing where."""


def install_plugin(target: Path, environment: Mapping[str, str] = os.environ) -> list[str]:
    """Copy the carried plug-in into ``target``, made if need be; returns the names put there.

    Raises:
        PluginError: nothing is carried, or the target cannot be written.
    """
    source = Path(environment.get(ENV_PLUGIN_SOURCE, PLUGIN_SOURCE))
    packages = sorted(entry for entry in source.iterdir() if entry.is_dir()) if source.is_dir() else []
    if not any(entry.name.endswith(".dist-info") for entry in packages) or len(packages) < 2:
        raise PluginError(f"{source}: no plug-in package with its dist-info here (set {ENV_PLUGIN_SOURCE})")
    try:
        target.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".incoming-", dir=target) as scratch:
            for entry in packages:
                shutil.copytree(entry, Path(scratch, entry.name), ignore=shutil.ignore_patterns("__pycache__"))
            for entry in packages:
                _replace(Path(scratch, entry.name), target / entry.name, Path(scratch, f"old-{entry.name}"))
    except OSError as error:
        raise PluginError(f"{target}: {error}") from error
    return [entry.name for entry in packages]


def _replace(new: Path, place: Path, aside: Path) -> None:
    if place.exists():
        place.rename(aside)
    new.rename(place)
