"""A real Prometheus beside the demo: it scrapes the operator, the agents and vLLM, as a cluster's own would."""

from __future__ import annotations

import contextlib
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import yaml

from llmserving_api.names import LABEL_RESOURCE, PORT_AGENT, PORT_ENGINE, PORT_OPERATOR
from llmserving_lab.cluster.errors import ClusterError
from llmserving_lab.cluster.tools import Toolchain
from llmserving_lab.demo.install import OPERATOR_NAMESPACE, OPERATOR_SELECTOR
from llmserving_lab.demo.site import Site

SCRAPE_SECONDS = 2
START_SECONDS = 20.0
OPERATOR_JOB = "llmserving-operator"
TRUSTED: dict[str, Any] = {"honor_labels": True}
"""The operator speaks of resources in other namespaces than its own."""
UNTRUSTED: dict[str, Any] = {
    "honor_labels": False,
    "metric_relabel_configs": [{"regex": "exported_(namespace|name)", "action": "labeldrop"}],
}
"""Whoever may run a pod could write any namespace into its series: the target's labels win, as in the chart."""


@dataclass(frozen=True, slots=True)
class Target:
    """One thing to scrape.

    Attributes:
        job: Name of the job, as the chart's PodMonitors give it.
        address: Host and port.
        labels: Labels a PodMonitor would add.
    """

    job: str
    address: str
    labels: dict[str, str]


def targets_of(site: Site, namespace: str) -> list[Target]:
    """The operator, and agent and vLLM of every engine in a namespace."""
    operators = site.objects("pods", OPERATOR_NAMESPACE, OPERATOR_SELECTOR)
    found = [_target(site, pod, OPERATOR_JOB, "metrics", PORT_OPERATOR, {}) for pod in operators]
    for pod in site.objects("pods", namespace, LABEL_RESOURCE):
        name = {"name": pod["metadata"]["labels"][LABEL_RESOURCE]}
        found.append(_target(site, pod, "llmserving-engines", "agent", PORT_AGENT, name))
        found.append(_target(site, pod, "llmserving-engines", "http", PORT_ENGINE, name))
    return found


def _target(site: Site, pod: dict[str, Any], job: str, endpoint: str, port: int, labels: dict[str, str]) -> Target:
    namespace, name = pod["metadata"]["namespace"], pod["metadata"]["name"]
    common = {"namespace": namespace, "pod": name, "endpoint": endpoint, "instance": f"{pod['status']['podIP']}:{port}"}
    return Target(job, f"127.0.0.1:{site.forward(namespace, name, port)}", {**common, **labels})


def configuration(targets: Sequence[Target]) -> str:
    """Prometheus' configuration file."""
    jobs: dict[str, list[Target]] = {}
    for target in targets:
        jobs.setdefault(target.job, []).append(target)
    return yaml.safe_dump(
        {
            "global": {"scrape_interval": f"{SCRAPE_SECONDS}s", "evaluation_interval": f"{SCRAPE_SECONDS}s"},
            "scrape_configs": [
                {
                    "job_name": job,
                    **(TRUSTED if job == OPERATOR_JOB else UNTRUSTED),
                    "static_configs": [{"targets": [one.address], "labels": one.labels} for one in members],
                }
                for job, members in jobs.items()
            ],
        },
        sort_keys=False,
    )


class Prometheus:
    """A running Prometheus.

    Attributes:
        url: Where it answers.
    """

    def __init__(self, url: str) -> None:
        self.url = url

    def query(self, expression: str) -> list[dict[str, Any]]:
        """Result of an instant query.

        Raises:
            httpx.HTTPStatusError: the expression is wrong.
        """
        return self._ask("query", query=expression)

    def query_range(self, expression: str, start: float, end: float, step_seconds: float) -> list[dict[str, Any]]:
        """Result of a query over a time, its ends in seconds since 1970.

        Raises:
            httpx.HTTPStatusError: the expression is wrong.
        """
        return self._ask("query_range", query=expression, start=start, end=end, step=step_seconds)

    def _ask(self, what: str, **parameters: str | float) -> list[dict[str, Any]]:
        answer = httpx.get(f"{self.url}/api/v1/{what}", params=parameters, trust_env=False)
        result: list[dict[str, Any]] = answer.raise_for_status().json()["data"]["result"]
        return result


@contextlib.contextmanager
def run_prometheus(targets: Sequence[Target], folder: Path, *, port: int) -> Iterator[Prometheus]:
    """Prometheus for the length of the block, its data in `folder`.

    Raises:
        ClusterError: it does not start.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "prometheus.yml").write_text(configuration(targets))
    program = Toolchain().find(["prometheus"])["prometheus"]
    with (folder / "prometheus.log").open("w") as log:
        process = subprocess.Popen(
            [
                str(program),
                f"--config.file={folder}/prometheus.yml",
                f"--storage.tsdb.path={folder}/data",
                f"--web.listen-address=127.0.0.1:{port}",
            ],
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        prometheus = Prometheus(f"http://127.0.0.1:{port}")
        _wait(prometheus, process, folder / "prometheus.log")
        yield prometheus
    finally:
        process.terminate()
        process.wait()


def _wait(prometheus: Prometheus, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(httpx.TransportError):
            if httpx.get(f"{prometheus.url}/-/ready", trust_env=False).status_code == httpx.codes.OK:
                return
        time.sleep(0.1)
    said = log.read_text().strip().splitlines()[-1:]
    raise ClusterError(f"Prometheus does not start: {said[0] if said else 'it says nothing'}")
