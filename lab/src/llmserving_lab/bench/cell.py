"""Measuring one cell of the suite: policies side by side, each saved as soon as it is found."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import Any

from rich.console import Console
from rich.status import Status

from llmserving_lab.bench.campaign import Campaign
from llmserving_lab.bench.definitions import DEFINITIONS
from llmserving_lab.bench.slices import load_slices
from llmserving_lab.bench.store import Pool
from llmserving_lab.bench.suite import Cell


@dataclass(slots=True)
class Progress:
    """Says what is being measured.

    Attributes:
        console: Where lines go.
        status: The line at the bottom.
        cell: Name of the cell.
        left: Cells after this one.
        running: Policies under way.
    """

    console: Console
    status: Status
    cell: str
    left: int
    running: list[str] = field(default_factory=list)
    started: float = field(default_factory=time.monotonic)
    ended: int = 0

    def note(self, text: str) -> None:
        """Something has ended."""
        self.ended += 1
        minutes, seconds = divmod(int(time.monotonic() - self.started), 60)
        self.console.print(f"[dim]{self.cell} {minutes}:{seconds:02d}[/dim] {text}", highlight=False, soft_wrap=True)
        self.status.update(
            f"{self.cell}, {minutes}:{seconds:02d}: {', '.join(self.running)}; {self.ended} runs, {self.left} cells left after it"
        )


def measure(
    pool: Pool,
    cell: Cell,
    profile: str,
    traces: dict[str, str],
    path: Path,
    policies: Sequence[str],
    progress: Progress,
) -> dict[str, Any]:
    """The cell's document: policies that its file has already, and those still to be measured."""
    plan = cell.plan(profile, traces)
    slices = load_slices(plan.load, cell.slices)
    same = {
        "kind": "bench",
        "cell": cell.name,
        "plan": plan.model_dump(mode="json"),
        "slices": [list(one) for one in slices],
        "definitions": DEFINITIONS,
    }
    document: dict[str, Any] = {**same, "caveats": [], "runs": [], "capacity": [], "wall_s": 0.0}
    if path.is_file():
        before = json.loads(path.read_text(encoding="utf-8"))
        if all(before.get(key) == same[key] for key in same):
            document = before
    wanted = [one for one in policies if all(entry["policy"] != one for entry in document["capacity"])]
    if not wanted:
        return document
    progress.running = list(wanted)
    progress.note("the limit, then " + ", ".join(wanted))
    campaign = Campaign(pool, plan, slices, progress.note)
    limits = campaign.measurement.limits()
    lock = Lock()

    def one(policy: str) -> None:
        started = time.monotonic()
        entry, runs = campaign.capacity(policy, limits)
        entry |= {"code": code_version(), "wall_s": round(time.monotonic() - started, 1)}
        with lock:
            progress.running.remove(policy)
            document["capacity"] = sorted([*document["capacity"], entry], key=lambda it: _place(it["policy"], policies))
            document["runs"] += runs
            document["caveats"] = sorted({*document["caveats"], *(text for run in runs for text in run["caveats"])})
            document["wall_s"] = round(sum(it["wall_s"] for it in document["capacity"]), 1)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
        progress.note(f"{policy}: {entry['capacity_rps']:.2f} req/s")

    with ThreadPoolExecutor(len(wanted)) as threads:
        list(threads.map(one, wanted))
    return document


def _place(policy: str, order: Sequence[str]) -> int:
    return order.index(policy) if policy in order else len(order)


def code_version() -> str:
    """Commit of the code that measures, where it runs from a checkout."""
    answer = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        check=False,
    )
    return answer.stdout.strip() or "unknown"
