"""Reading traces of the Azure shape: TIMESTAMP, ContextTokens, GeneratedTokens, optionally HashIds and Class."""

from __future__ import annotations

import csv
from datetime import datetime
from math import isfinite, nan
from pathlib import Path

from llmserving_lab.traces.arrival import Arrival

COLUMNS = ("TIMESTAMP", "ContextTokens", "GeneratedTokens")
HASH_BLOCK_TOKENS = 512
"""Tokens that one entry of HashIds stands for, as in the Mooncake traces."""


class TraceError(ValueError):
    """A trace file is not as it should be; the message names file, row and what is wrong."""


def read_trace(path: Path) -> list[Arrival]:
    """Read a trace file in order of arrival, times starting at zero.

    TIMESTAMP is a date and time (any number of decimals) or a number of seconds. HashIds, where present, is a list of integers
    separated by spaces or commas, one per 512 prompt tokens: requests with equal first entries share a prefix.

    Raises:
        TraceError: with file, row and what would be right.
    """
    arrivals: list[Arrival] = []
    first: float | None = None
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            for column in COLUMNS:
                if column not in (reader.fieldnames or ()):
                    raise TraceError(
                        f"{path}: row 1: column {column} is missing; the header should be {','.join(COLUMNS)}"
                    )
            for line, row in enumerate(reader, start=2):
                time = _seconds(path, line, row["TIMESTAMP"])
                first = time if first is None else first
                if arrivals and time - first < arrivals[-1].time:
                    raise TraceError(
                        f"{path}: row {line}: TIMESTAMP is earlier than the row before; sort the file by TIMESTAMP"
                    )
                prompt = _tokens(path, line, row, "ContextTokens")
                arrivals.append(
                    Arrival(
                        time=time - first,
                        prompt_tokens=prompt,
                        output_tokens=_tokens(path, line, row, "GeneratedTokens"),
                        content=_content(path, line, row.get("HashIds") or "", prompt),
                        request_class=(row.get("Class") or "").strip(),
                    )
                )
    except OSError as error:
        raise TraceError(f"{path}: cannot be read: {error.strerror}") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise TraceError(f"{path}: not a CSV file: {error}") from None
    if not arrivals:
        raise TraceError(f"{path}: has no rows after the header")
    return arrivals


def _seconds(path: Path, line: int, text: str | None) -> float:
    text = (text or "").strip()
    try:
        seconds = float(text)
    except ValueError:
        seconds = _seconds_of_date(text)
    if not isfinite(seconds):
        raise TraceError(
            f"{path}: row {line}: TIMESTAMP is {text!r}; it should be a date and time such as 2023-11-16 18:15:46.68, or seconds"
        )
    return seconds


def _seconds_of_date(text: str) -> float:
    """Seconds since 1970 with all decimals; not a number where the text is no date."""
    whole, _, fraction = text.partition(".")
    zone = ""
    for sign in "+-Z":
        digits, found, rest = fraction.partition(sign)
        if found:
            fraction, zone = digits, "+00:00" if sign == "Z" else sign + rest
            break
    try:
        return datetime.fromisoformat(whole + zone).timestamp() + (float(f"0.{fraction}") if fraction else 0.0)
    except ValueError:
        return nan


def _tokens(path: Path, line: int, row: dict[str, str], column: str) -> int:
    try:
        value = int(row[column])
    except (TypeError, ValueError):
        raise TraceError(
            f"{path}: row {line}: {column} is {row[column] or ''!r}; it should be a whole number"
        ) from None
    if value < 0:
        raise TraceError(f"{path}: row {line}: {column} is {value}; it should not be negative")
    return max(1, value)


def _content(path: Path, line: int, text: str, prompt_tokens: int) -> tuple[tuple[int, int], ...]:
    if not text.strip():
        return ()
    try:
        ids = [int(part) for part in text.strip("[] ").replace(",", " ").split()]
    except ValueError:
        raise TraceError(
            f"{path}: row {line}: HashIds is {text!r}; it should be whole numbers separated by spaces"
        ) from None
    runs: list[tuple[int, int]] = []
    left = prompt_tokens
    for number in ids:
        count = min(HASH_BLOCK_TOKENS, left)
        if count <= 0:
            break
        runs.append((number, count))
        left -= count
    if left > 0:
        raise TraceError(
            f"{path}: row {line}: HashIds has {len(ids)} entries for {prompt_tokens} tokens; it needs one per {HASH_BLOCK_TOKENS}"
        )
    return tuple(runs)
