"""What is watched, and which resource an event is about. Beside the entry point, the only module that knows kopf.

Only ``index`` and ``event`` handlers: the indexes hold the actual state, an event merely names the resource to look at
again. kopf itself writes nothing: no finalizer, no annotation, no Event.
"""

from collections.abc import Callable, Iterable
from dataclasses import asdict
from typing import Any, Final

import kopf

from llmserving_api import names
from llmserving_operator.children.identity import Manifest
from llmserving_operator.kube.connection import Credentials

Key = tuple[str, str]
"""Namespace and name of a resource."""

CHILD_RESOURCES: Final = (
    ("apps", "v1", "deployments", "Deployment"),
    ("apps", "v1", "controllerrevisions", "ControllerRevision"),
    ("", "v1", "services", "Service"),
    ("", "v1", "configmaps", "ConfigMap"),
    ("", "v1", "serviceaccounts", "ServiceAccount"),
    ("networking.k8s.io", "v1", "networkpolicies", "NetworkPolicy"),
    ("policy", "v1", "poddisruptionbudgets", "PodDisruptionBudget"),
)
"""Kinds of children that are watched, pods aside."""

PODS: Final = ("", "v1", "pods")
RESOURCE: Final = (names.GROUP, names.VERSION, names.PLURAL)

OURS: Final = f"{names.LABEL_MANAGED_BY}={names.FIELD_MANAGER}"
"""Only labelled objects are watched: the rest of the cluster stays out of memory."""


SURVEYED: Final = ((names.KIND, ""), *((kind, OURS) for *_, kind in CHILD_RESOURCES), ("Pod", OURS))
"""All that is watched: kinds, and the labels by which."""


class WatchedCluster:
    """The watched objects, read from kopf's indexes, without those known to be gone.

    Where a watch can no longer be resumed (410), kopf lists anew: it meets what is new, and keeps in its indexes what
    was deleted meanwhile.
    """

    def __init__(self) -> None:
        self._indexes: dict[str, Any] = {}
        self._gone: set[str] = set()

    def fill_from(self, indexes: dict[str, Any]) -> None:
        """Take over kopf's indexes, which stay up to date by themselves."""
        self._indexes = indexes

    def resource(self, key: Key) -> Manifest | None:
        """A resource; the newest where one of the same name was deleted and the watch did not say so."""
        return max(reversed(self._read("llmservings", key)), key=_created, default=None)

    def children(self, key: Key) -> Iterable[Manifest]:
        """Labelled objects of a resource, pods aside."""
        for _group, _version, plural, kind in CHILD_RESOURCES:
            for body in self._read(plural, key):
                yield {**body, "kind": kind}

    def pods(self, key: Key) -> Iterable[Manifest]:
        """Labelled pods of a resource."""
        return self._read("pods", key)

    def drop(self, uid: str) -> None:
        """An object is gone; its uid never comes back."""
        self._gone.add(uid)

    def uids(self) -> dict[str, Key]:
        """Of all objects in the indexes, those known to be gone among them; and of which resource each is."""
        return {
            body["metadata"]["uid"]: key
            for index in self._indexes.values()
            for key in list(index)
            for body in index.get(key, ())
        }

    def replace_gone(self, uids: Iterable[str]) -> set[str]:
        """These and no others are gone; those of which something else was thought before."""
        before, self._gone = self._gone, set(uids)
        return before ^ self._gone

    def _read(self, index: str, key: Key) -> list[Manifest]:
        return [body for body in self._indexes[index].get(key, ()) if body["metadata"]["uid"] not in self._gone]


def build_registry(
    cluster: WatchedCluster,
    enqueue: Callable[[Key], None],
    halt: Callable[[], None],
    credentials: Callable[[], Credentials],
) -> kopf.OperatorRegistry:
    """Handlers for all watched kinds.

    Args:
        cluster: is given the indexes.
        enqueue: is told of every resource that something happened to.
        halt: ends what works beside kopf, which would otherwise wait for it in vain when it is told to stop.
        credentials: how the API server is reached; asked again when a token has run out.
    """
    registry = kopf.OperatorRegistry()
    children = [(group, version, plural) for group, version, plural, _kind in CHILD_RESOURCES]
    _watch(registry, RESOURCE, _own_name, enqueue)
    for child in (*children, PODS):
        _watch(registry, child, _owner_name, enqueue)

    @kopf.on.login(registry=registry)
    async def login(**_: Any) -> kopf.ConnectionInfo:
        return kopf.ConnectionInfo(**asdict(credentials()))

    @kopf.on.startup(registry=registry)
    async def take_indexes(**kwargs: Any) -> None:
        cluster.fill_from({plural: kwargs[plural] for _group, _version, plural in (RESOURCE, *children, PODS)})

    @kopf.on.cleanup(registry=registry)
    async def stop_working(**_: Any) -> None:
        halt()

    return registry


def build_kopf_settings() -> kopf.OperatorSettings:
    """Settings of kopf as a mere watcher."""
    settings = kopf.OperatorSettings()
    settings.posting.enabled = False
    settings.peering.standalone = True
    settings.scanning.disabled = True
    settings.execution.max_workers = 1
    settings.queueing.exit_timeout = 0.2
    for group, version, plural in (*((g, v, p) for g, v, p, _kind in CHILD_RESOURCES), PODS):
        settings.watching.label_selectors[group, version, plural] = OURS
    return settings


def _watch(
    registry: kopf.OperatorRegistry,
    resource: tuple[str, str, str],
    name_of: Callable[..., str | None],
    enqueue: Callable[[Key], None],
) -> None:
    @kopf.index(*resource, id=resource[2], registry=registry)
    async def index(namespace: str, body: kopf.Body, **kwargs: Any) -> dict[Key, Manifest]:
        name = name_of(body=body, **kwargs)
        return {(namespace, name): dict(body)} if name else {}

    @kopf.on.event(*resource, id=f"{resource[2]}-event", registry=registry)
    async def event(namespace: str, body: kopf.Body, **kwargs: Any) -> None:
        name = name_of(body=body, **kwargs)
        if name:
            enqueue((namespace, name))


def _created(resource: Manifest) -> str:
    return str(resource["metadata"].get("creationTimestamp", ""))


def _own_name(name: str, **_: Any) -> str | None:
    return name


def _owner_name(labels: Any, **_: Any) -> str | None:
    return labels.get(names.LABEL_RESOURCE) or None
