"""The report's figures; colours of the page's text are set by the page, which knows whether it is dark."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from llmserving_lab.bench.capacity import ATTAINMENT
from llmserving_lab.report.reading import BenchRun
from llmserving_lab.report.sections import CapacityBar, Moment, Section, Spread, moments, points

PALETTE = ("#3b82f6", "#0f9d8a", "#a855f7", "#d97706", "#db2777", "#65a30d", "#0891b2", "#8b5e3c", "#64748b")
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "cross")
TARGET = "#dc2626"
GREY = "rgba(128,128,128,0.9)"
GRID = "rgba(128,128,128,0.22)"

COURSE_ROWS = ("max_num_batched_tokens", "max_num_seqs", "running", "waiting", "KV cache in use, %")
COURSE_HEIGHTS = (0.27, 0.25, 0.17, 0.16, 0.15)

Colours = Mapping[str, int]
"""Number of each series' colour, the same on the whole page."""


def colours(page: Sequence[Section]) -> dict[str, int]:
    """A number per series of the page, in order of appearance."""
    labels = [series.label for section in page for series in section.series]
    labels += [bar.series for section in page for bar in section.capacities]
    return {label: number for number, label in enumerate(dict.fromkeys(labels))}


def rates_figure(section: Section, numbers: Colours) -> go.Figure | None:
    """Attainment and goodput against rate, a line per policy; None where no run has a rate."""
    lines = [(series.label, found) for series in section.series if (found := points(series))]
    if not lines:
        return None
    chart = make_subplots(
        rows=1, cols=2, horizontal_spacing=0.08, subplot_titles=("attainment", "goodput, good requests per second")
    )
    for label, found in lines:
        rates = [point.rate for point in found]
        for column, spreads, shape in (
            (1, [point.attainment for point in found], "%{y:.3f}"),
            (2, [point.goodput for point in found], "%{y:.2f}"),
        ):
            chart.add_scatter(
                x=rates,
                y=[spread.value for spread in spreads],
                error_y=_whiskers(spreads),
                mode="lines+markers",
                name=label,
                legendgroup=label,
                showlegend=column == 1,
                line={"color": _colour(numbers[label]), "width": 2},
                marker={"size": 8, "symbol": SYMBOLS[numbers[label] % len(SYMBOLS)]},
                hovertemplate=shape,
                row=1,
                col=column,
            )
    rates = [point.rate for _, found in lines for point in found]
    low, high = min(rates), max(rates)
    chart.add_hline(
        y=ATTAINMENT,
        line={"color": TARGET, "width": 1.5, "dash": "dash"},
        annotation={"text": f"{ATTAINMENT:g}", "font": {"color": TARGET}},
        annotation_position="bottom right",
        row=1,
        col=1,
    )
    chart.add_scatter(
        x=[low, high],
        y=[low, high],
        mode="lines",
        name="all that arrive",
        line={"color": GREY, "width": 1, "dash": "dot"},
        hoverinfo="skip",
        row=1,
        col=2,
    )
    if section.limit:
        chart.add_hline(
            y=section.limit,
            line={"color": GREY, "width": 1, "dash": "dash"},
            annotation={"text": f"limit {section.limit:.2f}", "font": {"color": GREY}},
            row=1,
            col=2,
        )
    _style(chart, 420)
    chart.update_layout(legend={"orientation": "h", "y": -0.22, "x": 0}, margin={"b": 96})
    chart.update_xaxes(title="arrivals per second", rangemode="normal")
    chart.update_yaxes(rangemode="tozero")
    chart.update_yaxes(range=[0, 1.04], row=1, col=1)
    return chart


def capacity_figure(section: Section, numbers: Colours) -> go.Figure | None:
    """Capacity per policy with the interval it lies in, and the limit; None where no capacity was sought."""
    bars = section.capacities[::-1]
    if not bars:
        return None
    chart = go.Figure()
    chart.add_bar(
        y=[bar.label for bar in bars],
        x=[bar.entry.low for bar in bars],
        orientation="h",
        marker={"color": [_colour(numbers[bar.series]) for bar in bars]},
        error_x={
            "type": "data",
            "symmetric": False,
            "array": [_above(bar) for bar in bars],
            "arrayminus": [0.0] * len(bars),
            "color": GREY,
            "thickness": 1.6,
        },
        text=[f"{bar.entry.low:.2f}" for bar in bars],
        textposition="inside",
        insidetextanchor="middle",
        textfont={"color": "white"},
        hovertext=[_interval(bar) for bar in bars],
        hoverinfo="text",
    )
    if section.limit:
        chart.add_vline(
            x=section.limit,
            line={"color": GREY, "width": 1, "dash": "dash"},
            annotation={"text": f"limit {section.limit:.2f}", "font": {"color": GREY}, "yanchor": "bottom"},
            annotation_position="top",
        )
    _style(chart, 120 + 40 * len(bars))
    chart.update_layout(showlegend=False)
    chart.update_xaxes(title="requests per second", rangemode="tozero")
    chart.update_yaxes(automargin=True, showgrid=False)
    return chart


def course_figure(section: Section, numbers: Colours) -> go.Figure | None:
    """Bounds, load and KV use over time, a button per rate; None where no run kept them."""
    views = moments(section)
    if not views:
        return None
    chart = make_subplots(
        rows=len(COURSE_ROWS),
        cols=1,
        shared_xaxes=True,
        vertical_spacing=0.04,
        row_heights=COURSE_HEIGHTS,
        subplot_titles=COURSE_ROWS,
    )
    owners: list[int] = []
    for number, view in enumerate(views):
        for label, run in view.runs:
            _course(chart, label, run, _colour(numbers[label]), visible=number == 0)
            owners += [number] * (len(chart.data) - len(owners))
    for change in section.setup.targets[1:]:
        chart.add_vline(x=change.time, line={"color": TARGET, "width": 1, "dash": "dot"})
    _style(chart, 880)
    chart.update_layout(
        legend={"orientation": "h", "y": -0.07, "x": 0},
        hovermode="x unified",
        margin={"t": 88 if len(views) > 1 else 40},
    )
    if len(views) > 1:
        chart.update_layout(updatemenus=[_buttons(views, owners)])
    chart.update_xaxes(ticksuffix=" s", rangemode="tozero")
    chart.update_yaxes(rangemode="tozero")
    return chart


def _course(chart: go.Figure, label: str, run: BenchRun, colour: str, *, visible: bool) -> None:
    end = max([run.virtual_s] + [state[0] for state in run.states])
    bounds = [*run.bounds, (end, *run.bounds[-1][1:])] if run.bounds else []
    times, states = [change[0] for change in bounds], [state[0] for state in run.states]
    rows: tuple[tuple[list[float], list[float], str], ...] = (
        (times, [change[2] for change in bounds], "%{y:,.0f}"),
        (times, [change[1] for change in bounds], "%{y:,.0f}"),
        (states, [state[1] for state in run.states], "%{y:,.0f}"),
        (states, [state[2] for state in run.states], "%{y:,.0f}"),
        (states, [state[3] * 100 for state in run.states], "%{y:.1f} %"),
    )
    for row, (x, y, shape) in enumerate(rows, start=1):
        chart.add_scatter(
            x=x,
            y=y,
            mode="lines",
            name=label,
            legendgroup=label,
            showlegend=row == 1,
            visible=visible,
            line={"color": colour, "width": 1.8 if row < 3 else 1.3, "shape": "hv" if row < 3 else "linear"},
            hovertemplate=shape,
            row=row,
            col=1,
        )


def _buttons(views: Sequence[Moment], owners: Sequence[int]) -> dict[str, object]:
    return {
        "type": "dropdown",
        "direction": "down",
        "x": 0,
        "xanchor": "left",
        "y": 1.04,
        "yanchor": "bottom",
        "pad": {"b": 8},
        "font": {"color": "#1c2430"},
        "bgcolor": "#f4f6f9",
        "bordercolor": GREY,
        "buttons": [
            {"label": view.label, "method": "restyle", "args": ["visible", [owner == number for owner in owners]]}
            for number, view in enumerate(views)
        ],
    }


def _whiskers(spreads: Sequence[Spread]) -> dict[str, object]:
    """From the lowest to the highest slice."""
    return {
        "type": "data",
        "symmetric": False,
        "array": [spread.high - spread.value for spread in spreads],
        "arrayminus": [spread.value - spread.low for spread in spreads],
        "visible": any(spread.high > spread.low for spread in spreads),
        "thickness": 1.2,
    }


def _above(bar: CapacityBar) -> float:
    return 0.0 if bar.entry.high is None else bar.entry.high - bar.entry.low


def _interval(bar: CapacityBar) -> str:
    entry = bar.entry
    fails = "never seen to fail" if entry.high is None else f"fails at {entry.high:.2f}"
    return f"{bar.label}: passes at {entry.low:.2f}, {fails}" if entry.low else f"{bar.label}: {fails}"


def _colour(number: int) -> str:
    return PALETTE[number % len(PALETTE)]


def _style(chart: go.Figure, height: int) -> None:
    for title in chart.layout.annotations:
        if title.xref == "paper" and title.yref == "paper":
            title.update(xanchor="left", x=_left_edge(chart, title.x), font={"size": 13})
    chart.update_layout(
        height=height,
        margin={"l": 58, "r": 24, "t": 40, "b": 48},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        font={"family": "system-ui, sans-serif", "size": 12, "color": GREY},
    )
    chart.update_xaxes(gridcolor=GRID, zeroline=False)
    chart.update_yaxes(gridcolor=GRID, zeroline=False)


def _left_edge(chart: go.Figure, middle: float) -> float:
    """Left edge of the column that a title stands in the middle of."""
    domains = [axis.domain for axis in chart.select_xaxes() if axis.domain]
    return next((low for low, high in domains if low <= middle <= high), 0.0)
