"""One pass for one resource: observe, plan, apply, and write the status once at the end."""

import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Final, Protocol

import structlog
from pydantic import ValidationError

from llmserving_api import names
from llmserving_api.conditions import ConditionReason
from llmserving_api.v1alpha1 import LLMServingSpec, LLMServingStatus
from llmserving_operator.agents import AgentPoller
from llmserving_operator.apply import Applier
from llmserving_operator.children.identity import ChildKey, Identity, Manifest, child_key
from llmserving_operator.conditions import Verdict
from llmserving_operator.delivery import DeliveryLog
from llmserving_operator.errors import ConflictError, GoneError, KubeError, NotFoundError, RefusedError
from llmserving_operator.events import build_event, events_between
from llmserving_operator.kube.client import Kube
from llmserving_operator.metrics import Metrics
from llmserving_operator.observe import (
    Observation,
    Pod,
    describe_owner,
    identify,
    is_owned,
    is_predecessors,
    observe_pods,
)
from llmserving_operator.plan import LAG_SECONDS, make_plan, named_children
from llmserving_operator.report import build_status, build_unread_status, seconds_until_write
from llmserving_operator.settings import Settings
from llmserving_operator.verdicts import judge_acceptance

Key = tuple[str, str]
"""Namespace and name of a resource."""

CONFLICT_RETRY_SECONDS: Final = 10.0
"""Foreign objects are not watched; they are looked at again this often."""
LEAVING_RETRY_SECONDS: Final = 1.0
"""Between looks at what a deleted resource of the same name has left."""
REFRESH_SECONDS: Final = 30.0
"""Latencies change without an event."""

log = structlog.get_logger(__name__)


class Cluster(Protocol):
    """What is watched."""

    def resource(self, key: Key) -> Manifest | None:
        """A resource."""

    def children(self, key: Key) -> Iterable[Manifest]:
        """Labelled objects of a resource, pods aside."""

    def pods(self, key: Key) -> Iterable[Manifest]:
        """Labelled pods of a resource."""

    def drop(self, uid: str) -> None:
        """An object is gone; its uid never comes back."""


class _Memory:
    """What the process remembers of a resource; losing it costs a few needless calls and nothing else."""

    def __init__(self, owner: Identity, status: LLMServingStatus) -> None:
        self.owner = owner
        self.deliveries = DeliveryLog()
        self.status = status
        """As it is in the cluster."""
        self.written_at: float | None = None


class Reconciler:
    """Brings one resource at a time to what its spec asks for.

    Args:
        cluster: the watched objects.
        kube: calls to the API server.
        agents: reports of the agents.
        metrics: counts and times.
        settings: the operator's configuration.
        monotonic: seconds that only rise.
        wall: the time of day, for people.
    """

    def __init__(
        self,
        *,
        cluster: Cluster,
        kube: Kube,
        agents: AgentPoller,
        metrics: Metrics,
        settings: Settings,
        monotonic: Callable[[], float] = time.monotonic,
        wall: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._cluster = cluster
        self._kube = kube
        self._agents = agents
        self._metrics = metrics
        self._settings = settings
        self._monotonic = monotonic
        self._wall = wall
        self._applier = Applier(kube, monotonic)
        self._memories: dict[Key, _Memory] = {}

    async def reconcile(self, key: Key) -> float | None:
        """One pass; the seconds after which to look again.

        Raises:
            KubeError: the API server did not do what was asked and may do it later.
        """
        try:
            return await self._pass(key)
        except GoneError as gone:
            self._cluster.drop(gone.uid)
            return 0.0  # there may be another of the same name

    async def _pass(self, key: Key) -> float | None:
        resource = self._cluster.resource(key)
        if resource is None or "deletionTimestamp" in resource["metadata"]:
            self._forget(key)
            return None
        owner = identify(resource)
        memory = self._recall(key, owner, resource)
        with self._metrics.seconds.labels("observe").time():
            observation = await self._observe(key, owner, memory)
        if any(child not in observation.children for child in named_children(owner)):
            await self._confirm(
                owner
            )  # the watch may have missed its deletion, and it would be given children for ever
        try:
            spec = read_spec(resource)
        except RefusedError as error:
            status = build_unread_status(owner, memory.status, Verdict(False, error.reason, str(error)), self._now())
            await self._publish(memory, status)
            self._metrics.count_reconcile("unchanged")
            return None
        with self._metrics.seconds.labels("plan").time():
            plan = make_plan(owner, spec, observation, self._settings, self._monotonic())
        with self._metrics.seconds.labels("apply").time():
            outcome = await self._applier.apply(owner, observation, () if spec.paused else plan.stages)
        memory.deliveries.note(owner.generation, observation.pods, outcome.delivered, self._monotonic())
        self._follow_deliveries(key, observation, memory)
        status = build_status(
            owner,
            spec,
            observation,
            memory.status,
            accepted=judge_acceptance(plan.refusal, outcome.failures),
            update_pending=plan.update_pending,
            now=self._now(),
        )
        with self._metrics.seconds.labels("status").time():
            wait = await self._publish(memory, status)
        if outcome.failures:
            raise outcome.failures[0]
        changed = bool(outcome.changed or outcome.delivered)
        self._metrics.count_reconcile("changed" if changed else "unchanged")
        log.debug("reconciled", namespace=owner.namespace, name=owner.name, changed=changed)
        return min(
            REFRESH_SECONDS if wait is None else wait,
            CONFLICT_RETRY_SECONDS if observation.foreign else REFRESH_SECONDS,
            LEAVING_RETRY_SECONDS if observation.leaving else REFRESH_SECONDS,
            LAG_SECONDS if memory.deliveries.pending else REFRESH_SECONDS,
        )

    async def _confirm(self, owner: Identity) -> None:
        """Ask the API server whether there is this very resource.

        Raises:
            GoneError: there is not.
        """
        found = await self._kube.get(owner.namespace, ChildKey(names.KIND, owner.name))
        if found is None or found["metadata"]["uid"] != owner.uid:
            log.info("the resource is gone", namespace=owner.namespace, name=owner.name, uid=owner.uid)
            raise GoneError(owner.uid)

    def count_failure(self) -> None:
        """A pass raised."""
        self._metrics.count_reconcile("failed")

    def _recall(self, key: Key, owner: Identity, resource: Manifest) -> _Memory:
        memory = self._memories.get(key)
        if memory is None or memory.owner.uid != owner.uid:
            self._forget(key)
            memory = self._memories[key] = _Memory(owner, _read_status(resource))
        memory.owner = owner
        return memory

    def _forget(self, key: Key) -> None:
        memory = self._memories.pop(key, None)
        if memory is not None:
            self._agents.watch(key, (), self._settings.poll_seconds)
            self._applier.forget(memory.owner)
            self._metrics.forget(*key)

    async def _observe(self, key: Key, owner: Identity, memory: _Memory) -> Observation:
        children: dict[ChildKey, Manifest] = {}
        foreign: dict[ChildKey, str] = {}
        leaving: set[ChildKey] = set()
        for body in self._cluster.children(key):
            if is_owned(body, owner):
                children[child_key(body)] = body
        for missing in [name for name in named_children(owner) if name not in children]:
            found = await self._kube.get(owner.namespace, missing)
            if found is None:
                continue
            if is_owned(found, owner):
                children[missing] = {**found, "kind": missing.kind}
            elif is_predecessors(found, owner):
                leaving.add(missing)
            else:
                foreign[missing] = describe_owner(found)
        pods = observe_pods(self._cluster.pods(key), owner)
        self._watch_agents(key, pods, memory)
        return Observation(
            children=children,
            foreign=foreign,
            leaving=frozenset(leaving),
            pods=pods,
            reports=self._agents.reports(pods),
            deliveries=memory.deliveries.entries,
        )

    def _follow_deliveries(self, key: Key, observation: Observation, memory: _Memory) -> None:
        """Ask agents often until all act on the policy, and measure how long that took."""
        took = memory.deliveries.settle(observation.pods, observation.reports, self._monotonic())
        if took is not None:
            self._metrics.delivery.observe(took)
        self._watch_agents(key, observation.pods, memory)

    def _watch_agents(self, key: Key, pods: Iterable[Pod], memory: _Memory) -> None:
        often = memory.deliveries.pending
        self._agents.watch(key, pods, self._settings.settle_poll_seconds if often else self._settings.poll_seconds)

    async def _publish(self, memory: _Memory, status: LLMServingStatus) -> float | None:
        """Write the status where that is due, and the Events of what changed; the seconds until it is due otherwise."""
        owner = memory.owner
        self._metrics.show_conditions(owner.namespace, owner.name, status)
        wait = seconds_until_write(memory.status, status, memory.written_at, self._monotonic())
        if wait is None or wait > 0:
            return wait
        try:
            await self._kube.apply_status(owner.namespace, owner.name, owner.uid, status.manifest())
        except (NotFoundError, ConflictError):  # deleted meanwhile, and perhaps made anew
            await self._confirm(owner)
            raise
        before, memory.status = memory.status, status
        memory.written_at = self._monotonic()
        for event in events_between(before.conditions, status.conditions):
            log.info(
                "condition changed", namespace=owner.namespace, name=owner.name, reason=event.reason, note=event.note
            )
            try:
                await self._kube.create(
                    owner.namespace, build_event(owner, event, self._now(), self._settings.identity)
                )
            except KubeError as error:
                log.warning("an Event was not posted", error=str(error))
        return None

    def _now(self) -> str:
        return self._wall().strftime("%Y-%m-%dT%H:%M:%SZ")


def read_spec(resource: Manifest) -> LLMServingSpec:
    """The validated spec; the schema of the CRD has checked most of it already.

    Raises:
        RefusedError: naming the field, the value and the rule.
    """
    try:
        return LLMServingSpec.model_validate(resource["spec"])
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = ".".join(str(part) for part in ("spec", *first["loc"]))
        value = first["input"]
        given = "" if isinstance(value, dict | list) else f"{value!r}: "  # of an object its fields tell more
        raise RefusedError(ConditionReason.INVALID_SPEC, f"{field}: {given}{first['msg']}") from error


def _read_status(resource: Manifest) -> LLMServingStatus:
    """What the cluster has; a status that is not understood, from a later version perhaps, is written anew."""
    try:
        return LLMServingStatus.model_validate(resource.get("status", {}))
    except ValidationError:
        return LLMServingStatus()
