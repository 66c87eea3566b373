"""The demo's folder: looked at before anything is built, emptied of an earlier demo's files before the next one."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

from llmserving_lab.verbs import FlagError

WRITTEN = (
    "install",
    "chat.yaml",
    "edit-*.yaml",
    "load.json",
    "prometheus",
    "report.html",
    "requests.jsonl",
    "result.json",
)
"""Everything a demo writes into its folder, by name or pattern."""
_MOST_NAMED = 3


def check_output(folder: Path, json_file: Path | None = None) -> None:
    """Make sure that the demo can write its files; the folder is made.

    Args:
        folder: The flag's value.
        json_file: Where the result goes as well: it may lie in the folder.

    Raises:
        FlagError: it cannot, or the folder holds files of somebody else. The demo would mix with them and take those that
            are called as its own.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FlagError(f"--output {folder}: cannot be made: {error.strerror}") from None
    if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
        raise FlagError(f"--output {folder}: cannot be written: no permission")
    spared = None if json_file is None else json_file.resolve()
    others = sorted({path.name for path in folder.iterdir() if path.resolve() != spared} - set(_written(folder)))
    if others:
        named = ", ".join(others[:_MOST_NAMED]) + (", …" if len(others) > _MOST_NAMED else "")
        raise FlagError(
            f"--output {folder}: holds files that are not a demo's ({named}); give a folder that is new or empty"
        )


def clear(folder: Path) -> None:
    """Remove what an earlier demo wrote, and nothing else."""
    for path in (folder / name for name in _written(folder)):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def _written(folder: Path) -> Iterator[str]:
    names = [path.name for path in folder.iterdir()]
    return (name for name in names if any(fnmatch(name, pattern) for pattern in WRITTEN))
