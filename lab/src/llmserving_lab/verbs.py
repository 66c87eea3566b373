"""What the verbs of `llmserving-lab` have in common: flags that are checked before the work begins, and errors in one line."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NoReturn

import typer
from pydantic import ValidationError
from typer.core import TyperGroup

DEFAULT_LOAD = "conversation"
"""Generated requests where neither a trace nor a load is named."""


class FlagError(ValueError):
    """A flag's value cannot be used; the message says what would be right."""


class Verbs(TyperGroup):
    """A group of verbs whose complaints about a flag repeat the value that was given."""

    def invoke(self, ctx: Any) -> Any:
        """Run the verb.

        Raises:
            typer.BadParameter: a flag's value is not of its type or out of range.
        """
        try:
            return super().invoke(ctx)
        except typer.BadParameter as error:
            if isinstance(error.__cause__, ValidationError):
                error.message += f"; {error.__cause__.errors()[0]['input']!r} was given"
            raise


def fail(error: object, code: int = 2) -> NoReturn:
    """End the command with an error in one line."""
    typer.echo(f"{typer.style('error:', fg=typer.colors.RED)} {error}", err=True)
    raise typer.Exit(code)


def names_in(text: str) -> list[str]:
    """The names of a comma-separated flag, each once."""
    return list(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))


def chosen(flag: str, text: str, known: Iterable[str], what: str) -> list[str]:
    """The names of a flag that chooses among known ones; all of them where it is empty.

    Raises:
        FlagError: one is not known.
    """
    names, there = names_in(text), list(known)
    for name in names:
        if name not in there:
            raise FlagError(f"{flag} {text}: no such {what} {name!r}; there are {', '.join(there)}")
    return names or there


def load_kind(trace: Path | None, load: str | None) -> str:
    """The load of `--load`, where no `--trace` brings its own.

    Raises:
        FlagError: both are given.
    """
    if trace is not None and load is not None:
        raise FlagError(f"--load {load}: not with --trace {trace}, whose requests would take its place; leave one out")
    return load or DEFAULT_LOAD


def check_writable(flag: str, file: Path | None) -> None:
    """Make sure that a file can be written once the work is done; its folder is made.

    Raises:
        FlagError: it cannot.
    """
    if file is None:
        return
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FlagError(f"{flag} {file}: its folder cannot be made: {error.strerror}") from None
    if file.is_dir():
        raise FlagError(f"{flag} {file}: is a folder; it should be a file")
    if not os.access(file if file.exists() else file.parent, os.W_OK):
        raise FlagError(f"{flag} {file}: cannot be written: no permission")


def write_json(file: Path | None, document: dict[str, Any]) -> None:
    """Write figures to the file that `check_writable` has looked at; None writes nothing."""
    if file is not None:
        file.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
