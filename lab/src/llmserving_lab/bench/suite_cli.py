"""`llmserving-lab suite`: the published figures, measured anew."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from llmserving_lab.bench.campaign import Campaign
from llmserving_lab.bench.cli import DEFINITIONS, FlagError, load_slices
from llmserving_lab.bench.pool import EnginePool, RunError
from llmserving_lab.bench.suite import Cell, full_suite, short_suite, table

_TRACES = {"conversation": "azure-llm-2023-conversation.csv", "code": "azure-llm-2023-code.csv"}


def suite(
    profile: Annotated[
        str,
        typer.Option(help="Main device: a measured profile folder, a coefficient file, or the name of a shipped one."),
    ] = "rtxpro6000-llama-3.1-8b",
    traces: Annotated[
        Path | None, typer.Option(help=f"Folder with {' and '.join(_TRACES.values())}; without it fits stand in.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for results; what is there already is not measured again.")] = Path(
        "build/bench"
    ),
    full: Annotated[bool, typer.Option("--full", help="All slices, loads, cards and targets: hours.")] = False,
    only: Annotated[str, typer.Option(help="Names of cells, comma-separated; all by default.")] = "",
    policies: Annotated[str, typer.Option(help="Policies, comma-separated, instead of each cell's own.")] = "",
    jobs: Annotated[int, typer.Option(min=1, help="Runs at a time.")] = os.cpu_count() or 1,
) -> None:
    """Measure capacity, overload and limit of the policies on the suite's loads, and print the table.

    Interrupt it at any time: each load's policies are saved as they are found, and the next call goes on from there.
    """
    console = Console(stderr=True)
    files = {name: str(traces / file) for name, file in _TRACES.items() if traces and (traces / file).is_file()}
    cells = full_suite() if full else short_suite()
    wanted = {name for name in only.split(",") if name}
    unknown = wanted - {cell.name for cell in cells}
    try:
        if unknown:
            raise FlagError(
                f"--only {only}: no such cell {min(unknown)!r}; there are {', '.join(c.name for c in cells)}"
            )
        cells = tuple(cell for cell in cells if not wanted or cell.name in wanted)
        missing = sorted({cell.trace for cell in cells} & (set(_TRACES) - set(files)))
        if missing:
            console.print(
                f"without --traces: {', '.join(missing)} are generated from fits, figures differ from the published ones"
            )
        with EnginePool(jobs) as pool:
            documents = [
                _cell(
                    console, pool, cell, profile, files, out, tuple(policies.split(",")) if policies else cell.policies
                )
                for cell in cells
            ]
    except (FlagError, RunError, ValueError) as error:
        console.print(f"[red]error:[/red] {error}", soft_wrap=True)
        raise typer.Exit(2) from None
    except KeyboardInterrupt:
        console.print("interrupted; call it again to go on")
        raise typer.Exit(130) from None
    text = table(documents)
    (out / "table.md").write_text(text + "\n", encoding="utf-8")
    typer.echo(text)


def _cell(
    console: Console,
    pool: EnginePool,
    cell: Cell,
    profile: str,
    files: dict[str, str],
    out: Path,
    policies: tuple[str, ...],
) -> dict[str, Any]:
    """The cell's document: policies measured before, and those still to be."""
    path = out / f"{cell.name}.json"
    plan = cell.plan(profile, files)
    same = {"kind": "bench", "cell": cell.name, "plan": plan.model_dump(mode="json"), "definitions": DEFINITIONS}
    document: dict[str, Any] = {**same, "caveats": [], "runs": [], "capacity": [], "wall_s": 0.0}
    if path.is_file():
        before = json.loads(path.read_text(encoding="utf-8"))
        if before.get("plan") == same["plan"]:
            document = before
    slices = load_slices(plan.load, cell.slices)
    for policy in policies:
        if any(entry["policy"] == policy for entry in document["capacity"]):
            continue
        started = time.monotonic()

        def note(text: str, started: float = started, policy: str = policy) -> None:
            console.print(
                f"[dim]{cell.name} {policy} {time.monotonic() - started:7.1f} s[/dim] {text}", highlight=False
            )

        limit = document["capacity"][0]["limit_rps"] if document["capacity"] else None
        entries, runs = Campaign(pool, plan, slices, note).capacities([policy], limit=limit)
        document["capacity"] += entries
        document["runs"] += runs
        document["caveats"] = sorted({*document["caveats"], *(caveat for run in runs for caveat in run["caveats"])})
        document["wall_s"] = round(document["wall_s"] + time.monotonic() - started, 1)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    return document
