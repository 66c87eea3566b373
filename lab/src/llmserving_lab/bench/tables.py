"""The bench's result on the terminal: tables whose figures and names are whole at 80 columns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich import box
from rich.table import Table

from llmserving_lab.bench.definitions import DEFINITIONS

_RUN_COLUMNS = {
    "rate": ("rate_rps", "{:.2f}"),
    "good": ("attainment", "{:.3f}"),
    "goodput": ("goodput_rps", "{:.2f}"),
    "TTFT\np50": ("ttft_p50_s", "{:.3f}"),
    "\np95": ("ttft_p95_s", "{:.3f}"),
    "ITL\np95": ("itl_p95_s", "{:.4f}"),
    "\np99": ("itl_p99_s", "{:.4f}"),
    "pre-\nempted": ("preemptions", "{}"),
}
"""Field of a run, and how it is written, by the column's head."""


def capacity_table(entries: Sequence[dict[str, Any]]) -> Table:
    """A row for each entry of the result's `capacity`."""
    table = _table("capacity", ("capacity\nreq/s", "fails\nat", "pooled", "of\nlimit", "over-\nload"))
    table.add_column("setting", no_wrap=True)
    table.caption = DEFINITIONS["capacity"]
    for entry in entries:
        share = entry["capacity_rps"] / entry["limit_rps"] if entry["limit_rps"] else 0.0
        table.add_row(
            entry["policy"],
            f"{entry['low']:.2f}",
            "-" if entry["high"] is None else f"{entry['high']:.2f}",
            f"{entry['pooled_rps']:.2f}",
            f"{share:.2f}",
            "-" if entry["overload"] is None else f"{entry['overload']:.2f}",
            entry.get("chosen", ""),
        )
    return table


def run_table(runs: Sequence[dict[str, Any]], title: str) -> Table:
    """A row for each run."""
    table = _table(title, tuple(_RUN_COLUMNS))
    for run in runs:
        written = [(run.get(field), shape) for field, shape in _RUN_COLUMNS.values()]
        cells = ["-" if value is None else shape.format(value) for value, shape in written]
        table.add_row(run.get("chosen", run["policy"]), *cells)
    return table


def _table(title: str, columns: Sequence[str]) -> Table:
    table = Table(title=title, box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    table.add_column("policy", no_wrap=True)
    for column in columns:
        table.add_column(column, justify="right", no_wrap=True)
    return table
