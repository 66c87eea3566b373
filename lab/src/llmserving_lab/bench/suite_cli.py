"""`llmserving-lab suite`: the published figures, measured anew."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from llmserving_lab.bench import flags
from llmserving_lab.bench.cell import Progress, measure
from llmserving_lab.bench.pool import EnginePool, RunError
from llmserving_lab.bench.store import RunStore
from llmserving_lab.bench.suite import full_suite, short_suite, table
from llmserving_lab.verbs import FlagError, check_writable, chosen, fail

_TRACES = {"conversation": "azure-llm-2023-conversation.csv", "code": "azure-llm-2023-code.csv"}


def suite(
    profile: Annotated[
        str,
        typer.Option(help=f"Main device: {flags.PROFILE_HELP}"),
    ] = "rtxpro6000-llama-3.1-8b",
    traces: Annotated[
        Path | None, typer.Option(help=f"Folder with {' and '.join(_TRACES.values())}; without it fits stand in.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for results; what is there already is not measured again.")] = Path(
        "build/bench"
    ),
    runs: Annotated[Path, typer.Option(help="Folder that single runs are kept in.")] = Path("build/bench/runs"),
    full: Annotated[bool, typer.Option("--full", help="All slices, loads, cards and targets: hours.")] = False,
    only: Annotated[str, typer.Option(help="Names of cells, comma-separated; all by default.")] = "",
    policies: Annotated[str, typer.Option(help="Policies, comma-separated, instead of each cell's own.")] = "",
    slices: Annotated[
        int | None,
        typer.Option(min=1, max=8, help="Slices of each load instead of the cell's own; results go to OUT/slices-N."),
    ] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Runs at a time.")] = os.cpu_count() or 1,
) -> None:
    """Measure capacity, overload and limit of the policies on the suite's loads, and print the table.

    Interrupt it at any time: single runs and each load's policies are saved as they are found, and the next call goes on from there.
    """
    console = Console(stderr=True)
    documents: list[dict[str, Any]] = []
    failed: list[str] = []
    files = {name: str(traces / file) for name, file in _TRACES.items() if traces and (traces / file).is_file()}
    beside = further_profiles(profile)
    cells = full_suite(beside) if full else short_suite()
    if slices:  # other figures than the whole cell's, which must not take their place
        cells = tuple(replace(cell, slices=slices) for cell in cells)
        out = out / f"slices-{slices}"
    try:
        wanted = chosen(
            "--only",
            only,
            [cell.name for cell in cells],
            "cell" if full else "cell of the short suite (--full has more)",
        )
        cells = tuple(cell for cell in cells if cell.name in wanted)
        instead = tuple(flags.policies(policies)) if policies else ()
        if "limit" in instead:
            raise FlagError(f"--policies {policies}: limit is measured with every policy; leave it out")
        if traces is not None and not files:
            raise FlagError(f"--traces {traces}: holds neither {' nor '.join(_TRACES.values())}")
        check_writable("--out", out / "table.md")
        missing = sorted({cell.trace for cell in cells} & (set(_TRACES) - set(files)))
        if full and not beside:
            console.print(f"no further profile folders beside {profile}: other cards are the shipped devices")
        if missing:
            console.print(f"without --traces, from fits: {', '.join(missing)}; figures differ from the published ones")
        with EnginePool(jobs) as engines, console.status("loading the engine's scheduler") as status:
            pool = RunStore(engines, runs)
            for number, cell in enumerate(cells):
                progress = Progress(console, status, cell.name, len(cells) - number - 1)
                named = instead or cell.policies
                try:
                    documents.append(measure(pool, cell, profile, files, out / f"{cell.name}.json", named, progress))
                except RunError as error:  # a cell that cannot be run stands aside
                    console.print(f"[red]error:[/red] {cell.name}: {error}", soft_wrap=True)
                    failed.append(cell.name)
                (out / "table.md").write_text(table(documents) + "\n", encoding="utf-8")
    except (RunError, ValueError) as error:
        fail(error)
    except KeyboardInterrupt:
        console.print("interrupted; call it again to go on")
        raise typer.Exit(130) from None
    typer.echo(table(documents))
    if failed:
        raise typer.Exit(1)


def further_profiles(profile: str) -> list[str]:
    """Profile folders that lie beside the main one."""
    main = Path(profile)
    if not main.is_dir():
        return []
    return sorted(
        str(path.parent) for path in main.resolve().parent.glob("*/dense.csv") if path.parent != main.resolve()
    )
