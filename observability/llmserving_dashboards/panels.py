"""The panels of all boards look alike: described, with units, absent values said in words."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from string import ascii_uppercase
from typing import Any, Final

from grafana_foundation_sdk.builders import dashboard, prometheus, stat, timeseries
from grafana_foundation_sdk.builders.common import ReduceDataOptions, VizLegendOptions, VizTooltipOptions
from grafana_foundation_sdk.models import common
from grafana_foundation_sdk.models import dashboard as model

DATASOURCE: Final = model.DataSourceRef(type_val="prometheus", uid="${datasource}")
_SELECTED: Final = re.compile(r"([a-z_]+:?[a-z0-9_]+)\{")

NO_TRAFFIC: Final = "No traffic"
NO_DATA: Final = "No data"

DASHED: Final = [
    model.DynamicConfigValue(id_val="custom.lineStyle", value={"fill": "dash", "dash": [8, 6]}),
    model.DynamicConfigValue(id_val="custom.lineWidth", value=2),
    model.DynamicConfigValue(id_val="custom.fillOpacity", value=0),
    model.DynamicConfigValue(id_val="color", value={"mode": "fixed", "fixedColor": "red"}),
]
"""How a target or a limit is drawn: a red dashed line from the resource itself."""


@dataclass(frozen=True, slots=True)
class Line:
    """One query of a panel."""

    expr: str
    legend: str


def _query(line: Line, place: int, *, instant: bool) -> prometheus.Dataquery:
    query = prometheus.Dataquery().expr(line.expr).legend_format(line.legend).datasource(DATASOURCE)
    query = query.ref_id(ascii_uppercase[place])
    return query.instant() if instant else query.range()


def _described(description: str, exprs: Sequence[str]) -> str:
    """A description with the series behind it."""
    names = dict.fromkeys(re.sub(r"_(bucket|sum|count)$", "", name) for e in exprs for name in _SELECTED.findall(e))
    return f"{description} Metric: {', '.join(f'`{name}`' for name in names)}."


def _right_axis(unit: str) -> list[model.DynamicConfigValue]:
    return [
        model.DynamicConfigValue(id_val="custom.axisPlacement", value="right"),
        model.DynamicConfigValue(id_val="unit", value=unit),
    ]


def _absent(text: str) -> list[Any]:
    """NaN and null as words."""
    return [
        model.SpecialValueMap(
            options=model.DashboardSpecialValueMapOptions(
                match=model.SpecialValueMatch.NULL_AND_NAN,
                result=model.ValueMappingResult(text=text, color="text", index=0),
            )
        )
    ]


def plot(
    title: str,
    description: str,
    unit: str,
    lines: Sequence[Line],
    *,
    targets: str = "",
    right: tuple[str, str] | None = None,
    absent: str = NO_TRAFFIC,
    width: int = 12,
    most: float | None = None,
    stepped: bool = False,
) -> timeseries.Panel:
    """A plot over time.

    Args:
        title: of the panel.
        description: what is shown and what to do about it; the series are added.
        unit: Grafana's name of the unit.
        lines: queries.
        targets: regular expression of legends that are targets or limits; drawn dashed and red.
        right: legends (regular expression) that are drawn against the right axis, and their unit.
        absent: what stands where there are no values.
        width: of 24.
        most: fixed upper end of the axis.
        stepped: values hold until the next.
    """
    panel = (
        timeseries.Panel()
        .title(title)
        .description(_described(description, [line.expr for line in lines]))
        .datasource(DATASOURCE)
        .unit(unit)
        .min(0)
        .span(width)
        .height(8)
        .no_value(absent)
        .mappings(_absent(absent))
        .fill_opacity(0)
        .line_width(1.5)
        .show_points(common.VisibilityMode.NEVER)
        .tooltip(VizTooltipOptions().mode(common.TooltipDisplayMode.MULTI))
        .legend(
            VizLegendOptions()
            .display_mode(common.LegendDisplayMode.TABLE)
            .placement(common.LegendPlacement.BOTTOM)
            .show_legend(True)
            .calcs(["lastNotNull", "max"])
        )
    )
    if most is not None:
        panel = panel.max(most)
    if stepped:
        panel = panel.line_interpolation(common.LineInterpolation.STEP_AFTER)
    if targets:
        panel = panel.override_by_regexp(targets, DASHED)
    if right is not None:
        panel = panel.override_by_regexp(right[0], _right_axis(right[1]))
    for place, line in enumerate(lines):
        panel = panel.with_target(_query(line, place, instant=False))
    return panel


def figure(
    title: str,
    description: str,
    unit: str,
    expr: str,
    *,
    legend: str = "",
    absent: str = NO_TRAFFIC,
    steps: Sequence[tuple[float | None, str]] = ((None, "text"),),
    decimals: int | None = None,
) -> stat.Panel:
    """One figure.

    Args:
        title: of the panel.
        description: what is shown; the series are added.
        unit: Grafana's name of the unit.
        expr: its query.
        legend: shown in place of the value.
        absent: what stands where there is none.
        steps: from which value on which colour.
        decimals: digits after the point.
    """
    panel = (
        stat.Panel()
        .title(title)
        .description(_described(description, [expr]))
        .datasource(DATASOURCE)
        .unit(unit)
        .span(3)
        .height(4)
        .no_value(absent)
        .mappings(_absent(absent))
        .graph_mode(common.BigValueGraphMode.NONE)
        .color_mode(common.BigValueColorMode.VALUE)
        .reduce_options(ReduceDataOptions().calcs(["lastNotNull"]))
        .thresholds(
            dashboard.ThresholdsConfig()
            .mode(model.ThresholdsMode.ABSOLUTE)
            .steps([model.Threshold(value=value, color=color) for value, color in steps])
        )
        .with_target(_query(Line(expr, legend), 0, instant=True))
    )
    if legend:
        panel = panel.text_mode(common.BigValueTextMode.NAME)
    return panel if decimals is None else panel.decimals(decimals)
