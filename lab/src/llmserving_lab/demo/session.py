"""Traffic, edits and watching, side by side: the part of the demo in which something is measured."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import time
from collections.abc import AsyncIterator, Coroutine, Iterator
from typing import Any

from rich.console import Console
from rich.live import Live

from llmserving_api.names import PORT_AGENT
from llmserving_lab.cluster.errors import ClusterError
from llmserving_lab.cluster.progress import say
from llmserving_lab.demo import install
from llmserving_lab.demo.edits import Editor, MadeEdit
from llmserving_lab.demo.script import Script
from llmserving_lab.demo.settings import MODEL, NAME, NAMESPACE, DemoSettings
from llmserving_lab.demo.site import Site
from llmserving_lab.demo.timeline import Run
from llmserving_lab.demo.view import LiveState, summary
from llmserving_lab.demo.watch import AgentWatch
from llmserving_lab.traces.arrival import Arrival
from llmserving_lab.traffic.__main__ import write_load
from llmserving_lab.traffic.record import RequestRecord

SUMMARY_SECONDS = 10.0
DRAIN_SECONDS = 120.0
LONGEST_LINE_BYTES = 4 << 20
CLIENT_NICENESS = -5
"""Users have machines of their own: kubectl and the clients do not wait for the processor that the engines need."""


async def serve_and_edit(
    site: Site, script: Script, arrivals: list[Arrival], manifest: dict[str, Any], settings: DemoSettings
) -> Run:
    """Send the load, make the edits, watch the agents; returns when the last answer has ended."""
    with contextlib.suppress(PermissionError):
        os.nice(CLIENT_NICENESS)
    state = LiveState(script, len(arrivals))
    addresses = {
        pod["metadata"]["name"]: f"127.0.0.1:{site.forward(NAMESPACE, pod['metadata']['name'], PORT_AGENT)}"
        for pod in install.engine_pods(site)
    }
    watch = AgentWatch(addresses)
    state.engines = watch.latest
    editor = Editor(site, watch, manifest, settings.output, lambda _: _show(state, editor.made))
    load = settings.output / "load.json"
    write_load(load, arrivals)
    client, url = site.client(
        NAMESPACE,
        NAME,
        [
            sys.executable,
            "-m",
            "llmserving_lab.traffic",
            f"--load={load}",
            f"--model={MODEL}",
            f"--seed={settings.seed}",
        ],
    )
    async with _alongside(watch.run()):
        with _display(state) as quiet:
            process = await asyncio.create_subprocess_exec(
                *client, f"--url={url}", stdout=asyncio.subprocess.PIPE, limit=LONGEST_LINE_BYTES
            )
            try:
                started = await _first_line(process)
                state.started = started
                async with _alongside(_summaries(state, quiet)), asyncio.TaskGroup() as tasks:
                    tasks.create_task(_collect(process, state.records, started + script.seconds + DRAIN_SECONDS))
                    tasks.create_task(_edit(editor, script, started))
            finally:
                if process.returncode is None:
                    process.kill()
                    await process.wait()
    return Run(started, script, len(arrivals), tuple(state.records), tuple(watch.history), tuple(editor.made))


def _show(state: LiveState, made: list[MadeEdit]) -> None:
    state.edits = list(made)


async def _first_line(process: asyncio.subprocess.Process) -> float:
    """The traffic process says first when it begins."""
    line = await _stream(process).readline()
    if not line:
        raise ClusterError("the traffic process did not start: run `llmserving-lab demo` again, its error is above")
    return float(line)


async def _collect(process: asyncio.subprocess.Process, records: list[RequestRecord], deadline: float) -> None:
    """Read what the traffic process measures until it ends."""
    with contextlib.suppress(TimeoutError):  # what has not ended by then counts as failed
        async with asyncio.timeout(max(1.0, deadline - time.monotonic())):
            while line := await _stream(process).readline():
                records.append(RequestRecord.from_json(line.decode()))
            await process.wait()


def _stream(process: asyncio.subprocess.Process) -> asyncio.StreamReader:
    if process.stdout is None:
        raise RuntimeError("the traffic process has no output to read")
    return process.stdout


async def _edit(editor: Editor, script: Script, started: float) -> None:
    """Make each edit at its time; one under way does not hold up the next."""
    async with asyncio.TaskGroup() as tasks:
        for edit in script.edits:
            await asyncio.sleep(started + edit.at - time.monotonic())
            tasks.create_task(editor.make(edit))


@contextlib.asynccontextmanager
async def _alongside(work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


@contextlib.contextmanager
def _display(state: LiveState) -> Iterator[bool]:
    """The live view on a terminal; true where there is none."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield True
        return
    with Live(state, console=console, refresh_per_second=2):
        yield False


async def _summaries(state: LiveState, quiet: bool) -> None:
    while quiet:
        await asyncio.sleep(SUMMARY_SECONDS)
        say("  " + summary(state, time.monotonic()))
