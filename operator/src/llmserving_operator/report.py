"""The status of a resource: pure, from what is known; and whether it is worth a write."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from llmserving_api.conditions import ConditionType
from llmserving_api.status import AgentStatus
from llmserving_api.v1alpha1 import LLMServingSpec, LLMServingStatus
from llmserving_api.v1alpha1.status import BatchingStatus
from llmserving_operator import verdicts
from llmserving_operator.aggregate import bounds_range, decisions, engine_statuses, history, judge_targets, measure
from llmserving_operator.children.identity import ChildKey, Identity, selector
from llmserving_operator.children.service import service_url
from llmserving_operator.conditions import Verdict, derive_ready, set_conditions
from llmserving_operator.observe import Observation

MIN_INTERVAL_SECONDS: Final = 30.0
"""Between writes that change no condition."""


@dataclass(frozen=True, slots=True)
class Agents:
    """What the agents of the live pods said, by pod name."""

    running: Mapping[str, AgentStatus]
    """Of all pods whose agent answers, those whose engine is still starting among them."""
    serving: Mapping[str, AgentStatus]
    """Of pods that are ready."""
    silent: Mapping[str, str]
    """Ready pods whose agent does not answer, and why."""
    complete: bool
    """Every ready pod was asked at least once."""


def hear_agents(observation: Observation) -> Agents:
    """Sort the agents' reports."""
    live = [pod for pod in observation.pods if not pod.terminating]
    reports = {pod.name: observation.reports[pod.uid] for pod in live if pod.uid in observation.reports}
    ready = {pod.name for pod in live if pod.ready}
    running = {name: report.status for name, report in reports.items() if report.status is not None}
    return Agents(
        running=running,
        serving={name: status for name, status in running.items() if name in ready},
        silent={name: reports[name].error for name in ready & reports.keys() - running.keys()},
        complete=ready <= reports.keys(),
    )


def build_unread_status(owner: Identity, previous: LLMServingStatus, refused: Verdict, now: str) -> LLMServingStatus:
    """Status of a resource whose spec was not understood; what runs goes on, and what was known of it stays."""
    found = {ConditionType.ACCEPTED: refused, ConditionType.READY: Verdict(False, refused.reason, refused.message)}
    return previous.model_copy(
        update={
            "conditions": set_conditions(previous.conditions, found, owner.generation, now),
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
    """Status of a resource.

    Agents that were not asked yet, after a restart of the operator, leave what was known of them as it is.
    """
    agents = hear_agents(observation)
    measured = measure(agents.running.values())
    sla = judge_targets(spec.sla, measured.window)
    deployment = observation.children.get(ChildKey("Deployment", owner.name))
    found = {
        ConditionType.ACCEPTED: accepted,
        ConditionType.CONFLICT: verdicts.judge_conflict(observation.foreign),
        ConditionType.ENGINES_AVAILABLE: verdicts.judge_engines(spec, observation.pods),
        ConditionType.PROGRESSING: verdicts.judge_progress(deployment, spec),
        ConditionType.UPDATE_PENDING: verdicts.judge_update(update_pending),
    }
    if agents.complete:
        found |= {
            ConditionType.AGENTS_CONNECTED: verdicts.judge_agents(agents.serving, agents.silent),
            ConditionType.TUNING_ACTIVE: verdicts.judge_tuning(spec, owner.generation, agents.serving, agents.silent),
            ConditionType.SLA_MET: verdicts.judge_sla(spec.sla, sla, measured.window.requests, measured.busy),
            ConditionType.SLA_FEASIBLE: verdicts.judge_feasible(agents.serving),
            ConditionType.SATURATED: verdicts.judge_saturated(agents.serving),
            ConditionType.GPU_TELEMETRY_AVAILABLE: verdicts.judge_gpu(agents.serving),
        }
    found[ConditionType.READY] = derive_ready(found)
    live = [pod for pod in observation.pods if not pod.terminating]
    certain = {
        "conditions": set_conditions(previous.conditions, found, owner.generation, now),
        "observed_generation": owner.generation,
        "replicas": len(live),
        "ready_replicas": sum(pod.ready for pod in live),
        "selector": ",".join(f"{key}={value}" for key, value in selector(owner.name).items()),
        "url": service_url(owner),
    }
    if not agents.complete:
        return previous.model_copy(update=certain)
    return LLMServingStatus.model_validate(
        {
            **certain,
            "sla": sla,
            "batching": _batching(spec, agents.running),
            "engines": engine_statuses(agents.running, agents.silent),
            "kv_usage": _fullest(agents.running),
        }
    )


def _fullest(agents: Mapping[str, AgentStatus]) -> str | None:
    usage = [engine.kv_usage_ratio for agent in agents.values() for engine in agent.engines]
    known = [ratio for ratio in usage if ratio is not None]
    return f"{100 * max(known):.0f}%" if known else None


def _batching(spec: LLMServingSpec, agents: Mapping[str, AgentStatus]) -> BatchingStatus:
    applied = [e.applied for agent in agents.values() for e in agent.engines if e.applied is not None]
    newest = decisions(agents)
    seqs = bounds_range([bounds.max_num_seqs for bounds in applied])
    tokens = bounds_range([bounds.max_num_batched_tokens for bounds in applied])
    return BatchingStatus(
        bounds=f"{seqs} / {tokens}" if applied else None,
        max_num_seqs=seqs,
        max_num_batched_tokens=tokens,
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
