"""Batch requests beside interactive ones, from the trace's class to the scheduler's order, on vLLM's own scheduler."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

Run = Callable[..., dict[str, Any]]

INTERACTIVE = 240
BATCH = 240


def trace(folder: Path) -> str:
    """Four short prompts a second for a minute; after five seconds as many long ones at once."""
    start = datetime(2026, 1, 1, tzinfo=UTC)
    rows = [(0.25 * k, 400, 150, "") for k in range(INTERACTIVE)] + [(5.0, 2500, 150, "batch")] * BATCH
    lines = ["TIMESTAMP,ContextTokens,GeneratedTokens,Class"]
    for seconds, prompt, output, request_class in sorted(rows):
        moment = (start + timedelta(seconds=seconds)).strftime("%Y-%m-%d %H:%M:%S.%f")
        lines.append(f"{moment},{prompt},{output},{request_class}")
    path = folder / "trace.csv"
    path.write_text("\n".join(lines) + "\n")
    return str(path)


@pytest.mark.parametrize("kv_tokens", [480_000, 120_000])
def test_a_flood_of_batch_requests_leaves_interactive_ones_their_targets(
    run: Run, tmp_path: Path, kv_tokens: int
) -> None:
    load = {"load__trace": trace(tmp_path), "load__rate": None, "load__requests": INTERACTIVE + BATCH}
    result = run("predictive", kv_tokens=kv_tokens, **load)
    assert result["completed"] == result["arrived"] == INTERACTIVE + BATCH
    short_prompts = result["attainment_by_prompt_decile"][:5]
    assert min(short_prompts) > 0.9
