"""Every Prometheus series the project exports, defined once: exporters, dashboards, rules and docs read it here."""

from dataclasses import dataclass
from typing import Final, Literal


@dataclass(frozen=True, slots=True)
class Series:
    """A metric: its name, kind, help text and labels beside the ones Prometheus adds for the target."""

    name: str
    kind: Literal["gauge", "counter", "histogram", "info"]
    help: str
    labels: tuple[str, ...] = ()


_ENGINE = ("namespace", "name", "engine")

SLA_TARGET: Final = Series(
    "llmserving_agent_sla_target_seconds",
    "gauge",
    "Target of the resource; labels: metric (ttft, itl, e2e), percentile.",
    ("namespace", "name", "metric", "percentile"),
)
LATENCY_OBSERVED: Final = Series(
    "llmserving_agent_latency_seconds",
    "gauge",
    "Observed latency over the SLA window at a percentile; labels: metric, percentile (50, 95, 99 and the target's).",
    (*_ENGINE, "metric", "percentile"),
)
MISSES: Final = Series(
    "llmserving_agent_sla_misses",
    "gauge",
    "Requests (ttft, e2e) or gaps (itl) of the SLA window that missed the target, failed and overdue ones among them; "
    "labels: metric, percentile.",
    (*_ENGINE, "metric", "percentile"),
)
MISSES_ALLOWED: Final = Series(
    "llmserving_agent_sla_misses_allowed",
    "gauge",
    "How many may miss it: 100 less the percentile, in percent of those that count. Where the sum over all engines of "
    "the misses is above that of these, SLAMet is False.",
    (*_ENGINE, "metric", "percentile"),
)
ATTAINMENT: Final = Series(
    "llmserving_agent_attainment_ratio",
    "gauge",
    "Share of good requests among those of the SLA window, batch requests left out.",
    _ENGINE,
)
CLASS_ATTAINMENT: Final = Series(
    "llmserving_agent_class_attainment_ratio",
    "gauge",
    "Share of good requests of one class in the SLA window; label class: interactive, batch (by the same targets).",
    (*_ENGINE, "class"),
)
REQUESTS: Final = Series(
    "llmserving_agent_requests_total",
    "counter",
    "Requests that left the engine, batch requests left out; label result: good, missed, failed, aborted.",
    (*_ENGINE, "result"),
)
CLASS_REQUESTS: Final = Series(
    "llmserving_agent_class_requests_total",
    "counter",
    "Requests that left the engine; labels: class (interactive, batch, unknown: served as interactive), result.",
    (*_ENGINE, "class", "result"),
)
BOUND_REQUESTED: Final = Series(
    "llmserving_agent_bound_requested",
    "gauge",
    "Bound asked of the engine; label bound: max_num_seqs, max_num_batched_tokens.",
    (*_ENGINE, "bound"),
)
BOUND_APPLIED: Final = Series(
    "llmserving_agent_bound_applied", "gauge", "Bound set in the scheduler; label bound.", (*_ENGINE, "bound")
)
BOUND_EFFECTIVE: Final = Series(
    "llmserving_agent_bound_effective",
    "gauge",
    "Bound that a step has been seen to keep; label bound.",
    (*_ENGINE, "bound"),
)
BOUND_LIMIT: Final = Series(
    "llmserving_agent_bound_limit",
    "gauge",
    "Limits of the resource within the engine's ceilings; labels: bound, limit (min, max).",
    ("namespace", "name", "bound", "limit"),
)
DECISIONS: Final = Series(
    "llmserving_agent_decisions_total",
    "counter",
    "Decisions; labels: law, reason, acted.",
    (*_ENGINE, "law", "reason", "acted"),
)
TICK_SECONDS: Final = Series(
    "llmserving_agent_tick_seconds",
    "histogram",
    "Time of one pass of the loop by step; label step.",
    ("step",),
)
TELEMETRY_AGE: Final = Series(
    "llmserving_agent_telemetry_age_seconds", "gauge", "Age of the newest telemetry record.", _ENGINE
)
TELEMETRY_DROPPED: Final = Series(
    "llmserving_agent_telemetry_dropped_total",
    "counter",
    "Telemetry records overwritten before they were read.",
    _ENGINE,
)
POLICY_REVISION: Final = Series(
    "llmserving_agent_policy_revision", "gauge", "Revision of the policy acted on.", ("namespace", "name")
)
POLICY_ERRORS: Final = Series(
    "llmserving_agent_policy_errors_total",
    "counter",
    "Policy documents that were refused.",
    ("namespace", "name"),
)
MODE: Final = Series(
    "llmserving_agent_mode",
    "gauge",
    "1 for the mode in force; label mode: Auto, Advise, Off.",
    ("namespace", "name", "mode"),
)
SATURATED: Final = Series(
    "llmserving_agent_saturated",
    "gauge",
    "1 when targets are missed and no bound can help: more replicas are needed.",
    _ENGINE,
)
GPU_SOURCE: Final = Series(
    "llmserving_agent_gpu_telemetry",
    "gauge",
    "1 for the source in use; label source: nvml, relay, none.",
    ("source",),
)
GPU_MEMORY: Final = Series(
    "llmserving_agent_gpu_memory_bytes",
    "gauge",
    "Device memory; labels: uuid, kind (total, used, free).",
    ("uuid", "kind"),
)
ENGINE_RUNNING: Final = Series("llmserving_engine_running_requests", "gauge", "Requests in the running batch.", _ENGINE)
ENGINE_WAITING: Final = Series(
    "llmserving_engine_waiting_requests", "gauge", "Requests waiting for admission.", _ENGINE
)
ENGINE_KV_USAGE: Final = Series("llmserving_engine_kv_usage_ratio", "gauge", "Used share of KV blocks.", _ENGINE)
ENGINE_STEPS: Final = Series("llmserving_engine_steps_total", "counter", "Engine steps.", _ENGINE)
ENGINE_STEP_SECONDS: Final = Series("llmserving_engine_step_seconds", "histogram", "Time of an engine step.", _ENGINE)
ENGINE_PREDICTED_SECONDS: Final = Series(
    "llmserving_engine_predicted_step_seconds",
    "histogram",
    "Time that the step-time model foresaw for an engine step; none without a model.",
    _ENGINE,
)
ENGINE_TRIM: Final = Series(
    "llmserving_engine_step_trim_ratio",
    "gauge",
    "Observed over predicted step time, smoothed; 1 without a model.",
    _ENGINE,
)
ENGINE_BUDGET_TOKENS: Final = Series(
    "llmserving_engine_step_budget_tokens_total",
    "counter",
    "Tokens that steps were granted; divided by the steps, the mean budget of a step.",
    _ENGINE,
)
ENGINE_HELD: Final = Series(
    "llmserving_engine_held_requests", "gauge", "Requests that the law holds back or has parked.", _ENGINE
)
ENGINE_RELEGATED: Final = Series(
    "llmserving_engine_relegated_requests_total",
    "counter",
    "Requests that left after being put behind others, because their TTFT could not be met.",
    _ENGINE,
)
ENGINE_PREEMPTIONS: Final = Series(
    "llmserving_engine_preemptions_total", "counter", "Running requests preempted for KV space.", _ENGINE
)
ENGINE_PREFILL_OPENED: Final = Series(
    "llmserving_engine_prefill_opened_total",
    "counter",
    "Times the token budget was opened because prefill made no progress.",
    _ENGINE,
)
ENGINE_CONTRACT: Final = Series(
    "llmserving_engine_contract",
    "gauge",
    "1 for what the plug-in can do on this vLLM; label mode: full, caps, observe.",
    (*_ENGINE, "mode"),
)
OPERATOR_RECONCILES: Final = Series(
    "llmserving_operator_reconciles_total",
    "counter",
    "Reconciles; label result: changed, unchanged, failed.",
    ("result",),
)
OPERATOR_RECONCILE_SECONDS: Final = Series(
    "llmserving_operator_reconcile_seconds",
    "histogram",
    "Time of one reconcile by step; label step.",
    ("step",),
)
OPERATOR_CONDITION: Final = Series(
    "llmserving_operator_condition",
    "gauge",
    "1 for the status a condition has; labels: type, status.",
    ("namespace", "name", "type", "status"),
)
OPERATOR_POLICY_DELIVERY_SECONDS: Final = Series(
    "llmserving_operator_policy_delivery_seconds",
    "histogram",
    "From seeing an edit to every agent of the resource reporting it.",
    (),
)

OPERATOR_NAMESPACE_FORBIDDEN: Final = Series(
    "llmserving_operator_namespace_forbidden",
    "gauge",
    "1 for a namespace of watchNamespaces that is left out because the operator may not read it.",
    ("namespace",),
)

ALL: Final[tuple[Series, ...]] = tuple(value for value in list(globals().values()) if isinstance(value, Series))
