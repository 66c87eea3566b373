"""One picture from the agents of all pods: counts are added, percentiles are never averaged."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from llmserving_api.control import Bounds
from llmserving_api.latency import Counts, value_seconds
from llmserving_api.misses import LatencyName, judge, merge_windows
from llmserving_api.status import AgentStatus, DecisionRecord, LatencyWindow
from llmserving_api.status import EngineStatus as AgentEngineStatus
from llmserving_api.v1alpha1.fields import duration_seconds
from llmserving_api.v1alpha1.spec import SLA, LatencyTarget
from llmserving_api.v1alpha1.status import BoundsStatus, DecisionStatus, EngineStatus, SLAStatus, TargetStatus

MAX_ENGINES = 32
MAX_HISTORY = 10
MESSAGE_LENGTH = 1000


@dataclass(frozen=True, slots=True)
class Measured:
    """What the agents of all pods measured."""

    window: LatencyWindow
    """Of the SLA, over all pods."""
    busy: bool
    """Something is running or waiting now."""


def measure(agents: Iterable[AgentStatus]) -> Measured:
    """Merge what the agents measured."""
    known = list(agents)
    return Measured(
        window=merge_windows(agent.latency for agent in known if agent.latency is not None),
        busy=any(engine.running or engine.waiting for agent in known for engine in agent.engines),
    )


def judge_targets(sla: SLA, window: LatencyWindow) -> SLAStatus:
    """Targets beside what is observed; a target without data is neither met nor missed."""
    arrived = window.requests + max(window.overdue_waiting, window.overdue_e2e)
    return SLAStatus(
        time_to_first_token=_judge(sla.time_to_first_token, window, "ttft"),
        inter_token_latency=_judge(sla.inter_token_latency, window, "itl"),
        end_to_end_latency=_judge(sla.end_to_end_latency, window, "e2e"),
        attainment=f"{100 * window.good / arrived:.1f}%" if arrived else None,
    )


def _judge(target: LatencyTarget | None, window: LatencyWindow, metric: LatencyName) -> TargetStatus | None:
    if target is None:
        return None
    limit = duration_seconds(target.target)
    judged = judge(window, metric, limit)
    met = judged.is_met(target.percentile)
    if met is None:
        return TargetStatus(target=target.target)
    seconds = _at_rank(getattr(window, metric), max(1, math.ceil(target.percentile * judged.total / 100)))
    if met:  # a bucket is as wide as 4 %: what it stands for may lie beyond a target within it
        observed = format_duration(limit if seconds is None else min(seconds, limit))
    else:  # the one at the rank still waits, or failed
        observed = f">{target.target}" if seconds is None or seconds <= limit else format_duration(seconds)
    return TargetStatus(observed=observed, target=target.target, met=met)


def _at_rank(counts: Counts, rank: int) -> float | None:
    """The latency of the ``rank``-th fastest in seconds; None when it is one of those that have none."""
    seen = 0
    for bucket in sorted(counts):
        seen += counts[bucket]
        if seen >= rank:
            return value_seconds(bucket)
    return None


def format_duration(seconds: float) -> str:
    """A latency with two significant digits: ``48ms``, ``1.2s``; small changes are not worth a write."""
    rounded = float(f"{seconds:.2g}")
    if rounded < 1:
        return f"{rounded * 1000:.10g}ms"
    return f"{rounded:.10g}s"


def engine_statuses(agents: Mapping[str, AgentStatus], silent: Mapping[str, str]) -> tuple[EngineStatus, ...]:
    """One entry for each engine rank, those in trouble first where there are too many.

    Args:
        agents: status by pod name.
        silent: pods whose agent does not answer, and why.
    """
    entries = [
        EngineStatus(pod=pod, rank=0, reachable=False, message=why[:MESSAGE_LENGTH]) for pod, why in silent.items()
    ]
    entries += [_engine(pod, agent, engine) for pod, agent in agents.items() for engine in agent.engines]
    chosen = sorted(entries, key=lambda entry: (entry.reachable, entry.pod, entry.rank))[:MAX_ENGINES]
    return tuple(sorted(chosen, key=lambda entry: (entry.pod, entry.rank)))


def _engine(pod: str, agent: AgentStatus, engine: AgentEngineStatus) -> EngineStatus:
    return EngineStatus(
        pod=pod,
        rank=engine.rank,
        reachable=engine.reachable,
        message=engine.message[:MESSAGE_LENGTH],
        requested=_bounds(engine.requested),
        applied=_bounds(engine.applied),
        effective=_bounds(engine.effective),
        policy_revision=agent.policy_revision,
    )


def decisions(agents: Mapping[str, AgentStatus]) -> list[DecisionStatus]:
    """Decisions of all agents, newest first."""
    found = [
        _decision(f"{pod}/{engine.rank}", engine.last_decision)
        for pod, agent in agents.items()
        for engine in agent.engines
        if engine.last_decision is not None
    ]
    return sorted(found, key=lambda decision: decision.time, reverse=True)


def history(agents: Mapping[str, AgentStatus]) -> tuple[DecisionStatus, ...]:
    """Decisions that moved bounds, newest first."""
    found = [
        _decision(pod, record)
        for pod, agent in agents.items()
        for record in agent.decisions
        if record.acted and record.before != record.after
    ]
    return tuple(sorted(found, key=lambda decision: decision.time, reverse=True)[:MAX_HISTORY])


def bounds_range(values: Sequence[int]) -> str | None:
    """A bound over all engines: one number, or a range where they differ."""
    if not values:
        return None
    low, high = min(values), max(values)
    return str(low) if low == high else f"{low}-{high}"


def _decision(engine: str, record: DecisionRecord) -> DecisionStatus:
    return DecisionStatus(
        time=record.time,
        engine=engine,
        reason=record.reason,
        message=record.message[:MESSAGE_LENGTH],
        before=_bounds(record.before),
        after=BoundsStatus(
            max_num_seqs=record.after.max_num_seqs, max_num_batched_tokens=record.after.max_num_batched_tokens
        ),
    )


def _bounds(bounds: Bounds | None) -> BoundsStatus | None:
    if bounds is None:
        return None
    return BoundsStatus(max_num_seqs=bounds.max_num_seqs, max_num_batched_tokens=bounds.max_num_batched_tokens)
