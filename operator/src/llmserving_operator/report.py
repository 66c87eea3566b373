"""The status of a resource: pure, from what is known; and whether it is worth a write."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from llmserving_api.conditions import ConditionReason, ConditionType
from llmserving_api.status import AgentStatus
from llmserving_api.v1alpha1 import LLMServingSpec, LLMServingStatus
from llmserving_api.v1alpha1.status import BatchingStatus
from llmserving_operator import verdicts as judge_by
from llmserving_operator.aggregate import bounds_range, decisions, engine_statuses, history, judge, measure
from llmserving_operator.children.identity import ChildKey, Identity, selector
from llmserving_operator.children.service import service_url
from llmserving_operator.conditions import Verdict, derive_ready, set_conditions
from llmserving_operator.observe import Observation

MIN_INTERVAL_SECONDS: Final = 30.0
"""Between writes that change no condition."""


@dataclass(frozen=True, slots=True)
class Agents:
    """The agents of the running pods, by pod name."""

    statuses: Mapping[str, AgentStatus]
    silent: Mapping[str, str]
    """Pods whose agent does not answer, and why."""
    complete: bool
    """Every running pod was asked at least once."""


def hear_agents(observation: Observation) -> Agents:
    """Sort the agents' reports."""
    statuses: dict[str, AgentStatus] = {}
    silent: dict[str, str] = {}
    complete = True
    for pod in observation.pods:
        if pod.terminating or not pod.ready:
            continue
        report = observation.reports.get(pod.uid)
        if report is None:
            complete = False
        elif report.status is None:
            silent[pod.name] = report.error
        else:
            statuses[pod.name] = report.status
    return Agents(statuses, silent, complete)


def build_refused_status(owner: Identity, previous: LLMServingStatus, verdict: Verdict, now: str) -> LLMServingStatus:
    """Status of a resource that was not accepted; what runs goes on, and what was known of it stays."""
    accepted = {ConditionType.ACCEPTED: verdict, ConditionType.READY: Verdict(False, verdict.reason, verdict.message)}
    return previous.model_copy(
        update={
            "conditions": set_conditions(previous.conditions, accepted, owner.generation, now),
            "observed_generation": owner.generation,
        }
    )


def build_status(
    owner: Identity,
    spec: LLMServingSpec,
    observation: Observation,
    previous: LLMServingStatus,
    *,
    accepted: Verdict,
    update_pending: bool,
    now: str,
) -> LLMServingStatus:
    """Status of a resource that is being served.

    After a restart of the operator, agents that were not asked yet leave what was known of them as it is.
    """
    agents = hear_agents(observation)
    deployment = observation.children.get(ChildKey("Deployment", owner.name))
    measured = measure(agents.statuses.values())
    sla = judge(spec.sla, measured)
    found = {
        ConditionType.ACCEPTED: accepted,
        ConditionType.CONFLICT: judge_by.judge_conflict(observation.foreign),
        ConditionType.ENGINES_AVAILABLE: judge_by.judge_engines(spec, observation.pods),
        ConditionType.PROGRESSING: judge_by.judge_progress(deployment, spec.replicas),
        ConditionType.UPDATE_PENDING: judge_by.judge_update(update_pending),
    }
    if agents.complete:
        found |= {
            ConditionType.AGENTS_CONNECTED: judge_by.judge_agents(agents.statuses, agents.silent),
            ConditionType.TUNING_ACTIVE: judge_by.judge_tuning(spec, owner.generation, agents.statuses, agents.silent),
            ConditionType.SLA_MET: judge_by.judge_sla(sla, measured.requests, measured.busy),
            ConditionType.SLA_FEASIBLE: judge_by.judge_feasible(agents.statuses),
            ConditionType.SATURATED: judge_by.judge_saturated(agents.statuses),
            ConditionType.GPU_TELEMETRY_AVAILABLE: judge_by.judge_gpu(agents.statuses),
        }
    found[ConditionType.READY] = derive_ready(found)
    live = [pod for pod in observation.pods if not pod.terminating]
    usage = [engine.kv_usage_ratio for agent in agents.statuses.values() for engine in agent.engines]
    known = [value for value in usage if value is not None]
    counts = {
        "conditions": set_conditions(previous.conditions, found, owner.generation, now),
        "observed_generation": owner.generation,
        "replicas": len(live),
        "ready_replicas": sum(pod.ready for pod in live),
        "selector": ",".join(f"{key}={value}" for key, value in selector(owner.name).items()),
        "url": service_url(owner),
    }
    if not agents.complete:
        return previous.model_copy(update=counts)
    return LLMServingStatus(
        **counts,
        sla=sla,
        batching=_batching(spec, agents.statuses),
        engines=engine_statuses(agents.statuses, agents.silent),
        kv_usage=f"{100 * max(known):.0f}%" if known else None,
    )


def _batching(spec: LLMServingSpec, agents: Mapping[str, AgentStatus]) -> BatchingStatus:
    applied = [e.applied for agent in agents.values() for e in agent.engines if e.applied is not None]
    newest = decisions(agents)
    return BatchingStatus(
        max_num_seqs=bounds_range([bounds.max_num_seqs for bounds in applied]),
        max_num_batched_tokens=bounds_range([bounds.max_num_batched_tokens for bounds in applied]),
        policy=spec.batching.policy,
        last_decision=newest[0] if newest else None,
        history=history(agents),
    )


def seconds_until_write(
    previous: LLMServingStatus, status: LLMServingStatus, written_at: float | None, now: float
) -> float | None:
    """When a status is to be written: None never, 0 at once, otherwise after so many seconds.

    At once when a condition, the generation or the number of replicas changed; other changes wait until the last write
    is long enough ago.

    Args:
        previous: the status in the cluster.
        status: the new one.
        written_at: monotonic seconds of this process's last write; None: it has not written yet.
        now: monotonic seconds.
    """
    if status == previous:
        return None
    if _urgent(previous) != _urgent(status) or written_at is None:
        return 0.0
    return max(0.0, written_at + MIN_INTERVAL_SECONDS - now)


def _urgent(status: LLMServingStatus) -> tuple[object, ...]:
    conditions = tuple((c.type, c.status, c.reason) for c in status.conditions)
    return (conditions, status.observed_generation, status.replicas, status.ready_replicas, status.selector, status.url)


def accepted_verdict(failures: Sequence[str]) -> Verdict:
    """``Accepted`` of a resource that was understood; false where the API server refused one of its objects."""
    if failures:
        return Verdict(False, ConditionReason.REJECTED_BY_API_SERVER, "; ".join(failures))
    return Verdict(True, ConditionReason.ACCEPTED)
