"""Reading result files of the bench: one line that says what is wrong, or data that can be drawn."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, ValidationError

from llmserving_lab.bench.plan import RunPlan

_TAGS = ("run", "limit")
_ORIGIN = "a result file of `llmserving-lab bench --json FILE` or `llmserving-lab suite`"


class ResultFileError(ValueError):
    """A result file cannot be drawn; the message names the file, the field and what would be right."""


class _Part(BaseModel):
    """Base of the parts: frozen; what the report does not draw is passed over."""

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True, allow_inf_nan=False)


class BenchRun(_Part):
    """One run; names and units as in the result file.

    Attributes:
        rate_rps: Mean arrivals per second; None where the trace kept its own times.
        chosen: Setting that a search settled on, where the policy is a search.
        bounds: `(seconds, max_num_seqs, max_num_batched_tokens)` at each change; empty where the run kept none.
        states: `(seconds, running, waiting, KV use as a share)` once a second; empty where the run kept none.
    """

    policy: str
    rate_rps: Annotated[float, Field(gt=0)] | None
    seed: int = 0
    start: int = 0
    arrived: int = Field(ge=0)
    aborted: int = Field(default=0, ge=0)
    good: int = Field(ge=0)
    attainment: Annotated[float, Field(ge=0, le=1)] | None
    goodput_rps: Annotated[float, Field(ge=0)] | None
    ttft_p95_s: float | None = None
    ttft_max_s: float | None = None
    itl_p95_s: float | None = None
    preemptions: int | None = None
    virtual_s: float = Field(ge=0)
    chosen: str | None = None
    bounds: tuple[tuple[float, int, int], ...] = ()
    states: tuple[tuple[float, int, int, float], ...] = ()


class LimitRun(_Part):
    """The limit: saturated throughput without targets, requests per second."""

    policy: Literal["limit"]
    throughput_rps: float = Field(ge=0)


class CapacityEntry(_Part):
    """A policy's capacity, requests per second.

    Attributes:
        measured_as: Policy of the runs that found it; another one than `policy` where that is a search.
        low: Highest rate that passed, geometric mean over the slices; 0 where none did on some slice.
        high: Lowest rate that failed; None where none did.
        slice_capacities: Both rates of each slice.
        pooled: Both rates for all slices together.
        limit_rps: The load's limit.
        overload: Goodput at 1.5 times capacity over capacity.
        longest_ttft_s: Longest time to first token at capacity, all slices.
        longest_decile: Attainment of the longest tenth of the prompts at capacity: lowest and mean of the slices.
        relegated_share: Share of requests at capacity that later ones overtook by more than the target.
        preemptions: At capacity, all slices.
    """

    policy: str
    measured_as: str
    low: float = Field(ge=0)
    high: Annotated[float, Field(ge=0)] | None
    slice_capacities: tuple[tuple[float, float | None], ...] = ()
    pooled: tuple[float, float | None] | None = None
    limit_rps: float = Field(ge=0)
    overload: float | None = None
    longest_ttft_s: float | None = None
    longest_decile: tuple[float, float] | None = None
    relegated_share: float | None = None
    preemptions: int | None = None


def _which(value: Any) -> str:
    return "limit" if isinstance(value, dict) and value.get("policy") == "limit" else "run"


class Document(_Part):
    """The content of a result file."""

    kind: Literal["bench"]
    cell: str | None = None
    plan: RunPlan
    definitions: dict[str, str] = Field(default_factory=dict)
    caveats: tuple[str, ...] = ()
    runs: tuple[
        Annotated[Annotated[BenchRun, Tag("run")] | Annotated[LimitRun, Tag("limit")], Discriminator(_which)], ...
    ]
    capacity: tuple[CapacityEntry, ...] = ()


@dataclass(frozen=True, slots=True)
class Result:
    """A result file.

    Attributes:
        name: The file's name without its ending.
        document: Its content.
    """

    name: str
    document: Document


def read_result(path: Path) -> Result:
    """Read and check a result file.

    Raises:
        ResultFileError: it is no result file, or a field of it cannot be used.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ResultFileError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ResultFileError(f"{path}: not a text file; it should be {_ORIGIN}") from None
    try:
        document = Document.model_validate_json(text)
    except ValidationError as error:
        raise ResultFileError(f"{path}: {_first(error)}") from None
    if not document.runs and not document.capacity:
        raise ResultFileError(f"{path}: runs: is empty, there is nothing to draw")
    return Result(path.stem, document)


def _first(error: ValidationError) -> str:
    """The first thing wrong: the field as one would write it, what would be right, and what is there."""
    what = error.errors(include_url=False)[0]
    if what["type"] == "json_invalid":
        return f"{what['msg'][0].lower()}{what['msg'][1:]}; it should be {_ORIGIN}"
    field = "".join(
        f"[{part}]" if isinstance(part, int) else f".{part}" for part in what["loc"] if part not in _TAGS
    ).lstrip(".")
    if field in {"", "kind"}:
        return f"{field or 'content'}: should be {'`bench`' if field else 'a JSON object'}; is this {_ORIGIN}?"
    if what["type"] == "missing":
        return f"{field} is missing"
    there = what["input"]
    found = "" if isinstance(there, dict | list) else f", not {json.dumps(there, default=str)[:40]}"
    return f"{field}: {what['msg'].removeprefix('Input ')}{found}"
