"""Asks now and then what there is, and what may be read.

A watch that broke off does not tell what was deleted meanwhile; one that is forbidden ends kopf and with it all others.
"""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import Final, Protocol

import structlog

from llmserving_operator.errors import KubeError, RejectedError
from llmserving_operator.kube.client import Kube

SURVEY_SECONDS: Final = 120.0
FORBIDDEN: Final = 403

Key = tuple[str, str]
"""Namespace and name of a resource."""

log = structlog.get_logger(__name__)


class Indexed(Protocol):
    """What the watches say there is."""

    def uids(self) -> dict[str, Key]:
        """Of all objects in the indexes, and of which resource each is."""

    def replace_gone(self, uids: Iterable[str]) -> set[str]:
        """These and no others are gone; those of which something else was thought before."""


class Surveyor:
    """Finds what the indexes hold and the cluster does not, and the namespaces that may not be read.

    Args:
        kube: calls to the API server.
        cluster: the watched objects; is told which of them are gone.
        kinds: what is watched, and by which labels.
        namespaces: which are to be watched; all when empty.

    Attributes:
        forbidden: of these, the ones that may not be read.
    """

    def __init__(
        self, kube: Kube, cluster: Indexed, kinds: Sequence[tuple[str, str]], namespaces: Sequence[str]
    ) -> None:
        self._kube = kube
        self._cluster = cluster
        self._kinds = kinds
        self._namespaces = namespaces
        self.forbidden: frozenset[str] = frozenset()

    @property
    def readable(self) -> tuple[str, ...]:
        """Namespaces that may be read."""
        return tuple(namespace for namespace in self._namespaces if namespace not in self.forbidden)

    async def look(self) -> set[Key]:
        """Compare once; the resources of which something turned out to be gone.

        Raises:
            KubeError: the API server did not answer; nothing has changed.
        """
        indexed = self._cluster.uids()  # before the list: what comes meanwhile is not missed
        there: set[str] = set()
        forbidden = set()
        for namespace in self._namespaces or (None,):
            try:
                there |= await self._uids(namespace)
            except RejectedError as error:
                if namespace is None or error.status != FORBIDDEN:
                    raise
                forbidden.add(namespace)
                if namespace not in self.forbidden:
                    log.error("a namespace is left out: bind the operator's role there", error=str(error))
        for namespace in self.forbidden - forbidden:
            log.info("a namespace may be read again", namespace=namespace)
        self.forbidden = frozenset(forbidden)
        unknown = {uid for uid, (namespace, _) in indexed.items() if namespace in forbidden}
        changed = self._cluster.replace_gone(indexed.keys() - there - unknown)
        return {indexed[uid] for uid in changed & indexed.keys()}

    async def run(self, on_change: Callable[[Key], None], on_access: Callable[[], None]) -> None:
        """Look until cancelled.

        Args:
            on_change: told of every resource of which something turned out to be gone.
            on_access: told when other namespaces may be read than before.
        """
        while True:
            await asyncio.sleep(SURVEY_SECONDS)
            before = self.forbidden
            try:
                changed = await self.look()
            except KubeError as error:
                log.warning("what the watches may have missed is not known", error=str(error))
                continue
            for key in changed:
                log.info("a watch missed a deletion", namespace=key[0], name=key[1])
                on_change(key)
            if self.forbidden != before:
                on_access()

    async def _uids(self, namespace: str | None) -> set[str]:
        found: set[str] = set()
        for kind, selector in self._kinds:
            found |= await self._kube.uids(kind, namespace, selector)
        return found
