"""What to do for a resource: pure, from what is wanted and what is there to steps and a verdict."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from llmserving_api import names
from llmserving_api.v1alpha1 import LLMServingSpec
from llmserving_operator.children.deployment import build_deployment
from llmserving_operator.children.identity import ChildKey, Identity, Manifest, child_key
from llmserving_operator.children.networkpolicy import build_network_policy
from llmserving_operator.children.poddisruptionbudget import build_pod_disruption_budget
from llmserving_operator.children.policy import build_policy, build_policy_config_map, policy_text
from llmserving_operator.children.revision import Revision, build_revision, newest, next_revision, spec_digest
from llmserving_operator.children.service import build_service
from llmserving_operator.children.serviceaccount import build_service_account
from llmserving_operator.children.template import render_template
from llmserving_operator.errors import RefusedError
from llmserving_operator.observe import Delivery, Observation, Pod
from llmserving_operator.settings import Settings

LAG_SECONDS: Final = 2.0
"""A pod whose agent has not taken a policy this long after it was patched is patched again."""
MAX_DOUBLINGS: Final = 5


@dataclass(frozen=True, slots=True)
class Apply:
    """Server-side apply of a child."""

    manifest: Manifest


@dataclass(frozen=True, slots=True)
class Delete:
    """Delete a child that is no longer wanted, by name and uid."""

    key: ChildKey
    uid: str


@dataclass(frozen=True, slots=True)
class Deliver:
    """Patch the policy document onto a live pod."""

    pod: str
    uid: str
    document: str
    attempt: int
    """Counts repetitions; a repetition changes a second annotation, which wakes the kubelet."""


Step = Apply | Delete | Deliver


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Steps, in stages: those of a stage may run together, a stage starts when the one before is written."""

    stages: tuple[tuple[Step, ...], ...]
    update_pending: bool
    """The present operator would render another pod template than the one that is remembered."""
    refusal: RefusedError | None = None
    """Why nothing is to be changed."""


def make_plan(owner: Identity, spec: LLMServingSpec, observation: Observation, settings: Settings, now: float) -> Plan:
    """Steps that bring the cluster to what the resource asks for.

    Live edits come first and alone: the policy goes onto the running pods before anything else is written. Objects
    of somebody else in the place of a child are left alone, and so is the Deployment that would need them.

    Args:
        owner: the resource.
        spec: what it asks for.
        observation: what there is.
        settings: the operator's own configuration.
        now: monotonic seconds.
    """
    try:
        rendered = render_template(owner, spec, settings)
    except RefusedError as refusal:
        return Plan(stages=(), update_pending=False, refusal=refusal)
    document = policy_text(build_policy(owner, spec))
    revision = choose_revision(owner, spec, observation.revisions, rendered)
    prerequisites = [
        build_service_account(owner),
        build_policy_config_map(owner, document),
        build_revision(owner, revision),
    ]
    others = [
        build_service(owner, by_uid=all_bear_uid(revision, observation)),
        build_network_policy(owner, spec.network_policy),
        build_pod_disruption_budget(owner),
    ]
    deployment = build_deployment(owner, spec, revision.template)
    needed = {child_key(manifest) for manifest in (*prerequisites, deployment)}
    taken = observation.foreign.keys() | observation.leaving
    last = () if needed & taken else (Apply(deployment),)
    return Plan(
        stages=(
            deliveries(observation, document, owner.generation, now),
            tuple(Apply(manifest) for manifest in (*prerequisites, *others) if child_key(manifest) not in taken),
            last,
            superfluous(observation, revision),
        ),
        update_pending=revision.template != rendered,
    )


def named_children(owner: Identity) -> tuple[ChildKey, ...]:
    """Children with fixed names, which somebody else's objects could have."""
    return (
        ChildKey("ServiceAccount", owner.name),
        ChildKey("ConfigMap", owner.policy_config_map),
        ChildKey("Service", owner.name),
        ChildKey("NetworkPolicy", owner.name),
        ChildKey("PodDisruptionBudget", owner.name),
        ChildKey("Deployment", owner.name),
    )


def choose_revision(
    owner: Identity, spec: LLMServingSpec, remembered: Sequence[Revision], rendered: Manifest
) -> Revision:
    """The remembered template, or a new one where the user's restart-relevant fields changed.

    Several are remembered while the API server refuses a Deployment: an edit that is taken back finds the template that
    still runs, which becomes the newest again.
    """
    current = newest(remembered)
    known = newest([one for one in remembered if one.spec_digest == spec_digest(spec)])
    rolls = spec.rollout.sidecar_upgrade == "Rolling"
    if current is None or known is None or (rolls and known.template != rendered):
        return next_revision(owner, spec, rendered, current)
    return known if known == current else replace(known, number=current.number + 1)


def all_bear_uid(revision: Revision, observation: Observation) -> bool:
    """Whether every pod there is, and every one to come, bears the resource's uid.

    Not those of a template that an operator of before the label rendered, which is remembered until the next restart.
    """
    to_come = names.LABEL_RESOURCE_UID in revision.template["metadata"]["labels"]
    return to_come and all(pod.bears_uid for pod in observation.pods if not pod.terminating)


def deliveries(observation: Observation, document: str, revision: int, now: float) -> tuple[Deliver, ...]:
    """Pods that lack the policy, and those whose agents have not taken it in time."""
    steps = []
    for pod in observation.pods:
        if pod.terminating:
            continue
        delivery = observation.deliveries.get(pod.uid)
        if pod.policy != document:
            steps.append(Deliver(pod.name, pod.uid, document, 0))
        elif delivery is not None and delivery.revision == revision and _lags(observation, pod, delivery, now):
            steps.append(Deliver(pod.name, pod.uid, document, delivery.attempt + 1))
    return tuple(steps)


def _lags(observation: Observation, pod: Pod, delivery: Delivery, now: float) -> bool:
    """Whether a pod's agent answers and has not read the policy; patience doubles with every attempt."""
    report = observation.reports.get(pod.uid)
    if report is None or report.status is None or report.status.policy_error:
        return False
    seen = report.status.policy_seen_revision
    taken = report.status.policy_revision if seen is None else seen
    late = now - delivery.at >= LAG_SECONDS * 2 ** min(delivery.attempt, MAX_DOUBLINGS)
    return late and (taken is None or taken < delivery.revision)


def superfluous(observation: Observation, current: Revision) -> tuple[Delete, ...]:
    """Templates that are no longer in force."""
    return tuple(
        Delete(key, body["metadata"]["uid"])
        for key, body in sorted(observation.children.items())
        if key.kind == "ControllerRevision" and key.name != current.name
    )
