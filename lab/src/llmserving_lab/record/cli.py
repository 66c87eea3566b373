"""`llmserving-lab record`: a real run as a folder that `validate` replays."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import typer
from rich.console import Console

from llmserving_agent.sensors.nvml import NVML, NVMLUnavailableError
from llmserving_lab.record.errors import RecordError
from llmserving_lab.record.folder import Recorded, check_free, write_recording
from llmserving_lab.record.server import Ceilings
from llmserving_lab.record.session import OnProgress, Progress, RecordPlan, record
from llmserving_lab.traces.plan import LoadPlan
from llmserving_lab.verbs import DEFAULT_LOAD, FlagError, fail, load_kind

LINE_SECONDS = 10.0
"""Between two lines of progress where the output is no terminal."""

_CEILING = "What the engine was started with, where the server does not say (VLLM_SERVER_DEV_MODE=1)."


def record_run(
    url: Annotated[str, typer.Option(help="Root of a vLLM server, such as http://127.0.0.1:8000.")],
    out: Annotated[Path, typer.Option(help="Folder to write; it must not hold a recording yet.")],
    trace: Annotated[Path | None, typer.Option(help="Trace CSV (TIMESTAMP, ContextTokens, GeneratedTokens).")] = None,
    load: Annotated[
        str | None,
        typer.Option(show_default=DEFAULT_LOAD, help="Without a trace: a load as bench takes it, such as code."),
    ] = None,
    arrivals: Annotated[
        str, typer.Option(help="Arrival pattern as bench takes it: own (the trace's, compressed), poisson, ...")
    ] = "own",
    rate: Annotated[float, typer.Option(min=0.001, help="Mean requests per second.")] = 4.0,
    requests: Annotated[int, typer.Option(min=1, help="Requests to send.")] = 300,
    start: Annotated[int, typer.Option(min=0, help="First row of the trace.")] = 0,
    seed: Annotated[int, typer.Option(help="Seed of lengths, times and contents.")] = 0,
    model: Annotated[str | None, typer.Option(help="Model, where the server has several.")] = None,
    max_num_seqs: Annotated[int | None, typer.Option(min=1, help=_CEILING)] = None,
    max_num_batched_tokens: Annotated[int | None, typer.Option(min=1, help=_CEILING)] = None,
    card: Annotated[str | None, typer.Option(help="Card's name, where NVML on this machine cannot tell.")] = None,
    tick: Annotated[float, typer.Option(min=0.1, help="Seconds between two looks at the engine's state.")] = 0.5,
) -> None:
    """Send a load to a real vLLM server and record it with a time for every token, for `validate`.

    Prompts are random token ids, answers have exactly the lengths of the load. The server should have no other traffic, and
    bounds that stand still (no agent moving them).

    llmserving-lab record --url http://127.0.0.1:8000 --out runs/l4 --max-num-seqs 128 --max-num-batched-tokens 2048
    """
    console = Console(stderr=True)
    try:
        kind = load_kind(trace, load)
    except FlagError as error:
        fail(error)
    plan = RecordPlan(
        url=url,
        load=LoadPlan(
            trace=str(trace) if trace else None,
            kind=kind,
            arrivals=arrivals,
            requests=requests,
            start=start,
            rate=rate,
            seed=seed,
        ),
        model=model,
        ceilings=Ceilings(max_num_seqs, max_num_batched_tokens),
        card=local_card(url) if card is None else card,
        tick_seconds=tick,
    )
    try:
        check_free(out)
        with console.status("looking at the server") as status:
            recorded = asyncio.run(record(plan, _progress(console, status.update)))
        write_recording(out, recorded)
    except RecordError as error:
        fail(error)
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
    Console().print(summary(out, recorded), soft_wrap=True, highlight=False)


def is_here(url: str) -> bool:
    """Whether the server runs on this machine."""
    host = urlsplit(url).hostname or ""
    try:
        address = ip_address(host)
    except ValueError:
        return host == "localhost"
    return address.is_loopback or address.is_unspecified


def local_card(url: str) -> str:
    """The card's name by NVML, where the server runs on this machine and there is one kind of card; else empty."""
    if not is_here(url):
        return ""
    with suppress(NVMLUnavailableError):
        nvml = NVML()
        try:
            names = {device.name for device in nvml.read(nvml.uuids())}
        finally:
            nvml.close()
        return names.pop() if len(names) == 1 else ""
    return ""


def summary(out: Path, recorded: Recorded) -> str:
    """What was recorded, in words."""
    records = recorded.records
    seconds = max(one.ended for one in records) - recorded.started
    ttft = sum(one.outputs[0] - one.sent for one in records) / len(records)
    tokens = sum(len(one.outputs) for one in records)
    return (
        f"{out}: {len(records)} requests in {seconds:.1f} s, {tokens / seconds:,.0f} output tokens/s, mean TTFT "
        f"{ttft * 1000:.1f} ms ({recorded.front_end_seconds * 1000:.1f} ms of it outside the engine)"
    )


def _progress(console: Console, update: Callable[[str], None]) -> OnProgress:
    """Show progress: a moving line on a terminal, else a line now and then."""
    last = -LINE_SECONDS

    def show(progress: Progress) -> None:
        nonlocal last
        text = f"{progress.what}: {progress.ended} of {progress.requests} requests ended"
        if progress.state is not None:
            text += f", {progress.state.running} running, {progress.state.waiting} waiting"
        update(text)
        if not console.is_terminal and time.monotonic() - last >= LINE_SECONDS:
            last = time.monotonic()
            console.print(text, highlight=False)

    return show
