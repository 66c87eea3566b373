"""Entry point: read the settings, wait for leadership, watch and reconcile until told to stop."""

import asyncio
import os
import random
import signal
import sys
import time
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from importlib.metadata import version

import httpx
import kopf
import structlog
from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector

from llmserving_operator.agents import AgentPoller
from llmserving_operator.errors import KubeError, OperatorError, PartEndedError
from llmserving_operator.handlers import SURVEYED, WatchedCluster, build_kopf_settings, build_registry
from llmserving_operator.health import serve_health
from llmserving_operator.kube.client import Kube
from llmserving_operator.kube.connection import KUBECONFIG_MEANING, Connection, find_connection
from llmserving_operator.kube.lease import Lease, lead
from llmserving_operator.logs import configure_logging
from llmserving_operator.metrics import Metrics
from llmserving_operator.reconcile import Key, Reconciler
from llmserving_operator.settings import Settings, describe_settings, read_settings
from llmserving_operator.survey import Surveyor
from llmserving_operator.workqueue import Backoff, WorkQueue

CRD_RETRY_SECONDS = 2.0
ACCESS_RETRY_SECONDS = 10.0

log = structlog.get_logger(__name__)


class Operator:
    """The running parts, put together."""

    def __init__(self, settings: Settings, kube: Kube, registry: CollectorRegistry) -> None:
        self._settings = settings
        self._kube = kube
        self._metrics = Metrics(registry)
        self.cluster = WatchedCluster()
        self.watching = asyncio.Event()
        self._standby = False

    @property
    def ready(self) -> bool:
        """The watches are filled, or another operator leads: a standby is as it should be.

        Were a standby not ready, a rolling update would wait for the new pod, and the new pod for the old one's Lease.
        """
        return self._standby or self.watching.is_set()

    def stand_by(self) -> None:
        """Another operator leads."""
        self._standby = True

    async def run(self, stop: asyncio.Event, connection: Connection) -> None:
        """Watch and reconcile until ``stop`` is set; begin anew when other namespaces may be read than before."""
        self._standby = False
        await self._wait_for_crd(stop)
        surveyor = Surveyor(self._kube, self.cluster, SURVEYED, self._settings.namespaces)
        while not stop.is_set():
            if self._settings.namespaces and not await self._finds_readable(surveyor, stop):
                return
            await self._watch(stop, connection, surveyor)

    async def _watch(self, stop: asyncio.Event, connection: Connection, surveyor: Surveyor) -> None:
        """Watch and reconcile until told to stop, or until other namespaces may be read."""
        finish, again = asyncio.Event(), asyncio.Event()
        forbidden = surveyor.forbidden

        def begin_anew() -> None:
            heed_signals(stop)
            again.set()
            finish.set()

        self._metrics.begin(self._settings.namespaces, forbidden)
        async with httpx.AsyncClient(trust_env=False) as client:
            poller = AgentPoller(client)
            reconciler = Reconciler(
                cluster=self.cluster, kube=self._kube, agents=poller, metrics=self._metrics, settings=self._settings
            )
            queue: WorkQueue[Key] = WorkQueue(
                reconciler.reconcile,
                workers=self._settings.workers,
                backoff=Backoff(),
                jitter=random.random,
                on_error=partial(report_failure, reconciler),
            )
            try:
                async with asyncio.TaskGroup() as group:
                    parts = [
                        group.create_task(part)
                        for part in (
                            queue.run(),
                            poller.run(queue.add),
                            surveyor.run(queue.add, begin_anew),
                            _pass_on(stop, finish),
                        )
                    ]

                    def halt() -> None:
                        finish.set()  # kopf waits for whatever waits for the flag
                        for part in parts:
                            part.cancel()

                    await kopf.operator(
                        registry=build_registry(self.cluster, queue.add, halt, connection.credentials),
                        settings=build_kopf_settings(),
                        standalone=True,
                        identity=self._settings.identity,
                        clusterwide=not self._settings.namespaces,
                        namespaces=surveyor.readable,
                        stop_flag=finish,
                        ready_flag=self.watching,
                    )
            except ExceptionGroup as ended:
                if not await _lost_access(surveyor, forbidden):
                    log.error("a part has ended, and the operator with it", exc_info=ended)
                    raise PartEndedError(str(ended.exceptions[0])) from ended
                begin_anew()
        if not again.is_set():
            stop.set()  # kopf took over the signals

    async def _finds_readable(self, surveyor: Surveyor, stop: asyncio.Event) -> bool:
        """Wait until some namespace may be read; False when told to stop before: to kopf, no namespace is every one."""
        self.watching.clear()
        while not stop.is_set():
            try:
                await surveyor.look()
            except KubeError as error:
                log.warning("the API server does not answer", error=str(error))
            else:
                if surveyor.readable:
                    return True
            self._metrics.begin(self._settings.namespaces, surveyor.forbidden)
            with suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), ACCESS_RETRY_SECONDS)
        return False

    async def _wait_for_crd(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            try:
                if await self._kube.serves_resource():
                    return
                log.warning("the API server does not know LLMServing yet; install the CRD")
            except KubeError as error:
                log.warning("the API server does not answer", error=str(error))
            await asyncio.sleep(CRD_RETRY_SECONDS)


async def _pass_on(stop: asyncio.Event, finish: asyncio.Event) -> None:
    await stop.wait()
    finish.set()


async def _lost_access(surveyor: Surveyor, forbidden: frozenset[str]) -> bool:
    """Whether the watches have ended because a namespace may not be read any more."""
    if surveyor.readable:
        with suppress(KubeError):
            await surveyor.look()
    return surveyor.forbidden != forbidden


def heed_signals(stop: asyncio.Event) -> None:
    """Set ``stop`` when the process is told to end."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)


def report_failure(reconciler: Reconciler, key: Key, error: Exception, delay: float) -> None:
    """Log a failed pass; what was not foreseen is logged with its trace."""
    reconciler.count_failure()
    log.error(
        "reconcile failed",
        namespace=key[0],
        name=key[1],
        error=str(error),
        retry_seconds=round(delay, 2),
        exc_info=None if isinstance(error, OperatorError) else error,
    )


async def serve(settings: Settings) -> int:
    """Run the operator; the process's exit status."""
    stop = asyncio.Event()
    heed_signals(stop)
    registry = CollectorRegistry()
    for collector in (ProcessCollector, PlatformCollector, GCCollector):
        collector(registry=registry)
    connection = await find_connection()
    async with connection.client() as client:
        kube = Kube(client)
        operator = Operator(settings, kube, registry)

        async def work() -> None:
            await operator.run(stop, connection)

        async with serve_health(settings.bind, settings.port, registry, lambda: operator.ready):
            if not settings.lease_namespace:
                await work()
                return 0
            lease = Lease(kube, settings.lease_namespace, settings.lease_name, settings.identity, time.monotonic)
            leading = asyncio.create_task(lead(lease, work, time.monotonic, operator.stand_by))
            stopping = asyncio.create_task(stop.wait())
            await asyncio.wait({leading, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if not operator.watching.is_set():
                leading.cancel()
            (result,) = await asyncio.gather(leading, return_exceptions=True)
            stopping.cancel()
            if isinstance(result, Exception):
                raise result
            return 0 if result is not False else 1


def main(arguments: Sequence[str] | None = None) -> None:
    """Console script ``llmserving-operator``."""
    parser = ArgumentParser(
        prog="llmserving-operator",
        description="Turns LLMServing resources into vLLM pods. It takes no arguments: every setting is an environment "
        "variable, listed below.",
        epilog=f"environment:\n{describe_settings()}\nKUBECONFIG\n    {KUBECONFIG_MEANING}",
        formatter_class=RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=version("llmserving-operator"))
    _, unknown = parser.parse_known_args(arguments)
    if unknown:
        parser.exit(
            2,
            f"llmserving-operator: {unknown[0]}: no such argument; settings are environment variables, which "
            "llmserving-operator --help lists\n",
        )
    try:
        settings = read_settings(os.environ)
        configure_logging(settings.log_level, settings.log_format)
        sys.exit(asyncio.run(serve(settings)))
    except OperatorError as error:
        sys.exit(f"llmserving-operator: {error}")


if __name__ == "__main__":
    main()
