"""Condition types and reasons of an LLMServing's status: one list, used by operator, tests, docs and alerts."""

from enum import StrEnum


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


class DecisionReason(StrEnum):
    """Why the agent moved, or kept, the bounds; the reason in status, events, metrics and logs."""

    ITL_HIGH = "ITLHigh"
    TTFT_HIGH = "TTFTHigh"
    MEMORY_HIGH = "MemoryHigh"
    HEADROOM = "Headroom"
    WITHIN_BAND = "WithinBand"
    AT_LIMIT = "AtLimit"
    NOT_BINDING = "NotBinding"
    SATURATED = "Saturated"
    IDLE = "Idle"
    TOO_FEW_SAMPLES = "TooFewSamples"
    TELEMETRY_STALE = "TelemetryStale"
    ENGINE_UNREACHABLE = "EngineUnreachable"
    CONTRACT_FAILED = "ContractFailed"
    DRAINING = "Draining"
    STATIC = "Static"
    LIMITS_CHANGED = "LimitsChanged"
    MODE_ADVISE = "ModeAdvise"
    MODE_OFF = "ModeOff"
    NO_POLICY = "NoPolicy"
    REFUSED = "Refused"
