"""The agent's ``GET /v1/status``: what the operator merges into the resource's status.

Latencies travel as bucket counts (``llmserving_api.latency``), so that the operator adds counts of pods and never
averages percentiles.
"""

from typing import Final

from pydantic import BaseModel, ConfigDict

from llmserving_api.conditions import DecisionReason
from llmserving_api.control import Bounds, Contract, DeviceMemory, Drain, EngineFacts
from llmserving_api.policy import LawName, Mode

PATH_STATUS: Final = "/v1/status"


class _Answer(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)


class LatencyWindow(_Answer):
    """Latencies of the SLA window at the pod's HTTP boundary; bucket index (as text, JSON keys) to count."""

    window_seconds: float
    ttft: dict[int, int] = {}
    itl: dict[int, int] = {}
    e2e: dict[int, int] = {}
    requests: int = 0
    good: int = 0
    failed: int = 0
    """Among ``requests``: the engine failed them; each is a miss of every target."""
    failed_unstarted: int | None = None
    """Among ``failed``: before their first token, so that ``ttft`` lacks them; null: all of them, from an earlier agent."""
    failed_late: int = 0
    """Among ``failed``: after a first token beyond its target, which is a miss in ``ttft`` already."""
    overdue_waiting: int = 0
    """Waiting now for longer than the TTFT target: each counts as a miss of it."""
    overdue_e2e: int = 0
    """Waiting now for longer than the end-to-end target: each counts as a miss of it."""


class DecisionRecord(_Answer):
    """One decision of the loop, kept for people."""

    time: str
    """RFC 3339, UTC."""
    law: LawName
    reason: DecisionReason
    message: str
    before: Bounds | None
    after: Bounds
    acted: bool
    """False in mode Advise, or when the engine refused."""


class EngineStatus(_Answer):
    """One engine rank as its agent sees it."""

    rank: int
    reachable: bool
    message: str = ""
    facts: EngineFacts | None = None
    contract: Contract | None = None
    ceilings: Bounds | None = None
    requested: Bounds | None = None
    applied: Bounds | None = None
    effective: Bounds | None = None
    drain: Drain | None = None
    telemetry_age_seconds: float | None = None
    running: int = 0
    waiting: int = 0
    kv_usage_ratio: float | None = None
    saturated: bool = False
    """Targets are missed and no bound can be moved to help: more replicas are needed."""
    sla_feasible: bool | None = None
    """False when even an otherwise idle engine would miss a target; null when nothing is known."""
    last_decision: DecisionRecord | None = None


class GPUSource(_Answer):
    """Where GPU facts come from: ``nvml``, ``relay`` or ``none``, and why."""

    source: str
    reason: str = ""
    devices: tuple[DeviceMemory, ...] = ()


class AgentStatus(_Answer):
    """The whole document of one pod."""

    agent_version: str
    policy_revision: int | None
    """Revision that every reachable engine has confirmed; null before that."""
    policy_seen_revision: int | None = None
    """Revision read from the policy files; ahead of ``policy_revision`` while an engine has not confirmed it."""
    policy_error: str = ""
    """Why the newest document was not taken; the agent goes on with the last good one."""
    mode: Mode | None
    law: LawName | None
    engines: tuple[EngineStatus, ...]
    latency: LatencyWindow | None
    front_end_seconds: float = 0.0
    """The front end's share, in ``latency`` and deducted from what the scheduler is given."""
    gpu: GPUSource
    decisions: tuple[DecisionRecord, ...] = ()
    """Newest first, at most ten."""
