"""The board "Service": one LLMServing, its targets, what users got, the bounds and why they moved, on one time axis."""

import json
from typing import Any, Final

from grafana_foundation_sdk.builders import dashboard
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import dashboard as model

from llmserving_api import series
from llmserving_api.conditions import DecisionReason
from llmserving_dashboards import vllm_series as vllm
from llmserving_dashboards.panels import DATASOURCE, NO_DATA, Line, figure, plot
from llmserving_dashboards.promql import RATE, quantile, rate, ratio, select

UID: Final = "llmserving-service"
TARGET: Final = "target"
HOLDS: Final = (
    DecisionReason.WITHIN_BAND,
    DecisionReason.NOT_BINDING,
    DecisionReason.IDLE,
    DecisionReason.TOO_FEW_SAMPLES,
    DecisionReason.TELEMETRY_STALE,
    DecisionReason.ENGINE_UNREACHABLE,
    DecisionReason.CONTRACT_FAILED,
    DecisionReason.NO_POLICY,
    DecisionReason.REFUSED,
)
"""Reasons to leave the bounds as they are: no marks."""
_DECIDED: Final = select(series.DECISIONS, excluding={"reason": HOLDS}, acted="true")
_MOVED: Final = f"sum by (pod) (changes({select(series.BOUND_REQUESTED)}[{RATE}])) > 0"
ANNOTATIONS: Final = {
    "Decisions": (
        f"sum by (pod, law, reason) (increase({_DECIDED}[{RATE}])) > 0 and on (pod) ({_MOVED})",
        {"titleFormat": "{{reason}}", "textFormat": "{{law}} moved the bounds of {{pod}}", "tagKeys": "reason"},
        "blue",
    ),
    "Edits": (
        f"max(changes({select(series.POLICY_REVISION)}[{RATE}])) > 0",
        {"titleFormat": "Edit of the resource", "textFormat": "The agents act on a new policy revision", "tagKeys": ""},
        "orange",
    ),
}
"""Name to query, texts and colour."""


def _latency(metric: str, words: str, histogram: series.Series) -> Any:
    """Observed percentiles and target of one latency."""
    observed = f"max by (percentile) ({select(series.LATENCY_OBSERVED, metric=metric)})"
    target = f"max by (percentile) ({select(series.SLA_TARGET, metric=metric)})"
    return plot(
        words,
        f"{words} over the SLA window at the pod's HTTP boundary, the worst engine at each percentile, with the "
        "resource's target as a line; for comparison vLLM's own histogram over all engines. Where a percentile stays "
        "above its target, see the decisions below for the reason.",
        "s",
        [
            Line(observed, "p{{percentile}}"),
            Line(target, f"{TARGET} p{{{{percentile}}}}"),
            Line(quantile(0.95, histogram), "p95 of vLLM's histogram"),
        ],
        targets=f"^{TARGET}.*",
    )


def _bounds(bound: str, words: str, beside: list[Line]) -> Any:
    """Requested, applied and effective bounds inside their limits."""
    lines = [
        Line(f"min by (pod, engine) ({select(definition, bound=bound)})", f"{state} {{{{pod}}}}/{{{{engine}}}}")
        for state, definition in (
            ("requested", series.BOUND_REQUESTED),
            ("applied", series.BOUND_APPLIED),
            ("effective", series.BOUND_EFFECTIVE),
        )
    ]
    limits = Line(f"max by (limit) ({select(series.BOUND_LIMIT, bound=bound)})", "limit {{limit}}")
    return plot(
        words,
        f"Bound `{bound}`: requested by the agent, applied in the scheduler, effective once a step has kept it; a "
        "lowered bound drains, so effective follows later. The limits are the resource's.",
        "short",
        [*lines, limits, *beside],
        targets="^limit.*",
        absent=NO_DATA,
        stepped=True,
    )


def _figures() -> list[Any]:
    met = select(series.OPERATOR_CONDITION, type="SLAMet")
    good = f"sum({rate(series.REQUESTS, result='good')})"
    arrived = f"sum({rate(series.REQUESTS)})"
    return [
        figure(
            "SLA met",
            "Condition SLAMet of the resource: whether each target holds at its percentile over the SLA window; "
            "Unknown without traffic.",
            "none",
            f"max by (status) ({met}) == 1",
            legend="{{status}}",
            absent=NO_DATA,
        ),
        figure(
            "Attainment",
            "Share of good requests among all that arrived in the SLA window, the worst engine.",
            "percentunit",
            f"min({select(series.ATTAINMENT)})",
            steps=((None, "red"), (0.9, "orange"), (0.95, "green")),
            decimals=1,
        ),
        figure(
            "Requests",
            "Requests that left the engines, per second.",
            "reqps",
            arrived,
            decimals=2,
        ),
        figure(
            "Good requests",
            "Requests per second that met every target: what the service is worth.",
            "reqps",
            good,
            decimals=2,
        ),
        figure(
            "Tokens generated",
            "Tokens generated per second, all engines.",
            "suffix: tok/s",
            f"sum({rate(vllm.GENERATION_TOKENS)})",
            decimals=0,
        ),
        figure(
            "Mode",
            "Auto decides and acts, Advise decides and publishes, Off leaves the engines alone.",
            "none",
            f"max by (mode) ({select(series.MODE)}) == 1",
            legend="{{mode}}",
            absent=NO_DATA,
        ),
        figure(
            "Saturated engines",
            "Engines that miss a target with no bound left to move: more replicas are needed, or a looser target.",
            "short",
            f"sum({select(series.SATURATED)})",
            absent=NO_DATA,
            steps=((None, "green"), (1, "red")),
        ),
        figure(
            "Engines under control",
            "Engines whose scheduler the plug-in controls in full.",
            "short",
            f"sum({select(series.ENGINE_CONTRACT, mode='full')})",
            absent=NO_DATA,
            steps=((None, "red"), (1, "green")),
        ),
    ]


def _promises() -> list[Any]:
    return [
        _latency("ttft", "Time to first token", vllm.TIME_TO_FIRST_TOKEN),
        _latency("itl", "Inter-token latency", vllm.INTER_TOKEN_LATENCY),
        _latency("e2e", "End-to-end latency", vllm.END_TO_END),
        plot(
            "Attainment",
            "Share of good requests among all that arrived in the SLA window, each engine.",
            "percentunit",
            [Line(f"min by (pod, engine) ({select(series.ATTAINMENT)})", "{{pod}}/{{engine}}")],
            most=1,
        ),
    ]


def _batch() -> list[Any]:
    running = f"max by (pod, engine) ({select(series.ENGINE_RUNNING)})"
    waiting = f"max by (pod, engine) ({select(series.ENGINE_WAITING)})"
    return [
        _bounds("max_num_seqs", "Requests in a batch", [Line(running, "running {{pod}}/{{engine}}")]),
        _bounds("max_num_batched_tokens", "Tokens of a step", []),
        plot(
            "Running and waiting",
            "Requests in the batch and requests waiting for admission, each engine. A queue that grows while the "
            "sequence bound is at its limit asks for replicas.",
            "short",
            [Line(running, "running {{pod}}/{{engine}}"), Line(waiting, "waiting {{pod}}/{{engine}}")],
            absent=NO_DATA,
        ),
        plot(
            "KV cache and preemptions",
            "Used share of KV blocks, and preemptions per second: a preempted request is computed anew, so these cost "
            "time. Lower batching.maxNumSeqs.max, or choose the policy MemorySLA, where they persist.",
            "percentunit",
            [
                Line(f"max by (pod, engine) ({select(series.ENGINE_KV_USAGE)})", "KV {{pod}}/{{engine}}"),
                Line(f"sum({rate(series.ENGINE_PREEMPTIONS)})", "preemptions per second"),
            ],
            right=("^preemptions.*", "ops"),
            absent=NO_DATA,
        ),
    ]


def _why() -> list[Any]:
    hits = f"sum({rate(vllm.PREFIX_HITS)})"
    lookups = f"sum({rate(vllm.PREFIX_QUERIES)})"
    return [
        plot(
            "Decisions",
            "Decisions per minute by reason; those carried out are also marked on the plots above.",
            "cpm",
            [Line(f"60 * sum by (reason, acted) ({rate(series.DECISIONS)})", "{{reason}}, acted: {{acted}}")],
            absent=NO_DATA,
        ),
        plot(
            "Requests by result",
            "Requests that left the engines per second: good, missed a target, failed, aborted by the client.",
            "reqps",
            [Line(f"sum by (result) ({rate(series.REQUESTS)})", "{{result}}")],
        ),
        plot(
            "Step time",
            "Time of an engine step: the floor of the inter-token latency.",
            "s",
            [
                Line(quantile(share, series.ENGINE_STEP_SECONDS), f"p{round(share * 100)}")
                for share in (0.5, 0.95, 0.99)
            ],
        ),
        plot(
            "Queue time and prefix cache",
            "95th percentile of the time requests wait before they are scheduled, and the share of prompt tokens found "
            "in the prefix cache.",
            "s",
            [
                Line(quantile(0.95, vllm.QUEUE_TIME), "queue time p95"),
                Line(ratio(hits, lookups), "prefix cache hits"),
            ],
            right=("^prefix.*", "percentunit"),
        ),
        plot(
            "Device memory",
            "Memory of the GPUs as the driver reports it. vLLM takes its share at the start, so used memory is flat by "
            "design; free memory is what bounds the token budget.",
            "bytes",
            [Line(f"max by (pod, uuid, kind) ({select(series.GPU_MEMORY)})", "{{kind}} {{pod}} {{uuid}}")],
            absent=NO_DATA,
        ),
        plot(
            "Health of the control loop",
            "Age of the newest telemetry record (on old ones the agent holds still), and records lost before they "
            "were read, per second.",
            "s",
            [
                Line(f"max by (pod, engine) ({select(series.TELEMETRY_AGE)})", "age {{pod}}/{{engine}}"),
                Line(f"sum({rate(series.TELEMETRY_DROPPED)})", "records lost per second"),
            ],
            right=("^records.*", "ops"),
            absent=NO_DATA,
        ),
    ]


def _variables() -> list[Any]:
    known = series.POLICY_REVISION.name
    return [
        dashboard.DatasourceVariable("datasource").label("Data source").type("prometheus"),
        dashboard.QueryVariable("namespace")
        .label("Namespace")
        .query(f"label_values({known}, namespace)")
        .datasource(DATASOURCE)
        .refresh(model.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(model.VariableSort.ALPHABETICAL_ASC),
        dashboard.QueryVariable("name")
        .label("LLMServing")
        .query(f'label_values({known}{{namespace="$namespace"}}, name)')
        .datasource(DATASOURCE)
        .refresh(model.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(model.VariableSort.ALPHABETICAL_ASC),
    ]


def service_board() -> dict[str, Any]:
    """The board as Grafana's JSON model."""
    board = (
        dashboard.Dashboard("LLMServing / Service")
        .uid(UID)
        .description("One LLMServing: targets, what users got, the batch bounds, and why they moved.")
        .tags(["llmserving", "vllm"])
        .refresh("10s")
        .time("now-30m", "now")
        .timezone("browser")
        .tooltip(model.DashboardCursorSync.CROSSHAIR)
        .readonly()
    )
    for variable in _variables():
        board = board.with_variable(variable)
    for name, (expr, _, color) in ANNOTATIONS.items():
        board = board.annotation(
            dashboard.AnnotationQuery().name(name).datasource(DATASOURCE).enable(True).icon_color(color).expr(expr)
        )
    for row, panels in (
        ("Now", _figures()),
        ("Latencies and targets", _promises()),
        ("Batch", _batch()),
        ("Why", _why()),
    ):
        board = board.with_row(dashboard.Row(row))
        for panel in panels:
            board = board.with_panel(panel)
    document: dict[str, Any] = json.loads(JSONEncoder(sort_keys=True).encode(board.build()))
    for number, panel in enumerate(document["panels"], 1):
        panel["id"] = number
    for annotation in document["annotations"]["list"]:
        # The SDK has no words for how a Prometheus annotation is titled.
        annotation.update(ANNOTATIONS[annotation["name"]][1])
    return document
