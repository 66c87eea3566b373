"""The demo from the first step to the last: cluster, images, operator, resource, traffic with edits, report."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import socket
import sys
import time
from collections.abc import AsyncIterator, Coroutine, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.live import Live

from llmserving_api.names import PORT_AGENT
from llmserving_lab.cluster.errors import ClusterError
from llmserving_lab.cluster.progress import say, step
from llmserving_lab.demo import install
from llmserving_lab.demo.edits import Editor, MadeEdit
from llmserving_lab.demo.load import demo_load, describe
from llmserving_lab.demo.prometheus import Prometheus, run_prometheus, targets_of
from llmserving_lab.demo.report import write_report
from llmserving_lab.demo.result import Surroundings, result
from llmserving_lab.demo.script import Script, standard_script
from llmserving_lab.demo.settings import DEVICE, MODEL, NAME, NAMESPACE, DemoSettings
from llmserving_lab.demo.site import Site, open_site
from llmserving_lab.demo.timeline import Run
from llmserving_lab.demo.view import LiveState, summary
from llmserving_lab.demo.watch import AgentWatch
from llmserving_lab.environment import EngineEnvironment, engine_environment
from llmserving_lab.images.build import Image, build_images
from llmserving_lab.traces.arrival import Arrival
from llmserving_lab.traffic.__main__ import write_load
from llmserving_lab.traffic.record import RequestRecord

SUMMARY_SECONDS = 10.0
DRAIN_SECONDS = 120.0
CLIENT_NICENESS = -5
"""Users have machines of their own: kubectl and the clients do not wait for the processor that the engines need."""


@dataclass(slots=True)
class Stopwatch:
    """How long each step of the demo took."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextlib.contextmanager
    def time(self, name: str) -> Iterator[None]:
        """Time a step."""
        start = time.monotonic()
        try:
            yield
        finally:
            self.seconds[name] = time.monotonic() - start


@dataclass(frozen=True, slots=True)
class DemoOutcome:
    """What a run leaves.

    Attributes:
        result: The document of `result.json`.
        report: The report page.
    """

    result: dict[str, Any]
    report: Path


def run_demo(settings: DemoSettings, script: Script | None = None) -> DemoOutcome:
    """Run everything and tear it down again, whatever happens.

    Raises:
        ClusterError: a step failed; the message says which and what to do.
        EnvironmentUnavailableError: the engine's environment cannot be built.
        TraceError: the trace is not as it should be.
    """
    script = script or standard_script()
    watch = Stopwatch()
    output = settings.output
    shutil.rmtree(output, ignore_errors=True)
    output.mkdir(parents=True)
    arrivals = demo_load(settings, script.seconds - 2)
    with watch.time("engine environment"):
        environment = engine_environment()
    with watch.time("images"):
        images = build_images()
    with contextlib.ExitStack() as stack:
        with watch.time("cluster"):
            site = stack.enter_context(open_site(settings.kubeconfig, gpus=settings.replicas))
        with watch.time("images into the cluster"):
            site.load(images.values())
        with watch.time("operator"):
            install.install_operator(site, images, output / "install")
        with watch.time("resource"):
            manifest = install.resource(images, environment, replicas=settings.replicas)
            if settings.kubeconfig is not None:
                manifest["spec"]["engine"]["resources"].pop("limits")  # its nodes may have no GPU
            install.apply(site, manifest, output / "chat.yaml")
            ready_seconds = install.wait_ready(site)
        say(site.kubectl("get", "llms", f"--namespace={NAMESPACE}").rstrip())
        before = install.engine_pods(site)
        prometheus = stack.enter_context(
            run_prometheus(targets_of(site, NAMESPACE), output / "prometheus", port=_free_port())
        )
        with watch.time("traffic and edits"):
            run = asyncio.run(_traffic(site, script, arrivals, manifest, settings))
        surroundings = _surroundings(
            site,
            settings,
            images,
            environment,
            run,
            before,
            ready_seconds,
            watch,
            describe(arrivals, settings),
            prometheus,
        )
        tables = {"kubectl get llms -o wide": site.kubectl("get", "llms", f"--namespace={NAMESPACE}", "--output=wide")}
        with watch.time("deletion"), step("deleting the resource"):
            site.kubectl("delete", "llmserving", NAME, f"--namespace={NAMESPACE}", "--wait=false")
    document = result(run, surroundings)
    (output / "result.json").write_text(json.dumps(document, indent=2) + "\n")
    (output / "requests.jsonl").write_text("".join(record.to_json() + "\n" for record in run.records))
    report = output / "report.html"
    write_report(report, run, document, tables)
    return DemoOutcome(document, report)


def _surroundings(
    site: Site,
    settings: DemoSettings,
    images: Mapping[str, Image],
    environment: EngineEnvironment,
    run: Run,
    before: list[dict[str, Any]],
    ready_seconds: float,
    watch: Stopwatch,
    traffic: str,
    prometheus: Prometheus,
) -> Surroundings:
    after = install.engine_pods(site)
    last = run.observations[-1] if run.observations else None
    return Surroundings(
        kubernetes_version=site.version,
        kubernetes_ready_seconds=site.ready_seconds,
        vllm_version=environment.vllm_version,
        device=f"{last.device if last is not None and last.device else DEVICE} with {MODEL}, simulated",
        gpu_source=last.gpu_source if last is not None else "",
        apply_to_ready_seconds=ready_seconds,
        pod_restarts=sum(_restarts(pod) for pod in after),
        pod_uids_unchanged=_uids(before) == _uids(after),
        replicas=settings.replicas,
        traffic=traffic,
        image_bytes={image.target: image.size_bytes for image in images.values()},
        steps=watch.seconds,
        prometheus_targets_up=len(prometheus.query("up == 1")),
    )


async def _traffic(
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
            process = await asyncio.create_subprocess_exec(*client, f"--url={url}", stdout=asyncio.subprocess.PIPE)
            try:
                started = await _first_line(process)
                state.started = started
                async with _alongside(_summaries(state, quiet)), asyncio.TaskGroup() as tasks:
                    tasks.create_task(_collect(process, state.records, started + script.seconds + DRAIN_SECONDS))
                    tasks.create_task(_edit(editor, script, started))
                await process.wait()
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
    async with asyncio.timeout(max(1.0, deadline - time.monotonic())):
        while line := await _stream(process).readline():
            records.append(RequestRecord.from_json(line.decode()))


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


def _restarts(pod: Mapping[str, Any]) -> int:
    statuses = pod["status"].get("containerStatuses", []) + pod["status"].get("initContainerStatuses", [])
    return sum(int(status["restartCount"]) for status in statuses)


def _uids(pods: list[dict[str, Any]]) -> set[str]:
    return {pod["metadata"]["uid"] for pod in pods}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
