"""Leadership: of several operators one acts, the holder of a Lease.

The ``kubernetes`` package's own election writes local time as UTC and ends on the first lost connection; this one keeps
to the protocol of client-go: a lease that has not changed for its duration, by the observer's own clock, is free.
"""

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, Final

import structlog

from llmserving_operator.children.identity import ChildKey, Manifest
from llmserving_operator.errors import KubeError
from llmserving_operator.kube.client import Kube

DURATION_SECONDS: Final = 15
"""A holder that has not renewed for this long is replaced."""
RENEW_DEADLINE_SECONDS: Final = 10.0
"""A holder that could not renew for this long stops acting; earlier than others may take over."""
RETRY_SECONDS: Final = 2.0

log = structlog.get_logger(__name__)


class Lease:
    """A Lease that this process holds, or wants to hold.

    Args:
        kube: calls to the API server.
        namespace: of the Lease.
        name: of the Lease.
        identity: of this process; unique among the candidates.
        monotonic: seconds that only rise.
    """

    def __init__(self, kube: Kube, namespace: str, name: str, identity: str, monotonic: Callable[[], float]) -> None:
        self._kube = kube
        self._namespace = namespace
        self._key = ChildKey("Lease", name)
        self._identity = identity
        self._monotonic = monotonic
        self._seen: tuple[str, float] = ("", 0.0)

    async def take(self) -> bool:
        """Take or renew the Lease; False while somebody else has it.

        Raises:
            KubeError: the API server did not answer, or another candidate was faster.
        """
        found = await self._kube.get(self._namespace, self._key)
        if found is None:
            await self._kube.create(self._namespace, self._manifest({}, self._identity, DURATION_SECONDS))
            return True
        version = found["metadata"]["resourceVersion"]
        if version != self._seen[0]:
            self._seen = (version, self._monotonic())
        spec = found.get("spec", {})
        holder = spec.get("holderIdentity")
        age = self._monotonic() - self._seen[1]
        if holder and holder != self._identity and age < spec.get("leaseDurationSeconds", DURATION_SECONDS):
            return False
        await self._kube.replace(self._namespace, self._key, self._manifest(found, self._identity, DURATION_SECONDS))
        return True

    async def give_up(self) -> None:
        """Let a successor begin at once."""
        try:
            found = await self._kube.get(self._namespace, self._key)
            if found is not None and found.get("spec", {}).get("holderIdentity") == self._identity:
                await self._kube.replace(self._namespace, self._key, self._manifest(found, "", 1))
        except KubeError as error:
            log.warning("the Lease was not given up; a successor waits until it runs out", error=str(error))

    def _manifest(self, found: Manifest, holder: str, seconds: int) -> Manifest:
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        old = found.get("spec", {})
        kept = old.get("holderIdentity") == holder
        return {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": found.get("metadata", {"name": self._key.name, "namespace": self._namespace}),
            "spec": {
                "holderIdentity": holder,
                "leaseDurationSeconds": seconds,
                "acquireTime": old.get("acquireTime", now) if kept else now,
                "renewTime": now,
                "leaseTransitions": old.get("leaseTransitions", 0) + (0 if kept else 1),
            },
        }


async def lead(
    lease: Lease,
    work: Callable[[], Coroutine[Any, Any, None]],
    monotonic: Callable[[], float],
    on_standby: Callable[[], None],
) -> bool:
    """Wait for leadership, then work until the work ends or leadership is lost.

    Args:
        lease: what leadership is.
        work: what the leader does.
        monotonic: seconds that only rise.
        on_standby: told when somebody else leads.

    Returns:
        True when the work ended by itself, False when leadership was lost.
    """
    if not await _attempt(lease):
        log.info("waiting for the Lease")
        on_standby()
        while not await _attempt(lease):
            await asyncio.sleep(RETRY_SECONDS)
    log.info("leading")
    working = asyncio.create_task(work())
    keeping = asyncio.create_task(_keep(lease, monotonic))
    try:
        await asyncio.wait({working, keeping}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            await working
            return True
        log.error("leadership was lost")
        return False
    finally:
        for task in (working, keeping):
            task.cancel()
        await asyncio.gather(working, keeping, return_exceptions=True)
        await lease.give_up()


async def _keep(lease: Lease, monotonic: Callable[[], float]) -> None:
    """Renew until that has not worked for too long; an attempt that hangs ends with it."""
    renewed = monotonic()
    while (left := renewed + RENEW_DEADLINE_SECONDS - monotonic()) > 0:
        with suppress(TimeoutError):
            async with asyncio.timeout(left):
                await asyncio.sleep(RETRY_SECONDS)
                if await _attempt(lease):
                    renewed = monotonic()


async def _attempt(lease: Lease) -> bool:
    try:
        return await lease.take()
    except KubeError as error:
        log.warning("the Lease could not be taken or renewed", error=str(error))
        return False
