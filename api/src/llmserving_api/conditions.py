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


REASON_MEANINGS: Final[Mapping[ConditionReason, str]] = {
    ConditionReason.SERVING: "Requests are served.",
    ConditionReason.ACCEPTED: "The spec was understood, and the API server took every object made of it.",
    ConditionReason.INVALID_SPEC: "A field of the spec has a value that this operator does not take; the message names it.",
    ConditionReason.TEMPLATE_REFUSED: "`spec.template` asks for what the operator's `templatePolicy` forbids, or is no pod.",
    ConditionReason.REJECTED_BY_API_SERVER: "The API server, a quota or a webhook refused an object; its words are the message.",
    ConditionReason.NAME_TAKEN: "An object of somebody else has the name of a child; it is left as it is.",
    ConditionReason.NO_CONFLICT: "Every child's name is free or its own.",
    ConditionReason.UP_TO_DATE: "This operator would render the same pods.",
    ConditionReason.WAITS_FOR_RESTART: "A newer agent, plug-in or pod layout waits for the next restart.",
    ConditionReason.CREATING: "The Deployment is not there yet.",
    ConditionReason.ROLLING_OUT: "Pods are being replaced.",
    ConditionReason.SCALING: "Pods are being added or removed, or are not available yet.",
    ConditionReason.COMPLETE: "Every engine is up to date and available.",
    ConditionReason.DEADLINE_EXCEEDED: "The roll-out makes no progress within the Deployment's deadline.",
    ConditionReason.PAUSED: "`spec.paused` is true: nothing is changed.",
    ConditionReason.ALL_READY: "All engines are ready.",
    ConditionReason.ENOUGH_READY: "As many are ready as the roll-out promises, not all.",
    ConditionReason.STARTING: "Engines are starting: images, weights and kernels take their time.",
    ConditionReason.UNSCHEDULABLE: "No node fits a pod: no free GPU, most often.",
    ConditionReason.IMAGE_PULL_FAILED: "An image cannot be pulled: its name, or the pull secret.",
    ConditionReason.CONTAINER_CONFIG_WRONG: "A container cannot be made: a Secret or ConfigMap that it names is missing.",
    ConditionReason.CRASH_LOOPING: "A container ends again and again; the message has its last words.",
    ConditionReason.NO_ENGINES: "No engine is ready yet.",
    ConditionReason.ALL_CONNECTED: "The agent of every ready pod answers.",
    ConditionReason.AGENT_UNREACHABLE: "An agent does not answer the operator; its engine serves on.",
    ConditionReason.ENGINE_UNREACHABLE: "An agent does not reach its engine's control socket.",
    ConditionReason.TUNING: "The policy moves the bounds of every engine.",
    ConditionReason.CAPS_ONLY: "On this vLLM version only the two bounds are moved, nothing within steps.",
    ConditionReason.MODE_ADVISE: "`spec.batching.mode` is Advise: decisions are published, not carried out.",
    ConditionReason.MODE_OFF: "`spec.batching.mode` is Off: engines keep their fallback bounds.",
    ConditionReason.POLICY_STATIC: "`spec.batching.policy` is Static: bounds stay as they are.",
    ConditionReason.POLICY_REFUSED: "An agent did not take the policy document, one of another version perhaps; it keeps the last.",
    ConditionReason.POLICY_ON_ITS_WAY: "An agent has not taken the last edit yet.",
    ConditionReason.ENGINE_UNSUPPORTED: "The plug-in does not know this vLLM's scheduler and only observes.",
    ConditionReason.NVML: "The agent sees the device itself.",
    ConditionReason.RELAY: "The agent sees the device through the engine's container.",
    ConditionReason.NO_SOURCE: "Neither shows the device: memory is no reason for any decision.",
    ConditionReason.NO_TARGETS: "`spec.sla` names no target.",
    ConditionReason.NO_TRAFFIC: "Nothing arrived, waited or ran within the window.",
    ConditionReason.MEASURING: "The first requests are under way.",
    ConditionReason.TARGETS_MET: "Every target with data holds at its percentile.",
    ConditionReason.TARGET_MISSED: "More requests or gaps than the percentile allows missed a target; failed ones are among them.",
    ConditionReason.FEASIBLE: "An idle engine would keep every target.",
    ConditionReason.INFEASIBLE: "Even an idle engine would miss a target: loosen it, or use a faster card or a smaller model.",
    ConditionReason.NOT_KNOWN: "Too little was seen to tell.",
    ConditionReason.MORE_REPLICAS_NEEDED: "A target is missed and no bound can help.",
    ConditionReason.HEADROOM: "No engine needs help from more replicas.",
}
"""What a reason says, for people; all but ``Unsupported<Feature>``."""
UNSUPPORTED_MEANING: Final = (
    "Under this feature of the engine the agent only advises: it was not tested on real hardware."
)


def unsupported_reason(feature: str) -> str:
    """Reason of ``TuningActive=False`` for a feature of the engine under which only advice is given."""
    return f"Unsupported{feature}"
