"""Recorded real runs: a folder with meta.json, requests.jsonl and timeseries.csv."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T", int, float)


class RecordingError(ValueError):
    """A recorded run is not as it should be; the message names file, row and what is wrong."""


@dataclass(frozen=True, slots=True)
class RecordedRequest:
    """One request of a recorded run; times in seconds since the first was queued (at the engine or at the client)."""

    queued: float
    first_token: float
    last_token: float
    prompt_tokens: int
    output_tokens: int
    token_times: tuple[float, ...] = ()

    @property
    def ttft(self) -> float:
        """Seconds from the engine's queue to the first token."""
        return self.first_token - self.queued

    @property
    def tpot(self) -> float | None:
        """Mean time per output token after the first; None for one-token outputs."""
        return (self.last_token - self.first_token) / (self.output_tokens - 1) if self.output_tokens > 1 else None

    @property
    def gaps(self) -> tuple[float, ...]:
        """Seconds between outputs; tokens with equal times came in one output, which is one gap."""
        return tuple(later - earlier for earlier, later in pairwise(self.token_times) if later > earlier)


@dataclass(frozen=True, slots=True)
class Recording:
    """A recorded run.

    Attributes:
        name: The folder's name.
        model: Model that ran.
        vllm_version: Engine version.
        max_num_seqs: Start-up setting.
        max_num_batched_tokens: Start-up setting.
        requests: In order of arrival at the engine.
        states: `(seconds, running, waiting)` over time.
        kv_tokens: Capacity of the engine's KV cache; None where the recording does not say.
        at_client: Whether times are those of a client; else those of the engine.
        front_end_seconds: Part of a client's mean TTFT that is spent outside the engine; None where it is not known.
    """

    name: str
    model: str
    vllm_version: str
    max_num_seqs: int
    max_num_batched_tokens: int
    requests: tuple[RecordedRequest, ...]
    states: tuple[tuple[float, int, int], ...]
    kv_tokens: int | None = None
    at_client: bool = False
    front_end_seconds: float | None = None


def read_recording(folder: Path) -> Recording:
    """Read and check a recorded run.

    Raises:
        RecordingError: with file, row and what would be right.
    """
    if not folder.is_dir():
        raise RecordingError(f"{folder}: no such folder; it should hold meta.json, requests.jsonl and timeseries.csv")
    meta = _json(folder / "meta.json", _read(folder / "meta.json"), 1)
    settings = meta.get("engine_kwargs", {})
    ceilings = {}
    for name in ("max_num_seqs", "max_num_batched_tokens"):
        if not isinstance(settings.get(name), int):
            raise RecordingError(
                f"{folder / 'meta.json'}: engine_kwargs.{name} is missing; it should be the engine's setting"
            )
        ceilings[name] = settings[name]
    return Recording(
        name=folder.resolve().name,
        model=str(meta.get("model", "")),
        vllm_version=str(meta.get("vllm_version", "")),
        requests=_requests(folder / "requests.jsonl"),
        states=_states(folder / "timeseries.csv"),
        kv_tokens=_optional(folder / "meta.json", meta, "kv_cache_tokens", int),
        at_client=meta.get("measured_at") == "client",
        front_end_seconds=_optional(folder / "meta.json", meta, "front_end_seconds", float),
        **ceilings,
    )


def _optional(path: Path, meta: dict[str, Any], name: str, kind: Callable[[Any], T]) -> T | None:
    """A number above or equal to zero, or None where the recording does not say."""
    value = meta.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
        raise RecordingError(f"{path}: {name} is {value!r}; it should be a number of zero or more, or absent")
    return kind(value)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RecordingError(f"{path}: cannot be read: {error}") from None


def _json(path: Path, text: str, line: int) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        raise RecordingError(f"{path}: row {line + error.lineno - 1}: not JSON: {error.msg}") from None
    if not isinstance(value, dict):
        raise RecordingError(f"{path}: row {line}: should be a JSON object")
    return value


def _requests(path: Path) -> tuple[RecordedRequest, ...]:
    rows = []
    for line, text in enumerate(_read(path).splitlines(), start=1):
        if not text.strip():
            continue
        row = _json(path, text, line)
        try:
            rows.append(
                RecordedRequest(
                    queued=float(row["queued_ts"]),
                    first_token=float(row["first_token_ts"]),
                    last_token=float(row["last_token_ts"]),
                    prompt_tokens=int(row["input_toks"]),
                    output_tokens=int(row["output_toks"]),
                    token_times=tuple(float(time) for time in row.get("token_ts", ())),
                )
            )
        except KeyError as error:
            raise RecordingError(f"{path}: row {line}: {error.args[0]} is missing") from None
        except (TypeError, ValueError) as error:
            raise RecordingError(f"{path}: row {line}: {error}") from None
        if not rows[-1].queued <= rows[-1].first_token <= rows[-1].last_token:
            raise RecordingError(
                f"{path}: row {line}: queued_ts, first_token_ts and last_token_ts should follow each other"
            )
        _check_token_times(path, line, rows[-1])
    if not rows:
        raise RecordingError(f"{path}: has no requests")
    start = min(row.queued for row in rows)
    return tuple(
        RecordedRequest(
            row.queued - start,
            row.first_token - start,
            row.last_token - start,
            row.prompt_tokens,
            row.output_tokens,
            tuple(time - start for time in row.token_times),
        )
        for row in sorted(rows, key=lambda row: row.queued)
    )


def _check_token_times(path: Path, line: int, row: RecordedRequest) -> None:
    times = row.token_times
    if not times:
        return
    if len(times) != row.output_tokens:
        raise RecordingError(
            f"{path}: row {line}: token_ts holds {len(times)} times and output_toks is {row.output_tokens}; they should agree"
        )
    if list(times) != sorted(times) or (times[0], times[-1]) != (row.first_token, row.last_token):
        raise RecordingError(f"{path}: row {line}: token_ts should ascend from first_token_ts to last_token_ts")


def _states(path: Path) -> tuple[tuple[float, int, int], ...]:
    states = []
    for line, row in enumerate(csv.DictReader(_read(path).splitlines()), start=2):
        try:
            states.append((float(row["t"]), int(row["running"]), int(row["waiting"])))
        except (KeyError, TypeError, ValueError):
            raise RecordingError(f"{path}: row {line}: t, running and waiting should be numbers") from None
    return tuple(states)
