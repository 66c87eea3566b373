"""The actual state of one resource as a frozen Observation, from the watched objects and the agents' reports."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from llmserving_api import names
from llmserving_api.conditions import ConditionReason
from llmserving_api.status import AgentStatus
from llmserving_operator.children.identity import ChildKey, Identity, Manifest
from llmserving_operator.children.revision import Revision, read_revision

LOOPING_REASONS: Final = frozenset({"CrashLoopBackOff", "RunContainerError", "CreateContainerError"})
IMAGE_REASONS: Final = frozenset({"ImagePullBackOff", "ErrImagePull", "InvalidImageName", "ErrImageNeverPull"})
CONFIG_REASONS: Final = frozenset({"CreateContainerConfigError"})


@dataclass(frozen=True, slots=True)
class Trouble:
    """Why a pod does not become ready: a reason in one word, a message for people."""

    reason: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Pod:
    """A live pod of the resource."""

    name: str
    uid: str
    ip: str | None
    ready: bool
    running: bool
    terminating: bool
    bears_uid: bool
    """Whether it bears the resource's uid; pods of an earlier operator's template bear none."""
    policy: str | None
    """The policy annotation."""
    trouble: Trouble | None


@dataclass(frozen=True, slots=True)
class Report:
    """What a pod's agent last said, or why nothing is known of it."""

    status: AgentStatus | None
    error: str = ""


@dataclass(frozen=True, slots=True)
class Delivery:
    """When a policy was patched onto a pod, and how often."""

    revision: int
    at: float
    """Monotonic seconds of the last patch."""
    attempt: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """What there is of a resource."""

    children: Mapping[ChildKey, Manifest]
    """Objects it owns, pods aside."""
    foreign: Mapping[ChildKey, str]
    """Objects in the place of children that somebody else owns, and who."""
    leaving: frozenset[ChildKey] = frozenset()
    """Children of a deleted resource of the same name, which are about to go."""
    pods: tuple[Pod, ...]
    """By name."""
    reports: Mapping[str, Report]
    """By pod uid; absent: not asked yet."""
    deliveries: Mapping[str, Delivery]
    """By pod uid."""

    @property
    def revisions(self) -> tuple[Revision, ...]:
        """Remembered pod templates."""
        return tuple(read_revision(body) for key, body in self.children.items() if key.kind == "ControllerRevision")


def identify(resource: Manifest) -> Identity:
    """Identity of a resource."""
    meta = resource["metadata"]
    return Identity(meta["namespace"], meta["name"], meta["uid"], meta["generation"])


def owner_of(body: Manifest) -> dict[str, Any] | None:
    """The controlling owner reference of an object."""
    for reference in body["metadata"].get("ownerReferences", ()):
        if reference.get("controller"):
            return dict(reference)
    return None


def is_owned(body: Manifest, owner: Identity) -> bool:
    """Whether the resource controls an object."""
    reference = owner_of(body)
    return reference is not None and reference["uid"] == owner.uid


def is_predecessors(body: Manifest, owner: Identity) -> bool:
    """Whether an object belonged to a resource of the same name that is gone."""
    reference = owner_of(body)
    return reference is not None and (reference["kind"], reference["name"]) == (names.KIND, owner.name)


def describe_owner(body: Manifest) -> str:
    """Words for who has an object that is not the resource's."""
    reference = owner_of(body)
    if reference is None:
        return "which no LLMServing owns"
    return f"which {reference['kind']} {reference['name']} owns"


def observe_pods(bodies: Iterable[Manifest], owner: Identity) -> tuple[Pod, ...]:
    """Pods by name; those that ended, that no Deployment made, and a predecessor's of the same name are left out."""
    live = (
        body
        for body in bodies
        if _is_engine(body, owner) and body.get("status", {}).get("phase") not in ("Succeeded", "Failed")
    )
    return tuple(sorted((_observe_pod(body) for body in live), key=lambda pod: pod.name))


def _is_engine(body: Manifest, owner: Identity) -> bool:
    """Whether the resource's Deployment made a pod that bears its labels.

    Pods of a template that an earlier version of the operator rendered bear no uid; they are the resource's until they go.
    """
    made_for = body["metadata"].get("labels", {}).get(names.LABEL_RESOURCE_UID, owner.uid)
    return (owner_of(body) or {}).get("kind") == "ReplicaSet" and made_for == owner.uid


def _observe_pod(body: Manifest) -> Pod:
    meta, status = body["metadata"], body.get("status", {})
    conditions = {condition["type"]: condition for condition in status.get("conditions", ())}
    return Pod(
        name=meta["name"],
        uid=meta["uid"],
        ip=status.get("podIP"),
        ready=conditions.get("Ready", {}).get("status") == "True",
        running=any(_is_running(state, names.CONTAINER_AGENT) for state in status.get("initContainerStatuses", ())),
        terminating="deletionTimestamp" in meta,
        bears_uid=names.LABEL_RESOURCE_UID in meta.get("labels", {}),
        policy=meta.get("annotations", {}).get(names.ANNOTATION_POLICY),
        trouble=_trouble(status, conditions),
    )


def _is_running(status: Manifest, container: str) -> bool:
    return bool(status["name"] == container and "running" in status.get("state", {}))


def _trouble(status: Manifest, conditions: Mapping[str, Manifest]) -> Trouble | None:
    scheduled = conditions.get("PodScheduled", {})
    if scheduled.get("status") == "False":
        return Trouble(ConditionReason.UNSCHEDULABLE, scheduled.get("message", "no node fits"))
    for container in [*status.get("initContainerStatuses", ()), *status.get("containerStatuses", ())]:
        waiting = container.get("state", {}).get("waiting", {})
        reason = waiting.get("reason", "")
        if reason in IMAGE_REASONS:
            return Trouble(
                ConditionReason.IMAGE_PULL_FAILED, f"container {container['name']}: {waiting.get('message', reason)}"
            )
        if reason in CONFIG_REASONS:
            return Trouble(
                ConditionReason.CONTAINER_CONFIG_WRONG,
                f"container {container['name']}: {waiting.get('message', reason)}",
            )
        if reason in LOOPING_REASONS:
            return Trouble(
                ConditionReason.CRASH_LOOPING, f"container {container['name']}: {_last_words(container) or reason}"
            )
    return None


def _last_words(container: Manifest) -> str:
    """The end of what a container printed before it ended (``terminationMessagePolicy: FallbackToLogsOnError``)."""
    ended = container.get("lastState", {}).get("terminated", {})
    lines = [line for line in ended.get("message", "").splitlines() if line.strip()]
    words = " | ".join(lines[-3:])[-600:]
    return f"exit code {ended['exitCode']}: {words}" if "exitCode" in ended else words
