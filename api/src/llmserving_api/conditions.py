"""Condition types and reasons of an LLMServing's status: one list, used by operator, tests, docs and alerts."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Final


class ConditionType(StrEnum):
    """Conditions of ``status.conditions``; all are set on first sight, Unknown where nothing is known."""

    READY = "Ready"
    ACCEPTED = "Accepted"
    PROGRESSING = "Progressing"
    ENGINES_AVAILABLE = "EnginesAvailable"
    AGENTS_CONNECTED = "AgentsConnected"
    TUNING_ACTIVE = "TuningActive"
    SLA_MET = "SLAMet"
    SLA_FEASIBLE = "SLAFeasible"
    GPU_TELEMETRY_AVAILABLE = "GPUTelemetryAvailable"
    SATURATED = "Saturated"
    UPDATE_PENDING = "UpdatePending"
    CONFLICT = "Conflict"


CONDITION_MEANINGS: Final[Mapping[ConditionType, str]] = {
    ConditionType.READY: "Requests are served as asked for: the sum of Accepted, EnginesAvailable and Conflict.",
    ConditionType.ACCEPTED: "The operator understands the resource and can serve it.",
    ConditionType.PROGRESSING: "A roll-out or a change of replicas is under way.",
    ConditionType.ENGINES_AVAILABLE: "Enough engines are ready.",
    ConditionType.AGENTS_CONNECTED: "The agent of every ready pod answers.",
    ConditionType.TUNING_ACTIVE: "Decisions are carried out; the reason says why not: mode, policy, an unsupported feature.",
    ConditionType.SLA_MET: "Each target holds at its percentile over the window; Unknown without traffic.",
    ConditionType.SLA_FEASIBLE: "An otherwise idle engine would keep every target.",
    ConditionType.GPU_TELEMETRY_AVAILABLE: "Facts of the GPU are read, by the agent (NVML) or through the plug-in (Relay).",
    ConditionType.SATURATED: "Targets are missed and no bound is left to move: more replicas are needed.",
    ConditionType.UPDATE_PENDING: "Pods run an older agent or plug-in and take the new one at their next restart.",
    ConditionType.CONFLICT: "An object that the operator does not own has the name of a child.",
}
"""What True says; conditions are observations, not steps."""


class DecisionReason(StrEnum):
    """Why the agent moved, or kept, the bounds; the reason in status, events, metrics and logs."""

    ITL_HIGH = "ITLHigh"
    TTFT_HIGH = "TTFTHigh"
    MEMORY_HIGH = "MemoryHigh"
    HEADROOM = "Headroom"
    WITHIN_BAND = "WithinBand"
    AT_LIMIT = "AtLimit"
    NOT_BINDING = "NotBinding"
    FALLBACK = "Fallback"
    SATURATED = "Saturated"
    IDLE = "Idle"
    TOO_FEW_SAMPLES = "TooFewSamples"
    TELEMETRY_STALE = "TelemetryStale"
    ENGINE_UNREACHABLE = "EngineUnreachable"
    DRAINING = "Draining"
    STATIC = "Static"
    LIMITS_CHANGED = "LimitsChanged"
    MODE_OFF = "ModeOff"
    REFUSED = "Refused"


class ConditionReason(StrEnum):
    """Reasons of the conditions, beside ``Unsupported<Feature>`` of ``TuningActive`` (``unsupported_reason``)."""

    # Ready, Accepted, Conflict, UpdatePending, Progressing
    SERVING = "Serving"
    ACCEPTED = "Accepted"
    INVALID_SPEC = "InvalidSpec"
    TEMPLATE_REFUSED = "TemplateRefused"
    REJECTED_BY_API_SERVER = "RejectedByAPIServer"
    NAME_TAKEN = "NameTaken"
    NO_CONFLICT = "NoConflict"
    UP_TO_DATE = "UpToDate"
    WAITS_FOR_RESTART = "WaitsForRestart"
    CREATING = "Creating"
    ROLLING_OUT = "RollingOut"
    SCALING = "Scaling"
    COMPLETE = "Complete"
    DEADLINE_EXCEEDED = "DeadlineExceeded"
    PAUSED = "Paused"
    # EnginesAvailable
    ALL_READY = "AllReady"
    ENOUGH_READY = "EnoughReady"
    STARTING = "Starting"
    UNSCHEDULABLE = "Unschedulable"
    IMAGE_PULL_FAILED = "ImagePullFailed"
    CONTAINER_CONFIG_WRONG = "ContainerConfigWrong"
    CRASH_LOOPING = "CrashLooping"
    # AgentsConnected, TuningActive, GPUTelemetryAvailable
    NO_ENGINES = "NoEngines"
    ALL_CONNECTED = "AllConnected"
    AGENT_UNREACHABLE = "AgentUnreachable"
    ENGINE_UNREACHABLE = "EngineUnreachable"
    TUNING = "Tuning"
    CAPS_ONLY = "CapsOnly"
    MODE_ADVISE = "ModeAdvise"
    MODE_OFF = "ModeOff"
    POLICY_STATIC = "PolicyStatic"
    POLICY_REFUSED = "PolicyRefused"
    POLICY_ON_ITS_WAY = "PolicyOnItsWay"
    ENGINE_UNSUPPORTED = "EngineUnsupported"
    NVML = "NVML"
    RELAY = "Relay"
    NO_SOURCE = "NoSource"
    # SLAMet, SLAFeasible, Saturated
    NO_TARGETS = "NoTargets"
    NO_TRAFFIC = "NoTraffic"
    MEASURING = "Measuring"
    TARGETS_MET = "TargetsMet"
    TARGET_MISSED = "TargetMissed"
    FEASIBLE = "Feasible"
    INFEASIBLE = "Infeasible"
    NOT_KNOWN = "NotKnown"
    MORE_REPLICAS_NEEDED = "MoreReplicasNeeded"
    HEADROOM = "Headroom"


def unsupported_reason(feature: str) -> str:
    """Reason of ``TuningActive=False`` for a feature of the engine under which only advice is given."""
    return f"Unsupported{feature}"
