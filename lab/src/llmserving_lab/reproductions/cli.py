"""`llmserving-lab reproduce`: what the papers claim for their laws, measured on the bench."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from llmserving_lab.bench.pool import EnginePool, RunError
from llmserving_lab.reproductions.claims import REPRODUCTIONS
from llmserving_lab.reproductions.measuring import measured
from llmserving_lab.verbs import FlagError, check_writable, chosen, fail, write_json


def reproduce(
    only: Annotated[
        str, typer.Option(help=f"Comma-separated names; all by default: {', '.join(r.name for r in REPRODUCTIONS)}.")
    ] = "",
    json_file: Annotated[Path | None, typer.Option("--json", help="Write all figures to this file.")] = None,
) -> None:
    """Repeat what the papers behind the laws claim: each law against the paper's baseline, under the conditions it names.

    The papers do not print their cards and constants, so gains are compared, not absolute figures. Why each differs from the printed
    one is in docs/explanation/reproductions.md. Every run is exact and repeatable; all of them take about 15 minutes on one core.

    llmserving-lab reproduce

    llmserving-lab reproduce --only memory-gsm8k,wait --json build/reproductions.json
    """
    console = Console(stderr=True)
    started = time.monotonic()
    entries: list[dict[str, Any]] = []
    known = {one.name: one for one in REPRODUCTIONS}
    try:
        check_writable("--json", json_file)
        wanted = [known[name] for name in chosen("--only", only, known, "reproduction")]
        with EnginePool(1) as pool, console.status("loading the engine's scheduler") as status:

            def note(text: str) -> None:
                console.print(f"[dim]{time.monotonic() - started:7.1f} s[/dim] {text}", highlight=False)
                status.update(f"{len(entries)} of {len(wanted)} done, last: {text}")

            for one in wanted:
                began = time.monotonic()
                entries.append(measured(one, pool, note) | {"wall_s": round(time.monotonic() - began, 1)})
    except (RunError, FlagError) as error:
        fail(error)
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
    write_json(json_file, {"kind": "reproductions", "reproductions": entries})
    for entry in entries:
        _print(Console(), entry)


def _print(console: Console, entry: dict[str, Any]) -> None:
    table = Table(title=f"{entry['name']}: {entry['measure']}", caption=f"printed: {entry['printed']}")
    for column in ("policy", "figure", "gain", "TTFT p50", "TPOT", "preempted"):
        table.add_column(column, justify="left" if column == "policy" else "right")
    for found in entry["policies"]:
        table.add_row(
            found["policy"],
            f"{found['figure']:.3f}",
            "-" if found["gain"] is None else f"{found['gain']:+.1%}",
            f"{found['ttft_p50_s']:.2f} s" if "ttft_p50_s" in found else "-",
            f"{found['tpot_mean_s'] * 1000:.1f} ms" if "tpot_mean_s" in found else "-",
            str(found.get("preemptions", "-")),
        )
    console.print(table)
