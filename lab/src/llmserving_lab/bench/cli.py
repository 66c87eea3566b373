"""`llmserving-lab bench`: batching policies on the real scheduler in virtual time."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from llmserving_lab.bench import flags
from llmserving_lab.bench.campaign import Campaign
from llmserving_lab.bench.definitions import DEFINITIONS
from llmserving_lab.bench.plan import DevicePlan, RunPlan
from llmserving_lab.bench.pool import EnginePool, RunError
from llmserving_lab.bench.slices import load_slices
from llmserving_lab.bench.store import RunStore
from llmserving_lab.bench.tables import capacity_table, run_table
from llmserving_lab.traces.plan import LoadPlan
from llmserving_lab.verbs import DEFAULT_LOAD, FlagError, check_writable, fail, load_kind, names_in, write_json

_RATE = "4"


def bench(
    profile: Annotated[str, typer.Option(help=f"Device: {flags.PROFILE_HELP}")] = "rtxpro6000-llama-3.1-8b",
    trace: Annotated[
        Path | None, typer.Option(help="Trace CSV (TIMESTAMP, ContextTokens, GeneratedTokens[, HashIds, Class]).")
    ] = None,
    load: Annotated[
        str | None,
        typer.Option(
            show_default=DEFAULT_LOAD,
            help="Without a trace: conversation, code, sessions, long-context, reasoning, mix-step, or lengths as fixed:512x1000 or "
            "lognormal:68/0.4x345/0.5 (means and variations).",
        ),
    ] = None,
    arrivals: Annotated[
        str,
        typer.Option(help="Arrival pattern: own (the trace's, compressed), poisson, gamma, bursts, day, ramp or step."),
    ] = "own",
    rates: Annotated[
        str | None,
        typer.Option(
            show_default=_RATE,
            help="Mean arrivals per second, comma-separated; own keeps the trace's. Not with --capacity, which finds the rate.",
        ),
    ] = None,
    policies: Annotated[
        str,
        typer.Option(
            help="Comma-separated: default (stock vLLM), static:SEQSxTOKENS, static-grid (searches the best of these), limit "
            "(throughput without targets); laws memory, memory-readme, sla, memory-sla, predictive, wait, nested-wait, each with "
            ":SEQSxTOKENS for other ceilings than vLLM's own for the card; to compare with, past-future, fair, oracle, and planner:NAME."
        ),
    ] = "default",
    ttft: Annotated[str, typer.Option(help="Time-to-first-token target, such as 2s or 800ms.")] = "2s",
    itl: Annotated[str, typer.Option(help="Inter-token latency target.")] = "50ms",
    percentile: Annotated[int, typer.Option(min=50, max=99, help="Percentile that the targets hold at.")] = 95,
    sla_edit: Annotated[
        list[str] | None,
        typer.Option(help="New targets at a time, such as 60s:itl=25ms or 2m:ttft=1s,itl=30ms. Repeatable."),
    ] = None,
    kv_tokens: Annotated[
        int | None, typer.Option(min=64, help="KV capacity; by default what the card has left.")
    ] = None,
    requests: Annotated[int, typer.Option(min=1, help="Requests per run.")] = 2000,
    seed: Annotated[int, typer.Option(help="Seed of everything random; also moves the slices along the trace.")] = 0,
    slices: Annotated[
        int | None, typer.Option(min=1, help="Disjoint slices (or seeds) per policy and rate; 1, with --capacity 4.")
    ] = None,
    capacity: Annotated[
        bool, typer.Option("--capacity", help="Find each policy's capacity by bisection instead.")
    ] = False,
    synchronous: Annotated[
        bool, typer.Option("--sync", help="Synchronous scheduling (vLLM's default is asynchronous).")
    ] = False,
    prefix_caching: Annotated[bool, typer.Option(help="vLLM's prefix cache.")] = True,
    harder: Annotated[
        str, typer.Option(help="Make the device harder, comma-separated: noise, throttling, neighbour, graphs.")
    ] = "",
    layers: Annotated[
        int | None, typer.Option(min=1, help="Transformer blocks, where the profile does not say.")
    ] = None,
    link_latency: Annotated[
        str | None, typer.Option(help="All-reduce latency of a tensor-parallel profile, such as 0.02ms.")
    ] = None,
    link_bandwidth: Annotated[float | None, typer.Option(help="Link bandwidth of one card, GB/s.")] = None,
    abort_after: Annotated[str | None, typer.Option(help="Clients give up after this time.")] = None,
    retries: Annotated[
        int, typer.Option(min=0, help="Clients that gave up send again so many times (a retry storm).")
    ] = 0,
    drain: Annotated[
        bool, typer.Option(help="Serve what is left after the last arrival; else it counts as missed.")
    ] = True,
    jobs: Annotated[int, typer.Option(min=1, help="Runs at a time.")] = os.cpu_count() or 1,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write results to this file.")] = None,
) -> None:
    """Run batching policies on vLLM's real scheduler in virtual time, on a simulated device.

    Every run is exact and repeatable: equal flags give equal figures.

    llmserving-lab bench --trace azure.csv --rates 4,8 --policies default,static:256x640

    llmserving-lab bench --trace azure.csv --policies default,static-grid --capacity --json capacity.json
    """
    console = Console(stderr=True)
    started = time.monotonic()
    try:
        check_writable("--json", json_file)
        names = flags.policies(policies)
        targets = flags.targets(ttft, itl, percentile, sla_edit or [])
        kind = load_kind(trace, load)
        if capacity and rates is not None:
            raise FlagError(f"--rates {rates}: not with --capacity, which finds each policy's rate itself")
        chosen_rates = flags.rates(rates or _RATE, has_own=trace is not None and arrivals == "own")
        links = flags.links(link_latency, link_bandwidth)
        if retries and abort_after is None:
            raise FlagError(f"--retries {retries}: needs --abort-after, the time after which clients give up")
        plan = RunPlan(
            device=DevicePlan(source=profile, layers=layers, links=links, harder=tuple(names_in(harder))),
            load=LoadPlan(
                trace=str(trace) if trace else None,
                kind=kind,
                arrivals=arrivals,
                requests=requests,
                seed=seed,
                abort_after=flags.seconds("--abort-after", abort_after) if abort_after is not None else None,
                retries=retries,
            ),
            policy=names[0],
            targets=targets,
            kv_tokens=kv_tokens,
            asynchronous=not synchronous,
            prefix_caching=prefix_caching,
            drain=drain,
        )
        parts = load_slices(plan.load, slices or (4 if capacity else 1))
        with EnginePool(jobs) as pool, console.status("loading the engine's scheduler") as status:
            done = 0

            def note(text: str) -> None:
                nonlocal done
                done += 1
                console.print(f"[dim]{time.monotonic() - started:7.1f} s[/dim] {text}")
                status.update(f"{done} steps done, last: {text}")

            campaign = Campaign(RunStore(pool), plan, parts, note)
            entries: list[dict[str, Any]] = []
            if capacity:
                entries, runs = campaign.capacities(names)
            else:
                runs = campaign.runs(names, chosen_rates)
    except (RunError, ValueError) as error:
        fail(error)
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
    document = {
        "kind": "bench",
        "plan": plan.model_dump(mode="json"),
        "definitions": DEFINITIONS,
        "caveats": sorted({caveat for run in runs for caveat in run.get("caveats", ())}),
        "runs": runs,
        **({"capacity": entries} if capacity else {}),
        "wall_s": round(time.monotonic() - started, 1),
    }
    write_json(json_file, document)
    out = Console()
    if entries:
        out.print(capacity_table(entries))
    out.print(run_table(runs, "runs at capacity" if entries else "runs"))
