"""`llmserving-lab bench`: batching policies on the real scheduler in virtual time."""

from __future__ import annotations

import json
import os
import re
import time
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from llmserving_lab.bench.campaign import Campaign
from llmserving_lab.bench.plan import DevicePlan, LinkPlan, RunPlan, TargetPlan
from llmserving_lab.bench.policies import SEARCHES, PolicyError, setup_of
from llmserving_lab.bench.pool import EnginePool, RunError
from llmserving_lab.bench.store import RunStore
from llmserving_lab.traces.load import trace_rows
from llmserving_lab.traces.plan import LoadPlan

DEFINITIONS = {
    "good": "TTFT (and end-to-end time) within target, the percentile of the request's own gaps (nearest rank) within target, and "
    "no gap over five times the target; one-token outputs count by TTFT",
    "attainment": "good requests over all that arrived; undone ones count as missed, aborted ones are left out",
    "goodput": "good requests per second of the arrivals, from the first to the last: attainment times the offered rate",
    "capacity": "geometric mean over the slices of each slice's own capacity: the highest rate with attainment of at least 0.95, the first "
    "tenth left out, queue not growing; by bisection on a ladder of rates 3 % apart",
    "pooled": "highest rate with attainment of at least 0.95 over all slices together at that rate",
    "overload": "goodput at 1.5 times its own capacity over that capacity, geometric mean over the slices",
    "limit": "saturated throughput without targets, best bounds, over the middle 80 % of completions, geometric mean over the slices",
}


class FlagError(ValueError):
    """A flag's value cannot be used; the message says what would be right."""


def bench(
    profile: Annotated[
        str, typer.Option(help="Device: a measured profile folder, a coefficient file, or the name of a shipped one.")
    ] = "rtxpro6000-llama-3.1-8b",
    trace: Annotated[
        Path | None, typer.Option(help="Trace CSV (TIMESTAMP, ContextTokens, GeneratedTokens[, HashIds, Class]).")
    ] = None,
    load: Annotated[
        str, typer.Option(help="Without a trace: conversation, code, sessions, long-context, reasoning or mix-step.")
    ] = "conversation",
    arrivals: Annotated[
        str,
        typer.Option(help="Arrival pattern: own (the trace's, compressed), poisson, gamma, bursts, day, ramp or step."),
    ] = "own",
    rates: Annotated[
        str, typer.Option(help="Mean arrivals per second, comma-separated; `own` keeps the trace's.")
    ] = "4",
    policies: Annotated[
        str, typer.Option(help="Comma-separated: default, static:SEQSxTOKENS, static-grid, limit, or a law by name.")
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
        targets = _targets(ttft, itl, percentile, sla_edit or [])
        names = [name.strip() for name in policies.split(",") if name.strip()]
        for name in names:
            if name not in SEARCHES:
                setup_of(name)
        links = _links(link_latency, link_bandwidth)
        plan = RunPlan(
            device=DevicePlan(
                source=profile, layers=layers, links=links, harder=tuple(part for part in harder.split(",") if part)
            ),
            load=LoadPlan(
                trace=str(trace) if trace else None,
                kind=load,
                arrivals=arrivals,
                requests=requests,
                seed=seed,
                abort_after=_seconds("--abort-after", abort_after) if abort_after else None,
                retries=retries,
            ),
            policy=names[0],
            targets=targets,
            kv_tokens=kv_tokens,
            asynchronous=not synchronous,
            prefix_caching=prefix_caching,
            drain=drain,
        )
        chosen_rates = _rates(rates)
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
    except (PolicyError, FlagError, RunError, ValueError) as error:
        console.print(f"[red]error:[/red] {error}", soft_wrap=True)
        raise typer.Exit(2) from None
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
    if json_file is not None:
        json_file.parent.mkdir(parents=True, exist_ok=True)
        json_file.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    _print(Console(), runs, entries)


def _print(console: Console, runs: list[dict[str, Any]], entries: list[dict[str, Any]]) -> None:
    if entries:
        table = Table(title="capacity", caption=DEFINITIONS["capacity"])
        for column in ("policy", "capacity req/s", "fails at", "pooled", "of limit", "overload", "setting"):
            table.add_column(column, justify="left" if column in {"policy", "setting"} else "right")
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
        console.print(table)
    columns = {
        "rate": ("rate_rps", "{:.2f}"),
        "good": ("attainment", "{:.3f}"),
        "goodput": ("goodput_rps", "{:.2f}"),
        "TTFT p50": ("ttft_p50_s", "{:.3f}"),
        "p95": ("ttft_p95_s", "{:.3f}"),
        "ITL p95": ("itl_p95_s", "{:.4f}"),
        "p99": ("itl_p99_s", "{:.4f}"),
        "preempted": ("preemptions", "{}"),
    }
    table = Table(title="runs" + (" at capacity" if entries else ""))
    table.add_column("policy")
    for column in columns:
        table.add_column(column, justify="right")
    for run in runs:
        values = [run.get(key) for key, _ in columns.values()]
        cells = [
            shape.format(value) if value is not None else "-"
            for value, (_, shape) in zip(values, columns.values(), strict=True)
        ]
        table.add_row(run.get("chosen", run["policy"]), *cells)
    console.print(table)


_UNITS = {"ms": 1e-3, "s": 1.0, "m": 60.0}


def _seconds(flag: str, text: str) -> float:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)(ms|s|m)", text.strip())
    if not match or float(match[1]) <= 0:
        raise FlagError(f"{flag} {text}: should be a time above zero with its unit, such as 50ms, 2s or 1m")
    return float(match[1]) * _UNITS[match[2]]


def _targets(ttft: str, itl: str, percentile: int, edits: list[str]) -> tuple[TargetPlan, ...]:
    first = TargetPlan(ttft=_seconds("--ttft", ttft), itl=_seconds("--itl", itl), percentile=percentile)
    targets = [first]
    for edit in edits:
        at, _, changes = edit.partition(":")
        update: dict[str, float] = {"time": _seconds("--sla-edit", at)}
        for change in changes.split(","):
            name, _, value = change.partition("=")
            if name not in {"ttft", "itl", "e2e"}:
                raise FlagError(f"--sla-edit {edit}: should be TIME:ttft=…,itl=…, for example 60s:itl=25ms")
            update[name] = _seconds("--sla-edit", value)
        targets.append(targets[-1].model_copy(update=update))
        if targets[-1].time <= targets[-2].time:
            raise FlagError(f"--sla-edit {edit}: edits should come in order of time")
    return tuple(targets)


def _rates(text: str) -> list[float | None]:
    rates: list[float | None] = []
    for part in text.split(","):
        if part.strip() == "own":
            rates.append(None)
            continue
        try:
            rates.append(float(part))
        except ValueError:
            rates.append(0.0)
        if not rates[-1] or rates[-1] <= 0:
            raise FlagError(f"--rates {text}: {part!r} should be a number of requests per second above zero, or own")
    return rates


def _links(latency: str | None, bandwidth: float | None) -> LinkPlan | None:
    if latency is None and bandwidth is None:
        return None
    if latency is None or not bandwidth or bandwidth <= 0:
        raise FlagError(
            "--link-latency and --link-bandwidth belong together, for example --link-latency 0.02ms --link-bandwidth 50"
        )
    return LinkPlan(latency_seconds=_seconds("--link-latency", latency), bandwidth_bytes_per_second=bandwidth * 1e9)


def load_slices(load: LoadPlan, count: int) -> tuple[tuple[int, int], ...]:
    """`(start, seed)` of disjoint slices spread over the trace; generated loads differ by seed."""
    if load.trace is None:
        return tuple((0, load.seed + index) for index in range(count))
    rows = len(trace_rows(load.trace))
    if count * load.requests > rows:
        raise FlagError(
            f"--slices {count}: {count} disjoint slices of {load.requests} need {count * load.requests} rows; {load.trace} has {rows}"
        )
    stride = rows // count
    offset = (load.seed * load.requests) % (stride - load.requests + 1)
    return tuple((index * stride + offset, load.seed + index) for index in range(count))
