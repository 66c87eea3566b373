"""The report's figure: latencies with their targets, bounds and load on one time axis, edits as numbered verticals."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from llmserving_lab.demo.granted import WINDOW_SECONDS
from llmserving_lab.demo.script import Script
from llmserving_lab.demo.timeline import LatencyPoint, Run, latency_course
from llmserving_lab.demo.watch import Observation

TARGET, HIGH, MIDDLE = "#dc2626", "#3b82f6", "#7dafff"
ENGINES = ("#0f9d8a", "#a855f7", "#d97706", "#64748b")
GREY = "rgba(128,128,128,0.9)"
GRID = "rgba(128,128,128,0.22)"
BAND = "rgba(128,128,128,0.07)"
MAX_ENGINES = len(ENGINES)

ROWS = (
    "inter-token latency, ms",
    "time to first token, ms",
    "tokens of a step: bound (max_num_batched_tokens) and granted, logarithmic",
    "max_num_seqs",
    "requests",
    "KV cache in use, %",
)
HEIGHTS = (0.26, 0.17, 0.21, 0.13, 0.13, 0.10)


def figure_html(run: Run) -> str:
    """The figure as an HTML fragment with the plotting code in it; it loads nothing from elsewhere."""
    html: str = figure(run).to_html(
        full_html=False, include_plotlyjs=True, div_id="course", config={"displayModeBar": False, "responsive": True}
    )
    return html


def figure(run: Run) -> go.Figure:
    """The figure."""
    chart = make_subplots(
        rows=len(ROWS), cols=1, shared_xaxes=True, vertical_spacing=0.028, row_heights=HEIGHTS, subplot_titles=ROWS
    )
    course = latency_course(run)
    _latency(chart, run.script, course, 1, 1, lambda point: (point.itl_p50, point.itl_p95))
    _latency(chart, run.script, course, 2, 0, lambda point: (point.ttft_p50, point.ttft_p95))
    for number, pod in enumerate(sorted({one.pod for one in run.observations})[:MAX_ENGINES]):
        _engine(chart, run, pod, number)
    _phases(chart, run.script)
    _edits(chart, run)
    for title in chart.layout.annotations[: len(ROWS)]:
        title.update(x=0, xanchor="left", font={"size": 13})
    chart.update_layout(
        height=1120,
        margin={"l": 58, "r": 16, "t": 96, "b": 40},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        font={"family": "system-ui, sans-serif", "size": 12, "color": GREY},
        hovermode="x unified",
        legend={"orientation": "h", "y": -0.045, "x": 0},
    )
    chart.update_xaxes(range=[0, run.script.seconds], gridcolor=GRID, zeroline=False, ticksuffix=" s")
    chart.update_yaxes(gridcolor=GRID, zeroline=False, rangemode="tozero")
    chart.update_yaxes(type="log", row=3, col=1)  # single steps may hold a hundredth of what the bound allows
    return chart


def _latency(
    chart: go.Figure,
    script: Script,
    course: Sequence[LatencyPoint],
    row: int,
    target_index: int,
    values: Callable[[LatencyPoint], tuple[float | None, float | None]],
) -> None:
    times = [point.time for point in course]
    legend = row == 1
    for index, (name, color, width) in enumerate((("p50, last 5 s", MIDDLE, 1.5), ("p95, last 5 s", HIGH, 2.2))):
        chart.add_scatter(
            x=times,
            y=[_ms(values(point)[index]) for point in course],
            name=name,
            legendgroup=name,
            showlegend=legend,
            line={"color": color, "width": width},
            hovertemplate="%{y:.0f} ms",
            row=row,
            col=1,
        )
    steps = sorted({0.0, script.seconds, *(edit.at for edit in script.edits)})
    chart.add_scatter(
        x=steps,
        y=[_ms(script.goals_at(step)[target_index]) for step in steps],
        name="target (p95)",
        legendgroup="target",
        showlegend=legend,
        mode="lines",
        line={"color": TARGET, "width": 1.8, "dash": "dash", "shape": "hv"},
        hovertemplate="%{y:.0f} ms",
        row=row,
        col=1,
    )


def _engine(chart: go.Figure, run: Run, pod: str, number: int) -> None:
    seen = [one for one in run.observations if one.pod == pod and one.time >= run.started]
    name = f"engine {pod.rpartition('-')[2]}"

    def add(
        row: int,
        values: Sequence[float | None],
        label: str,
        *,
        times: Sequence[float] = tuple(one.time for one in seen),
        legend: bool = False,
        dash: str = "solid",
    ) -> None:
        chart.add_scatter(
            x=[time - run.started for time in times],
            y=values,
            name=label,
            legendgroup=label,
            showlegend=legend,
            line={"color": ENGINES[number], "width": 1.8 if dash == "solid" else 1.1, "shape": "hv", "dash": dash},
            row=row,
            col=1,
        )

    add(1, [_ms(one.itl_p95) for one in seen], f"{name}: p95 as its agent sees it", legend=True, dash="dot")
    add(3, [_tokens(one) for one in seen], f"{name}: bound in force", legend=True)
    granted = [one for one in run.granted if one.pod == pod]
    label = f"{name}: granted to a step, mean of {WINDOW_SECONDS} s"
    add(3, [one.tokens for one in granted], label, times=[one.time for one in granted], legend=True, dash="dot")
    add(4, [_seqs(one) for one in seen], f"{name}: bound in force")
    add(5, [one.running for one in seen], f"{name}: running", legend=True)
    add(5, [one.waiting for one in seen], f"{name}: waiting", legend=True, dash="dot")
    add(6, [None if one.kv_usage is None else one.kv_usage * 100 for one in seen], f"{name}: KV")


def _phases(chart: go.Figure, script: Script) -> None:
    for number, phase in enumerate(script.phases):
        if number % 2:
            chart.add_vrect(x0=phase.start, x1=phase.end, fillcolor=BAND, line_width=0, layer="below")
        chart.add_annotation(
            x=(phase.start + phase.end) / 2,
            y=1.0,
            yshift=46,
            yanchor="bottom",
            xref="x",
            yref="paper",
            text=phase.name.replace(" ", "<br>"),
            showarrow=False,
            font={"size": 11},
        )


def _edits(chart: go.Figure, run: Run) -> None:
    for number, made in enumerate(run.edits, start=1):
        at = made.started - run.started
        chart.add_vline(x=at, line={"color": GREY, "width": 1, "dash": "dot"})
        chart.add_annotation(
            x=at,
            y=1.0,
            yshift=34,
            xref="x",
            yref="paper",
            text=f"<b>{number}</b>",
            hovertext=made.edit.change,
            showarrow=False,
            font={"size": 10, "color": "white"},
            bgcolor=TARGET if made.edit.itl_seconds or made.edit.ttft_seconds else "#475569",
            borderpad=2,
        )


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else seconds * 1000


def _tokens(one: Observation) -> float | None:
    return None if one.applied is None else one.applied.max_num_batched_tokens


def _seqs(one: Observation) -> float | None:
    return None if one.applied is None else one.applied.max_num_seqs
