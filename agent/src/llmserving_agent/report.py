"""What the agent says of itself: the document of ``GET /v1/status`` and the words of a decision. Pure."""

from datetime import UTC, datetime
from importlib.metadata import version

from llmserving_agent.engine import Engine, Taken
from llmserving_agent.loop import AgentLoop, Noted
from llmserving_agent.measurements import Measurements
from llmserving_agent.signals.attainment import shifted
from llmserving_api.control import Bounds
from llmserving_api.misses import merge_windows
from llmserving_api.policy import Policy
from llmserving_api.status import AgentStatus, DecisionRecord, EngineStatus, GPUSource, LatencyWindow

AGENT_VERSION = version("llmserving-agent")


def words(taken: Taken) -> str:
    """A decision in one line: its cause, then what it changed."""
    changes = []
    before, after = taken.before, taken.decision.bounds
    if before.max_num_batched_tokens != after.max_num_batched_tokens:
        changes.append(f"{before.max_num_batched_tokens} → {after.max_num_batched_tokens} tokens")
    if before.max_num_seqs != after.max_num_seqs:
        changes.append(f"{before.max_num_seqs} → {after.max_num_seqs} sequences")
    return f"{taken.decision.message}: {', '.join(changes)}" if changes else taken.decision.message


def build_status(loop: AgentLoop, now: float, wall_time: float) -> AgentStatus:
    """The document of the pod.

    Args:
        loop: The loop's state.
        now: The loop's time.
        wall_time: The same moment in seconds since 1970.
    """
    reading = loop.policy
    policy = reading.policy
    engines = tuple(_engine(engine, now, wall_time) for engine in loop.engines.values())
    return AgentStatus(
        agent_version=AGENT_VERSION,
        policy_revision=loop.confirmed_revision,
        policy_seen_revision=None if policy is None else policy.revision,
        policy_error=reading.error,
        mode=None if policy is None else policy.mode,
        law=None if policy is None else policy.law,
        engines=engines,
        latency=None if policy is None else _latency(loop, policy, now),
        front_end_seconds=loop.front_end.seconds,
        gpu=GPUSource(source=loop.gpu.source, reason=loop.gpu.reason, devices=loop.gpu.devices),
        decisions=tuple(_record(noted.taken, noted.wall_time) for noted in loop.history),
    )


def latency_window(measured: Measurements, share: float, seconds: float, now: float) -> LatencyWindow:
    """What one engine's requests met within the SLA window, at the pod's HTTP boundary.

    Args:
        measured: of the engine.
        share: The front end's, in seconds.
        seconds: Length of the window.
        now: The loop's time.
    """
    counts = measured.sla.total
    return LatencyWindow(
        window_seconds=seconds,
        ttft=shifted(counts.ttft, share),
        itl=dict(counts.itl),
        e2e=shifted(counts.e2e, share),
        requests=counts.requests,
        good=counts.good,
        failed=counts.failed,
        failed_unstarted=counts.failed_unstarted,
        failed_late=counts.failed_late,
        overdue_waiting=measured.overdue_waiting(now),
        overdue_e2e=measured.overdue_e2e(now),
    )


def _latency(loop: AgentLoop, policy: Policy, now: float) -> LatencyWindow:
    share, seconds = loop.front_end.seconds, policy.sla.window_seconds
    windows = [latency_window(engine.measured, share, seconds, now) for engine in loop.engines.values()]
    return merge_windows(windows or [LatencyWindow(window_seconds=seconds)])


def _engine(engine: Engine, now: float, wall_time: float) -> EngineStatus:
    config, step, taken = engine.config, engine.measured.last_step, engine.taken
    status = EngineStatus(
        rank=engine.rank,
        reachable=engine.reachable,
        message="; ".join(part for part in (engine.message, engine.measured.problem) if part),
        telemetry_age_seconds=None if step is None else max(0.0, now - step.completed_ns / 1e9),
        running=engine.running,
        waiting=0 if step is None else step.waiting,
        kv_usage_ratio=step.kv_blocks_used / step.kv_blocks_total
        if step is not None and step.kv_blocks_total
        else None,
        saturated=engine.is_saturated(now),
        sla_feasible=engine.measured.is_feasible,
        last_decision=None if taken is None else _record(taken, wall_time - (now - taken.at)),
    )
    if config is None:
        return status
    return status.model_copy(
        update={
            "facts": config.engine,
            "contract": config.contract,
            "ceilings": config.ceilings,
            "requested": config.requested,
            "applied": config.applied,
            "effective": config.effective,
            "drain": config.drain,
        }
    )


def _record(taken: Taken, wall_time: float) -> DecisionRecord:
    before: Bounds | None = taken.before
    return DecisionRecord(
        time=datetime.fromtimestamp(wall_time, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        law=taken.law,
        reason=taken.decision.reason,
        message=words(taken),
        before=before,
        after=taken.decision.bounds,
        acted=taken.acted,
    )


def note_fields(noted: Noted) -> dict[str, object]:
    """A decision as fields of a log line."""
    taken = noted.taken
    return {
        "engine": noted.rank,
        "law": taken.law.value,
        "reason": taken.decision.reason.value,
        "message": words(taken),
        "acted": taken.acted,
        "max_num_seqs": taken.decision.bounds.max_num_seqs,
        "max_num_batched_tokens": taken.decision.bounds.max_num_batched_tokens,
    }
