"""The board "Service": one LLMServing, its targets, what users got, the bounds and why they moved, on one time axis."""

import json
from typing import Any, Final

from grafana_foundation_sdk.builders import dashboard
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import dashboard as model

from llmserving_api import series
from llmserving_api.conditions import DecisionReason
from llmserving_dashboards.panels import DATASOURCE
from llmserving_dashboards.promql import RATE, select
from llmserving_dashboards.rows import batch, latencies, now, steps, why

UID: Final = "llmserving-service"
HOLDS: Final = (
    DecisionReason.WITHIN_BAND,
    DecisionReason.NOT_BINDING,
    DecisionReason.IDLE,
    DecisionReason.TOO_FEW_SAMPLES,
    DecisionReason.TELEMETRY_STALE,
    DecisionReason.ENGINE_UNREACHABLE,
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
        ("Now", now.panels()),
        ("Latencies and targets", latencies.panels()),
        ("Batch", batch.panels()),
        ("Steps", steps.panels()),
        ("Why", why.panels()),
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
