"""`llmserving-lab validate`: is the simulated device to be believed?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from llmserving_lab.bench import flags
from llmserving_lab.bench.plan import DevicePlan, ReplayPlan
from llmserving_lab.bench.pool import EnginePool, RunError
from llmserving_lab.verbs import FlagError, check_writable, fail, write_json


def validate(
    profile: Annotated[str, typer.Option(help=f"Device: {flags.PROFILE_HELP}")],
    run: Annotated[
        Path, typer.Option(help="Recorded real run: a folder with meta.json, requests.jsonl and timeseries.csv.")
    ],
    json_file: Annotated[Path | None, typer.Option("--json", help="Write all figures to this file.")] = None,
    layers: Annotated[
        int | None, typer.Option(min=1, help="Transformer blocks, where the profile does not say.")
    ] = None,
    synchronous: Annotated[
        bool,
        typer.Option(
            "--sync", help="The recorded engine used synchronous scheduling (vLLM's default is asynchronous)."
        ),
    ] = False,
) -> None:
    """Replay a recorded run of a real engine on the simulated device and print how far it is off.

    Nothing is fitted to the run: the device comes from its profile alone, the scheduler is the real one with the recorded settings.
    Ends with code 1 when an error is above its limit.
    """
    console = Console()
    plan = ReplayPlan(device=DevicePlan(source=profile, layers=layers), run=str(run), asynchronous=not synchronous)
    try:
        check_writable("--json", json_file)
        with EnginePool(1) as pool, console.status("loading the engine's scheduler, then replaying"):
            result = pool.submit("replay", plan).result()
    except (RunError, FlagError) as error:
        fail(error)
    _print(console, result)
    write_json(json_file, result)
    raise typer.Exit(0 if result["within"] else 1)


def _print(console: Console, result: dict[str, Any]) -> None:
    table = Table(title=f"{result['run']} on {result['device']}: {result['requests']} requests")
    for column in ("figure", "real", "replayed", "error", "limit"):
        table.add_column(column, justify="left" if column == "figure" else "right")
    for figure in result["figures"]:
        scale, unit = (1000, "ms") if figure["unit"] == "s" else (1, figure["unit"])
        colour = "" if figure["limit"] is None else "[green]" if figure["within"] else "[red]"
        table.add_row(
            figure["name"],
            f"{figure['real'] * scale:,.1f} {unit}",
            f"{figure['replayed'] * scale:,.1f} {unit}",
            f"{colour}{figure['error']:+.1%}",
            "" if figure["limit"] is None else f"±{figure['limit']:.0%}",
        )
    console.print(table)
    if result["running_mean_difference"] is not None:
        console.print(
            f"running differs by {result['running_mean_difference']} and waiting by {result['waiting_mean_difference']} requests on "
            "average over time"
        )
    console.print(f"{result['extrapolated_steps']} of {result['steps']} steps lie outside the measured range")
    if result["front_end_seconds"] is not None:
        console.print(
            f"times are a client's: {result['front_end_seconds'] * 1000:.1f} ms of front end, measured on the idle server, are added "
            "to the replay's TTFT"
        )
    for missing in result["not_validated"]:
        console.print(f"not validated: {missing}")
    for caveat in result["caveats"]:
        console.print(f"note: {caveat}")
    console.print("within all limits" if result["within"] else "[red]outside a limit: do not trust this device[/red]")
