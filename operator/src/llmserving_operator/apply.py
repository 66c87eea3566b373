"""Carries out the steps of a plan, and skips what the API server already has."""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from llmserving_operator.children.identity import ChildKey, Identity, Manifest, child_key
from llmserving_operator.children.revision import digest
from llmserving_operator.errors import ConflictError, KubeError, NotFoundError
from llmserving_operator.kube.client import Kube
from llmserving_operator.observe import Observation
from llmserving_operator.plan import Apply, Delete, Deliver, Step

VOLATILE = ("resourceVersion", "managedFields", "annotations")
"""Metadata that others write without touching what we applied."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a plan."""

    changed: tuple[ChildKey, ...]
    """Children that were written and came back different."""
    delivered: tuple[Deliver, ...]
    failures: tuple[KubeError, ...]


RESYNC_SECONDS: Final = 600.0
"""An unchanged child is applied again after this long: a watch that broke off may have missed its deletion."""


class Applier:
    """Applies plans; remembers what it last applied to which state, so that an unchanged child costs no call.

    Args:
        kube: calls to the API server.
        monotonic: seconds that only rise.
    """

    def __init__(self, kube: Kube, monotonic: Callable[[], float]) -> None:
        self._kube = kube
        self._monotonic = monotonic
        self._applied: dict[tuple[str, ChildKey], tuple[str, str, float]] = {}

    async def apply(self, owner: Identity, observation: Observation, stages: Sequence[Sequence[Step]]) -> Outcome:
        """Run the stages in order; an object that cannot be written ends the plan after its stage.

        A pod that cannot be patched does not: the others and what new pods start from must not wait for it.
        """
        changed: list[ChildKey] = []
        delivered: list[Deliver] = []
        failures: list[KubeError] = []
        blocked = False
        for stage in stages:
            results = await asyncio.gather(
                *(self._run(owner, observation, step) for step in stage), return_exceptions=True
            )
            for step, result in zip(stage, results, strict=True):
                if isinstance(result, KubeError):
                    failures.append(result)
                    blocked |= not isinstance(step, Deliver)
                elif isinstance(result, BaseException):
                    raise result
                elif isinstance(step, Deliver):
                    delivered.append(step)
                elif result is not None:
                    changed.append(result)
            if blocked:
                break
        return Outcome(tuple(changed), tuple(delivered), tuple(failures))

    def forget(self, owner: Identity) -> None:
        """Drop what is remembered of a resource."""
        for key in [key for key in self._applied if key[0] == owner.uid]:
            del self._applied[key]

    async def _run(self, owner: Identity, observation: Observation, step: Step) -> ChildKey | None:
        match step:
            case Deliver():
                with suppress(NotFoundError, ConflictError):  # the pod is gone, its successor starts from the seed
                    await self._kube.deliver_policy(owner.namespace, step.pod, step.uid, step.document, step.attempt)
            case Delete():
                await self._kube.delete(owner.namespace, step.key, step.uid)
                return step.key
            case Apply():
                return await self._apply(owner, observation, step.manifest)
        return None

    async def _apply(self, owner: Identity, observation: Observation, manifest: Manifest) -> ChildKey | None:
        key = child_key(manifest)
        wanted, now = digest(manifest), self._monotonic()
        found = observation.children.get(key)
        if found is not None:
            *last, at = self._applied.get((owner.uid, key), ("", "", now))
            if last == [wanted, fingerprint(found)] and now - at < RESYNC_SECONDS:
                return None
        written = await self._kube.apply(manifest)
        self._applied[owner.uid, key] = (wanted, fingerprint(written), now)
        unchanged = found is not None and _version(found) == _version(written)
        return None if unchanged else key


def fingerprint(body: Manifest) -> str:
    """Digest of what of an object is anybody's wish: not its status and not its bookkeeping."""
    metadata = {key: value for key, value in body["metadata"].items() if key not in VOLATILE}
    rest = {key: value for key, value in body.items() if key not in ("metadata", "status", "apiVersion", "kind")}
    return digest({"metadata": metadata, **rest})


def _version(body: Manifest) -> str:
    return str(body["metadata"]["resourceVersion"])
