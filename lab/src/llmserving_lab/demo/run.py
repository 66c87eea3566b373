"""The demo from the first step to the last: cluster, images, operator, resource, traffic with edits, report."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from llmserving_lab.cluster.progress import say, step
from llmserving_lab.cluster.tools import CONTROL_PLANE, NODE, Toolchain
from llmserving_lab.demo import install
from llmserving_lab.demo.granted import read_granted
from llmserving_lab.demo.load import demo_load, describe
from llmserving_lab.demo.output import clear
from llmserving_lab.demo.prometheus import Prometheus, run_prometheus, targets_of
from llmserving_lab.demo.report import write_report
from llmserving_lab.demo.result import Surroundings, result
from llmserving_lab.demo.script import Script, standard_script
from llmserving_lab.demo.session import serve_and_edit
from llmserving_lab.demo.settings import DEVICE, MODEL, NAMESPACE, DemoSettings
from llmserving_lab.demo.site import Site, open_site
from llmserving_lab.demo.timeline import Run
from llmserving_lab.environment import EngineEnvironment, engine_environment
from llmserving_lab.images.build import Image, build_images


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

    Args:
        settings: What the demo was told; `check_output` has looked at its folder.
        script: Edits and phases; the standard ones by default.

    Raises:
        ClusterError: a step failed; the message says which and what to do.
        EnvironmentUnavailableError: the engine's environment cannot be built.
        TraceError: the trace is not as it should be.
    """
    script = script or standard_script()
    watch = Stopwatch()
    output = settings.output
    arrivals = demo_load(settings, script.seconds - 2)
    clear(output)
    with watch.time("programs"):
        Toolchain().find(["kubectl", "prometheus"] if settings.kubeconfig else [*CONTROL_PLANE, *NODE, "prometheus"])
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
            applied_at = install.apply(site, manifest, output / "chat.yaml")
            stack.callback(install.delete, site)  # however the demo ends
            ready_seconds = install.wait_ready(site, applied_at)
        say(site.kubectl("get", "llms", f"--namespace={NAMESPACE}").rstrip())
        before = install.engine_pods(site)
        prometheus = stack.enter_context(
            run_prometheus(targets_of(site, NAMESPACE), output / "prometheus", port=_free_port())
        )
        with watch.time("traffic and edits"):
            try:
                run = asyncio.run(serve_and_edit(site, script, arrivals, manifest, settings))
            except BaseExceptionGroup as group:
                raise _first(group) from group
        wall_offset = time.time() - time.monotonic()
        granted = read_granted(prometheus, run.started, time.monotonic(), wall_offset=wall_offset)
        run = replace(run, granted=granted)
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
            install.delete(site)
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


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The failure that made the others of a group of tasks stop."""
    first = group.exceptions[0]
    return _first(first) if isinstance(first, BaseExceptionGroup) else first


def _restarts(pod: Mapping[str, Any]) -> int:
    statuses = pod["status"].get("containerStatuses", []) + pod["status"].get("initContainerStatuses", [])
    return sum(int(status["restartCount"]) for status in statuses)


def _uids(pods: list[dict[str, Any]]) -> set[str]:
    return {pod["metadata"]["uid"] for pod in pods}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
