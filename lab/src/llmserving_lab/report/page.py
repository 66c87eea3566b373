"""The report page: one HTML file with figures and tables that loads nothing from elsewhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template

import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

from llmserving_lab.bench.capacity import ATTAINMENT
from llmserving_lab.bench.plan import TargetPlan
from llmserving_lab.report.figures import Colours, capacity_figure, colours, course_figure, rates_figure
from llmserving_lab.report.sections import Section

_CAPACITY = "The bar is the highest rate that passed, the whisker ends at the lowest that failed; the limit is throughput without targets."
_RATES = "Slices of a rate are taken together; whiskers reach from the lowest slice to the highest."
_COURSE = "The first slice of each policy. Click a policy in the legend to hide it; dotted red verticals are edits of the SLA."


def page(sections: Sequence[Section], definitions: Mapping[str, str]) -> str:
    """The page's HTML.

    Args:
        sections: What to draw, in order.
        definitions: What the words on the page mean.
    """
    numbers = colours(sections)
    names = _names(sections)
    contents = "".join(f'<a href="#s{number}">{escape(name)}</a>' for number, name in enumerate(names))
    return Template(files("llmserving_lab.report").joinpath("report.html").read_text(encoding="utf-8")).substitute(
        plotly=get_plotlyjs(),
        contents=f"<nav>{contents}</nav>" if len(sections) > 1 else "",
        sections="".join(_section(number, one, numbers) for number, one in enumerate(sections)),
        definitions="".join(f"<dt>{escape(word)}</dt><dd>{escape(text)}</dd>" for word, text in definitions.items()),
    )


def _names(sections: Sequence[Section]) -> list[str]:
    """The sections' titles, with the files where two loads have the same name."""
    titles = [section.title for section in sections]
    return [f"{one.title} ({', '.join(one.files)})" if titles.count(one.title) > 1 else one.title for one in sections]


def _section(number: int, section: Section, numbers: Colours) -> str:
    figures = (
        ("capacity", "Capacity", _CAPACITY, capacity_figure(section, numbers)),
        ("rates", "Attainment and goodput by rate", _RATES, rates_figure(section, numbers)),
        ("course", "Bounds over time", _COURSE, course_figure(section, numbers)),
    )
    parts = [f'<section id="s{number}"><h2>{escape(section.title)}</h2><p class="lead">{escape(_lead(section))}</p>']
    parts += [f'<p class="note">{escape(caveat)}</p>' for caveat in section.caveats]
    for name, title, remark, chart in figures:
        if chart is not None:
            parts.append(f"<h3>{title}</h3><p><small>{remark}</small></p>{_html(chart, f'{name}{number}')}")
        if chart is not None and name == "capacity":
            parts.append(_capacities(section))
    parts.append(f"<details><summary>All runs</summary>{_runs(section)}</details></section>")
    return "".join(parts)


def _html(chart: go.Figure, name: str) -> str:
    html: str = chart.to_html(
        full_html=False, include_plotlyjs=False, div_id=name, config={"displayModeBar": False, "responsive": True}
    )
    return html


def _lead(section: Section) -> str:
    setup = section.setup
    device = Path(setup.device.source).name + "".join(f" + {name}" for name in setup.device.harder)
    memory = f"KV capacity {setup.kv_tokens:,} tokens" if setup.kv_tokens else "KV capacity as the card has it"
    edits = [f"from {target.time:g} s {_target(target)}" for target in setup.targets[1:]]
    sla = ", ".join([_target(setup.targets[0]), *edits])
    scheduling = "asynchronous" if setup.asynchronous else "synchronous"
    return (
        f"{device}; {setup.load.requests:,} requests a slice; {sla}; {memory}; {scheduling} scheduling. "
        f"From {', '.join(section.files)}."
    )


def _target(target: TargetPlan) -> str:
    named = (("TTFT", target.ttft), ("ITL", target.itl), ("end to end", target.e2e))
    wanted = [f"{name} {_time(seconds)}" for name, seconds in named if seconds is not None]
    return f"{', '.join(wanted)} at p{target.percentile}" if wanted else "no targets"


def _capacities(section: Section) -> str:
    head = (
        "policy", "capacity, requests/s", "fails at", "of each slice", "slices at one rate", "of the limit",
        "goodput at 1.5 times capacity, of capacity", "TTFT max", "longest prompts met: worst slice, mean", "overtaken",
        "preemptions",
    )  # fmt: skip
    rows = []
    for bar in section.capacities:
        entry = bar.entry
        longest = entry.longest_decile or (None, None)
        rows.append(
            (
                (bar.label, ""),
                (_number(entry.low, 2) if entry.low else f"never reaches {ATTAINMENT:g}", ""),
                (_number(entry.high, 2), ""),
                (", ".join(_number(low, 2) for low, _ in entry.slice_capacities) or "-", ""),
                (_number(entry.pooled[0] if entry.pooled else None, 2), ""),
                (_number(entry.low / entry.limit_rps, 2) if entry.limit_rps else "-", ""),
                (_number(entry.overload, 2), ""),
                (_time(entry.longest_ttft_s), ""),
                (", ".join(_number(share, 3) for share in longest), ""),
                (_number(entry.relegated_share, 3), ""),
                (_number(entry.preemptions, 0), ""),
            )
        )
    return _table(head, rows)


def _runs(section: Section) -> str:
    head = (
        "policy", "rate", "start, seed", "requests", "attainment", "goodput", "TTFT p95", "TTFT max", "ITL p95",
        "preemptions", "setting",
    )  # fmt: skip
    rows = []
    for series in section.series:
        for run in series.runs:
            verdict = "" if run.attainment is None else "met" if run.attainment >= ATTAINMENT else "missed"
            rows.append(
                (
                    (series.label, ""),
                    ("own" if run.rate_rps is None else f"{run.rate_rps:.2f}", ""),
                    (f"{run.start}, {run.seed}", ""),
                    (f"{run.arrived:,}", ""),
                    (_number(run.attainment, 3), verdict),
                    (_number(run.goodput_rps, 2), ""),
                    (_time(run.ttft_p95_s), ""),
                    (_time(run.ttft_max_s), ""),
                    (_time(run.itl_p95_s), ""),
                    (_number(run.preemptions, 0), ""),
                    (run.chosen or "", ""),
                )
            )
    return _table(head, rows)


def _table(head: Sequence[str], rows: Sequence[Sequence[tuple[str, str]]]) -> str:
    titles = "".join(f"<th>{escape(title)}</th>" for title in head)
    body = "".join(
        "<tr>" + "".join(f'<td class="{kind}">{escape(text)}</td>' for text, kind in row) + "</tr>" for row in rows
    )
    return f'<div class="scroll"><table><thead><tr>{titles}</tr></thead><tbody>{body}</tbody></table></div>'


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:,.{digits}f}"


def _time(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    return f"{seconds * 1000:.3g} ms" if seconds < 1 else f"{seconds:.3g} s"
