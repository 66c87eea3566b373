"""A recording as a folder: meta.json, requests.jsonl, timeseries.csv, as `llmserving_lab.validate.recording` reads them."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

from llmserving_lab.record.errors import RecordError
from llmserving_lab.record.series import EngineState
from llmserving_lab.record.server import ServedModel
from llmserving_lab.traces.plan import LoadPlan
from llmserving_lab.traffic.record import RequestRecord

SCHEMA_VERSION = 1
COLUMNS = ("t", "prompt_throughput", "gen_throughput", "running", "waiting", "kv_cache_pct")


@dataclass(frozen=True, slots=True)
class Recorded:
    """Everything that was seen.

    Attributes:
        model: The server's model.
        card: The card's name as the driver reports it, or empty.
        plan: The load.
        records: What the client saw of each request.
        states: `(monotonic seconds, state)` of the engines, the first before the first request, the last after the last.
        started: Monotonic seconds at which the load began.
        wall_offset: Wall-clock seconds minus monotonic seconds.
        tick_seconds: Between two states.
        front_end_seconds: Mean TTFT at the client less that in the engine, of requests sent one by one before the recording.
    """

    model: ServedModel
    card: str
    plan: LoadPlan
    records: tuple[RequestRecord, ...]
    states: tuple[tuple[float, EngineState], ...]
    started: float
    wall_offset: float
    tick_seconds: float
    front_end_seconds: float


def check_free(folder: Path) -> None:
    """Refuse a folder that already holds a recording.

    Raises:
        RecordError: it does, or it is no folder.
    """
    if (folder / "meta.json").exists():
        raise RecordError(f"--out {folder}: holds a recording already; give a folder that is new or empty")
    if folder.exists() and not folder.is_dir():
        raise RecordError(f"--out {folder}: is not a folder")


def write_recording(folder: Path, recorded: Recorded) -> None:
    """Write the three files; meta.json last, so that a folder that has one is complete."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "requests.jsonl").write_text(request_lines(recorded), encoding="utf-8")
    (folder / "timeseries.csv").write_text(timeseries(recorded), encoding="utf-8")
    (folder / "meta.json").write_text(json.dumps(meta(recorded), indent=2) + "\n", encoding="utf-8")


def request_lines(recorded: Recorded) -> str:
    """requests.jsonl: one line per request in order of sending; times in seconds of the client's monotonic clock."""
    lines = []
    for index, one in enumerate(sorted(recorded.records, key=lambda record: record.sent)):
        row = {
            "request_id": f"record-{index}",
            "input_toks": one.prompt_tokens,
            "output_toks": one.output_tokens,
            "arrival_time": round(one.sent + recorded.wall_offset, 6),
            "queued_ts": round(one.sent, 6),
            "first_token_ts": round(one.outputs[0], 6),
            "last_token_ts": round(one.outputs[-1], 6),
            "token_ts": [round(time, 6) for time in one.outputs],
        }
        lines.append(json.dumps(row, separators=(",", ":")) + "\n")
    return "".join(lines)


def timeseries(recorded: Recorded) -> str:
    """timeseries.csv: state and throughput (tokens per second since the row before) by seconds since the first request."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for (before, old), (now, state) in pairwise(recorded.states):
        span = now - before
        writer.writerow(
            (
                round(now - recorded.started, 3),
                round((state.prompt_tokens - old.prompt_tokens) / span, 1),
                round((state.output_tokens - old.output_tokens) / span, 1),
                state.running,
                state.waiting,
                round(100 * state.kv_usage, 2),
            )
        )
    return text.getvalue()


def meta(recorded: Recorded) -> dict[str, Any]:
    """meta.json."""
    model, (_, first), (_, last) = recorded.model, recorded.states[0], recorded.states[-1]
    ended = max(record.ended for record in recorded.records)
    return {
        "schema_version": SCHEMA_VERSION,
        "model": model.root,
        "vllm_version": model.vllm_version,
        "card": recorded.card,
        "engine_kwargs": {
            "model": model.root,
            "max_num_seqs": model.ceilings.max_num_seqs,
            "max_num_batched_tokens": model.ceilings.max_num_batched_tokens,
            "max_model_len": model.max_model_len,
            "async_scheduling": model.asynchronous,
        },
        "kv_cache_tokens": last.kv_tokens,
        "kv_block_size": last.block_size,
        "measured_at": "client",
        "front_end_seconds": round(recorded.front_end_seconds, 6),
        "preemptions": last.preemptions - first.preemptions,
        "load": recorded.plan.model_dump(mode="json"),
        "num_requests": len(recorded.records),
        "started_at": _moment(recorded.started + recorded.wall_offset),
        "finished_at": _moment(ended + recorded.wall_offset),
        "tick_seconds": recorded.tick_seconds,
    }


def _moment(wall: float) -> str:
    return datetime.fromtimestamp(wall, UTC).isoformat().replace("+00:00", "Z")
