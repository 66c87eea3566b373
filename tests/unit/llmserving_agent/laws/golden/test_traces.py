"""What each law decides over a minute of a load with a burst, against golden files.

``LLMSERVING_UPDATE_GOLDEN=1`` writes them anew; read what has changed before it is committed.
"""

import csv
import io
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from llmserving_agent.catalogue import LAWS
from llmserving_agent.guards import guarded
from llmserving_agent.laws.memory import Memory, MemoryRule
from llmserving_agent.laws.protocol import Law, Setting
from llmserving_api.control import Bounds
from llmserving_api.policy import LawName, Limits, Target

GOLDEN = Path(__file__).parents[4] / "golden" / "laws"
PLENTY, SCARCE = 20_000, 1_500
"""Blocks of KV cache: more than the load needs, and room for about 60 requests."""


SHORT = (150.0, 300.0, 40, 10)
"""Many short requests: below some hundred a second the thresholds of WAIT are 1, and nothing is held."""


COLUMNS = (
    "seconds",
    "running",
    "waiting",
    "kv_percent",
    "itl_p95_ms",
    "max_num_seqs",
    "max_num_batched_tokens",
    "planner",
    "reason",
    "message",
)


@dataclass(frozen=True)
class Case:
    """A law, the memory of its engine, its inter-token target, and its load (see `burst_load`)."""

    law: Callable[[], Law[Any]]
    blocks: int
    itl: float | None = 0.05
    load: tuple[float, float, int, int] = (6.0, 16.0, 500, 150)


CASES = {
    "static": Case(LAWS[LawName.STATIC], PLENTY),
    "memory-clt": Case(LAWS[LawName.MEMORY], SCARCE, itl=None),
    "memory-blocks": Case(lambda: guarded(Memory(rule=MemoryRule.BLOCKS)), SCARCE, itl=None),
    "sla": Case(LAWS[LawName.SLA], PLENTY),
    "memory-sla": Case(LAWS[LawName.MEMORY_SLA], SCARCE),
    "predictive": Case(LAWS[LawName.PREDICTIVE], PLENTY),
    "wait": Case(LAWS[LawName.WAIT], SCARCE, itl=None, load=SHORT),
    "nested-wait": Case(LAWS[LawName.NESTED_WAIT], 3 * SCARCE, itl=None, load=SHORT),
}


@pytest.mark.parametrize("name", CASES)
def test_a_law_decides_as_in_its_golden_trace(
    name: str, loop: Callable[..., list[Any]], load: Callable[..., list[Any]]
) -> None:
    case = CASES[name]
    setting = Setting(
        ttft=Target(percentile=95, target_seconds=2.0),
        itl=None if case.itl is None else Target(percentile=95, target_seconds=case.itl),
        e2e=None,
        max_num_seqs=Limits(min=8, max=256),
        max_num_batched_tokens=Limits(min=256, max=8192),
        stock=Bounds(max_num_seqs=128, max_num_batched_tokens=2048),
    )
    found = as_text(loop(case.law(), setting, load(60.0, *case.load), case.blocks, 60))
    golden = GOLDEN / f"{name}.csv"
    if os.environ.get("LLMSERVING_UPDATE_GOLDEN"):
        golden.write_text(found)
    wanted = golden.read_text() if golden.is_file() else ""

    difference = first_difference(wanted.splitlines(), found.splitlines())
    assert not difference, (
        f"{golden.name}: {difference}\nIf the law is meant to decide so now, write the traces anew with "
        "LLMSERVING_UPDATE_GOLDEN=1 .venv/bin/pytest tests/unit/llmserving_agent/laws/golden and look at the changes"
    )


def as_text(rows: list[Any]) -> str:
    """One decision a line: what it was taken on, the bounds, the planner and the reason."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(COLUMNS)
    for row in rows:
        said = row.decision
        seen = (row.time, row.running, row.waiting, row.kv_percent, row.itl_p95_ms)
        bounds = (said.bounds.max_num_seqs, said.bounds.max_num_batched_tokens)
        table.writerow([*seen, *bounds, said.planner.name, said.reason.value, said.message])
    return text.getvalue()


def first_difference(wanted: list[str], found: list[str]) -> str:
    """The first line that is not as it was, in both forms; empty where there is none."""
    for number, (old, new) in enumerate(zip(wanted, found, strict=False), start=1):
        if old != new:
            return f"line {number} was\n  {old}\nand is\n  {new}"
    return "" if len(wanted) == len(found) else f"{len(wanted)} lines were, {len(found)} are"
