"""What is said under each condition, from an observation. Pure; one function for each condition."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from llmserving_api.conditions import ConditionReason, unsupported_reason
from llmserving_api.control import ContractMode
from llmserving_api.policy import LawName, Mode
from llmserving_api.status import AgentStatus
from llmserving_api.v1alpha1 import LLMServingSpec
from llmserving_api.v1alpha1.spec import SLA, LatencyTarget
from llmserving_api.v1alpha1.status import SLAStatus, TargetStatus
from llmserving_operator.children.identity import ChildKey, Manifest
from llmserving_operator.conditions import Verdict
from llmserving_operator.errors import KubeError, RefusedError, RejectedError
from llmserving_operator.observe import Pod

NAMED_AT_MOST = 3
NO_ENGINES: Final = Verdict(None, ConditionReason.NO_ENGINES, "no engine is ready yet")


def counted(number: int, noun: str) -> str:
    """``1 pod``, ``2 pods``."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def judge_acceptance(refusal: RefusedError | None, failures: Sequence[KubeError]) -> Verdict:
    """``Accepted``: the resource was understood, and the API server took every object made of it."""
    if refusal is not None:
        return Verdict(False, refusal.reason, str(refusal))
    rejected = [str(failure) for failure in failures if isinstance(failure, RejectedError)]
    if rejected:
        return Verdict(False, ConditionReason.REJECTED_BY_API_SERVER, "; ".join(rejected))
    return Verdict(True, ConditionReason.ACCEPTED)


def judge_conflict(foreign: Mapping[ChildKey, str]) -> Verdict:
    """``Conflict``: an object in the place of a child belongs to somebody else; it is left as it is."""
    if not foreign:
        return Verdict(False, ConditionReason.NO_CONFLICT)
    taken = "; ".join(f"{key.kind} {key.name} exists, {owner}" for key, owner in sorted(foreign.items()))
    advice = "delete or rename what is there, or give this LLMServing another name"
    return Verdict(True, ConditionReason.NAME_TAKEN, f"{taken}: {advice}")


def judge_engines(spec: LLMServingSpec, pods: Iterable[Pod]) -> Verdict:
    """``EnginesAvailable``: as many engines answer as the rollout promises, at least one."""
    live = [pod for pod in pods if not pod.terminating]
    ready = sum(pod.ready for pod in live)
    words = f"{ready} of {counted(spec.replicas, 'engine')} ready"
    if ready >= spec.replicas:
        return Verdict(True, ConditionReason.ALL_READY, words)
    trouble = next((pod for pod in live if pod.trouble is not None and not pod.ready), None)
    reason: str = ConditionReason.STARTING
    if trouble is not None and trouble.trouble is not None:
        reason = trouble.trouble.reason
        words = f"{words}; pod {trouble.name}: {trouble.trouble.message}"
    if ready >= max(1, spec.replicas - spec.rollout.max_unavailable):
        return Verdict(True, ConditionReason.ENOUGH_READY if trouble is None else reason, words)
    return Verdict(False, reason, words)


def judge_progress(deployment: Manifest | None, spec: LLMServingSpec) -> Verdict:
    """``Progressing``: pods are being created, replaced or removed."""
    if spec.paused:
        return Verdict(False, ConditionReason.PAUSED, "spec.paused is true: nothing is changed")
    if deployment is None:
        return Verdict(True, ConditionReason.CREATING, "the Deployment is not there yet")
    replicas = spec.replicas
    status = deployment.get("status", {})
    for condition in status.get("conditions", ()):
        if condition["type"] == "Progressing" and condition.get("reason") == "ProgressDeadlineExceeded":
            return Verdict(False, ConditionReason.DEADLINE_EXCEEDED, condition.get("message", ""))
    updated, total = status.get("updatedReplicas", 0), status.get("replicas", 0)
    seen = status.get("observedGeneration", 0) >= deployment["metadata"].get("generation", 0)
    if not seen or updated < min(total, replicas) or total > max(updated, replicas):
        return Verdict(True, ConditionReason.ROLLING_OUT, f"{updated} of {counted(replicas, 'engine')} up to date")
    if total != replicas or status.get("availableReplicas", 0) < replicas:
        available = status.get("availableReplicas", 0)
        return Verdict(True, ConditionReason.SCALING, f"{available} of {counted(replicas, 'engine')} available")
    return Verdict(False, ConditionReason.COMPLETE)


def judge_agents(agents: Mapping[str, AgentStatus], silent: Mapping[str, str]) -> Verdict:
    """``AgentsConnected``: every running pod's agent answers."""
    if not agents and not silent:
        return NO_ENGINES
    if silent:
        words = "; ".join(f"pod {pod}: {why}" for pod, why in _some(silent))
        missing = f"no answer from {len(silent)} of {counted(len(agents) + len(silent), 'agent')}"
        return Verdict(False, ConditionReason.AGENT_UNREACHABLE, f"{missing}: {words}")
    return Verdict(True, ConditionReason.ALL_CONNECTED, f"answers from {counted(len(agents), 'agent')}")


def judge_tuning(
    spec: LLMServingSpec, generation: int, agents: Mapping[str, AgentStatus], silent: Mapping[str, str]
) -> Verdict:
    """``TuningActive``: decisions are carried out in every engine; otherwise the first reason why not."""
    if spec.batching.mode is Mode.OFF:
        return Verdict(False, ConditionReason.MODE_OFF, "spec.batching.mode is Off: engines keep their fallback bounds")
    if not agents and not silent:
        return NO_ENGINES
    for pod in sorted(agents.keys() | silent.keys()):
        obstacle = (
            _agent_obstacle(agents[pod])
            if pod in agents
            else Verdict(False, ConditionReason.AGENT_UNREACHABLE, silent[pod])
        )
        if obstacle is not None:
            return Verdict(obstacle.status, obstacle.reason, f"pod {pod}: {obstacle.message}")
    late = sorted(pod for pod, agent in agents.items() if (agent.policy_revision or 0) < generation)
    if late and not spec.paused:  # then nothing is on its way
        return Verdict(None, ConditionReason.POLICY_ON_ITS_WAY, f"pod {late[0]} has not taken the last edit yet")
    return _by_policy(spec, agents)


def _agent_obstacle(agent: AgentStatus) -> Verdict | None:
    """Why an agent cannot tune."""
    if agent.policy_error:
        return Verdict(False, ConditionReason.POLICY_REFUSED, agent.policy_error)
    if not agent.engines:
        return Verdict(False, ConditionReason.ENGINE_UNREACHABLE, "no engine has opened its socket")
    for engine in agent.engines:
        where = f"rank {engine.rank}"
        if not engine.reachable:
            return Verdict(False, ConditionReason.ENGINE_UNREACHABLE, f"{where}: {engine.message}")
        contract = engine.contract
        if engine.facts is not None and engine.facts.unsupported and (contract is None or contract.ok):
            words = f"{where}: advice only with {', '.join(engine.facts.unsupported)}"
            return Verdict(False, unsupported_reason(engine.facts.unsupported[0]), words)
        if contract is not None and contract.mode is ContractMode.OBSERVE:
            return Verdict(False, ConditionReason.ENGINE_UNSUPPORTED, f"{where}: {contract.reason}")
    return None


def _by_policy(spec: LLMServingSpec, agents: Mapping[str, AgentStatus]) -> Verdict:
    """What is said where nothing is in the way of tuning."""
    if spec.batching.mode is Mode.ADVISE:
        return Verdict(False, ConditionReason.MODE_ADVISE, "spec.batching.mode is Advise: decisions are only published")
    if spec.batching.policy is LawName.STATIC:
        return Verdict(False, ConditionReason.POLICY_STATIC, "spec.batching.policy is Static: bounds stay as they are")
    contracts = [engine.contract for agent in agents.values() for engine in agent.engines]
    capped = [contract for contract in contracts if contract is not None and contract.mode is ContractMode.CAPS]
    if capped:
        return Verdict(True, ConditionReason.CAPS_ONLY, capped[0].reason)
    return Verdict(True, ConditionReason.TUNING, f"{spec.batching.policy} tunes {counted(len(agents), 'pod')}")


def judge_sla(targets: SLA, sla: SLAStatus, requests: int, busy: bool) -> Verdict:
    """``SLAMet``: each target at its percentile, over all pods."""
    found = (
        _judge_target("timeToFirstToken", targets.time_to_first_token, sla.time_to_first_token),
        _judge_target("interTokenLatency", targets.inter_token_latency, sla.inter_token_latency),
        _judge_target("endToEndLatency", targets.end_to_end_latency, sla.end_to_end_latency),
    )
    wanted = [one for one in found if one is not None]
    if not wanted:
        return Verdict(None, ConditionReason.NO_TARGETS, "spec.sla names no target")
    missed = [words for is_met, words in wanted if is_met is False]
    if missed:
        return Verdict(False, ConditionReason.TARGET_MISSED, "; ".join(missed))
    met = [words for is_met, words in wanted if is_met]
    if met:
        return Verdict(True, ConditionReason.TARGETS_MET, "; ".join(met))
    if requests or busy:
        return Verdict(None, ConditionReason.MEASURING, "the first requests are under way")
    return Verdict(None, ConditionReason.NO_TRAFFIC, "nothing arrived, waited or ran within the window")


def _judge_target(
    name: str, target: LatencyTarget | None, found: TargetStatus | None
) -> tuple[bool | None, str] | None:
    """Whether a target is met, and how that is said; None where there is no such target."""
    if target is None or found is None:
        return None
    return found.met, f"{name} {found.observed} at p{target.percentile}, target {found.target}"


def judge_feasible(agents: Mapping[str, AgentStatus]) -> Verdict:
    """``SLAFeasible``: false when even an idle engine would miss a target."""
    known = {
        f"pod {pod}, rank {engine.rank}": engine.sla_feasible
        for pod, agent in sorted(agents.items())
        for engine in agent.engines
        if engine.sla_feasible is not None
    }
    not_feasible = [where for where, feasible in known.items() if not feasible]
    if not_feasible:
        words = "even without load a target is out of reach: loosen it or use a faster card or a smaller model"
        return Verdict(False, ConditionReason.INFEASIBLE, f"{not_feasible[0]}: {words}")
    if not known:
        return Verdict(None, ConditionReason.NOT_KNOWN, "too few steps were seen to tell")
    return Verdict(True, ConditionReason.FEASIBLE)


def judge_saturated(agents: Mapping[str, AgentStatus]) -> Verdict:
    """``Saturated``: targets are missed and no bound can help."""
    engines = [(pod, engine) for pod, agent in sorted(agents.items()) for engine in agent.engines if engine.reachable]
    if not engines:
        return Verdict(None, ConditionReason.NOT_KNOWN, "no engine can be asked")
    full = [f"{pod}/{engine.rank}" for pod, engine in engines if engine.saturated]
    if full:
        where = f"{len(full)} of {counted(len(engines), 'engine')} ({', '.join(full[:NAMED_AT_MOST])})"
        words = f"{where}: a target is missed and no bound can help; add replicas or loosen a target"
        return Verdict(True, ConditionReason.MORE_REPLICAS_NEEDED, words)
    return Verdict(False, ConditionReason.HEADROOM)


def judge_gpu(agents: Mapping[str, AgentStatus]) -> Verdict:
    """``GPUTelemetryAvailable``: agents see the device's memory, by NVML or through the engine."""
    if not agents:
        return NO_ENGINES
    for pod, agent in sorted(agents.items()):
        if agent.gpu.source not in ("nvml", "relay"):
            return Verdict(False, ConditionReason.NO_SOURCE, f"pod {pod}: {agent.gpu.reason}")
    relayed = any(agent.gpu.source == "relay" for agent in agents.values())
    return Verdict(True, ConditionReason.RELAY if relayed else ConditionReason.NVML)


def judge_update(pending: bool) -> Verdict:
    """``UpdatePending``: this operator would render another pod; it waits for the next restart."""
    if not pending:
        return Verdict(False, ConditionReason.UP_TO_DATE)
    words = (
        "a newer agent or pod layout waits for the next restart; spec.rollout.sidecarUpgrade: Rolling rolls it out now"
    )
    return Verdict(True, ConditionReason.WAITS_FOR_RESTART, words)


def _some(silent: Mapping[str, str]) -> list[tuple[str, str]]:
    return sorted(silent.items())[:NAMED_AT_MOST]
