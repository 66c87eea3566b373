"""Asks now and then what there is: a watch that broke off does not tell what was deleted meanwhile."""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import Final, Protocol

import structlog

from llmserving_operator.errors import KubeError
from llmserving_operator.kube.client import Kube

SURVEY_SECONDS: Final = 120.0

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
    """Finds what the indexes hold and the cluster does not.

    Args:
        kube: calls to the API server.
        cluster: the watched objects; is told which of them are gone.
        kinds: what is watched, and by which labels.
        namespaces: which are watched; all when empty.
    """

    def __init__(
        self, kube: Kube, cluster: Indexed, kinds: Sequence[tuple[str, str]], namespaces: Sequence[str]
    ) -> None:
        self._kube = kube
        self._cluster = cluster
        self._kinds = kinds
        self._namespaces = namespaces

    async def look(self) -> set[Key]:
        """Compare once; the resources of which something turned out to be gone.

        Raises:
            KubeError: the API server did not answer; nothing has changed.
        """
        indexed = self._cluster.uids()  # before the list: what comes meanwhile is not missed
        there: set[str] = set()
        for namespace in self._namespaces or (None,):
            for kind, selector in self._kinds:
                there |= await self._kube.uids(kind, namespace, selector)
        changed = self._cluster.replace_gone(indexed.keys() - there)
        return {indexed[uid] for uid in changed & indexed.keys()}

    async def run(self, on_change: Callable[[Key], None]) -> None:
        """Look until cancelled.

        Args:
            on_change: told of every resource of which something turned out to be gone.
        """
        while True:
            await asyncio.sleep(SURVEY_SECONDS)
            try:
                changed = await self.look()
            except KubeError as error:
                log.warning("what the watches may have missed is not known", error=str(error))
                continue
            for key in changed:
                log.info("a watch missed a deletion", namespace=key[0], name=key[1])
                on_change(key)
