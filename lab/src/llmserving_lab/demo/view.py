"""What a terminal shows while the demo runs."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from llmserving_api.control import Bounds
from llmserving_lab.demo.edits import MadeEdit
from llmserving_lab.demo.script import Script
from llmserving_lab.demo.timeline import gaps_between
from llmserving_lab.demo.watch import Observation
from llmserving_lab.traffic.record import RequestRecord, quantile

WINDOW_SECONDS = 15.0
SHOWN_EDITS = 12


@dataclass(slots=True)
class LiveState:
    """What is known at a moment; the view draws it, others change it.

    Attributes:
        script: What is planned.
        requests: Requests the load holds.
        started: When the traffic began, on the monotonic clock; None before that.
        records: Requests that have ended.
        engines: Newest observation of every pod.
        edits: Edits made so far.
    """

    script: Script
    requests: int
    started: float | None = None
    records: list[RequestRecord] = field(default_factory=list)
    engines: dict[str, Observation] = field(default_factory=dict)
    edits: list[MadeEdit] = field(default_factory=list)

    def __rich__(self) -> RenderableType:
        """Called by rich at every refresh."""
        return render(self, time.monotonic())


def render(state: LiveState, now: float) -> RenderableType:
    """The whole view."""
    elapsed = 0.0 if state.started is None else min(now - state.started, state.script.seconds)
    phase = next((one for one in state.script.phases if one.start <= elapsed < one.end), state.script.phases[-1])
    head = Table.grid(expand=True)
    head.add_column()
    head.add_column(justify="right")
    failed = sum(not record.completed for record in state.records)
    head.add_row(
        Text.assemble((f"{elapsed:3.0f} s  ", "dim"), ("phase: ", "dim"), (phase.name, "bold")),
        Text.assemble(
            f"{len(state.records) - failed}/{state.requests} requests completed, ",
            (f"{failed} failed", "bold red" if failed else "green"),
        ),
    )
    bar = Table.grid(expand=True)
    bar.add_row(ProgressBar(total=state.script.seconds, completed=elapsed))
    engines = sorted(state.engines.values(), key=lambda engine: engine.pod)
    parts = (
        head,
        bar,
        "",
        _latencies(state, now, elapsed),
        "",
        _engines(engines),
        _decisions(engines),
        "",
        _edits(state),
    )
    return Panel(
        Group(*parts),
        title="LLMServing demo",
        border_style="cyan",
    )


def _latencies(state: LiveState, now: float, elapsed: float) -> Table:
    ttft_target, itl_target = state.script.goals_at(elapsed)
    recent = [record for record in state.records if record.ended > now - WINDOW_SECONDS]
    ttfts = [record.ttft_seconds for record in recent if record.ttft_seconds is not None]
    gaps = [gap for _, gap in gaps_between(recent, now - WINDOW_SECONDS, now)]
    table = Table(expand=True, box=None, padding=(0, 1))
    for title in ("latency at the client", "target p95", "p50", "p95", ""):
        table.add_column(title, justify="left" if title in {"latency at the client", ""} else "right")
    for name, target, values in (("time to first token", ttft_target, ttfts), ("inter-token", itl_target, gaps)):
        high = quantile(values, 95)
        verdict = Text("-", "dim")
        if high is not None:
            verdict = Text("met", "green") if high <= target else Text("over", "bold red")
        table.add_row(name, _ms(target), _ms(quantile(values, 50)), _ms(high), verdict)
    return table


def _engines(engines: Sequence[Observation]) -> Table:
    table = Table(expand=True, box=None, padding=(0, 1))
    for title in ("engine", "mode", "requested", "applied", "effective", "running", "waiting", "KV"):
        table.add_column(title, justify="right" if title in {"running", "waiting", "KV"} else "left")
    for one in engines:
        kv = "-" if one.kv_usage is None else f"{one.kv_usage:.0%}"
        table.add_row(
            one.pod.rpartition("-")[2],
            f"{one.mode} {one.law}",
            _bounds(one.requested),
            _bounds(one.applied),
            Text(_bounds(one.effective), "green" if one.settled else "yellow"),
            str(one.running),
            str(one.waiting),
            kv,
        )
    return table


def _decisions(engines: Sequence[Observation]) -> Table:
    table = Table.grid(expand=True, padding=(0, 1))
    for _ in range(2):
        table.add_column(no_wrap=True)
    table.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
    for one in engines:
        table.add_row(Text(f" {one.pod.rpartition('-')[2]}"), Text(one.reason, "cyan"), Text(one.message, "dim"))
    return table


def _edits(state: LiveState) -> Table:
    table = Table(expand=True, box=None, padding=(0, 1))
    table.add_column("edits with kubectl")
    for title in ("applied in every engine", "effective"):
        table.add_column(title, justify="right")
    for made in state.edits[-SHOWN_EDITS:]:
        table.add_row(made.edit.change, _seconds(made.applied_seconds), _seconds(made.effective_seconds))
    coming = state.script.edits[len(state.edits) : len(state.edits) + 1]
    for edit in coming:
        table.add_row(Text(f"next, at {edit.at:.0f} s: {edit.change}", "dim"))
    return table


def summary(state: LiveState, now: float) -> str:
    """One line for output that is no terminal."""
    elapsed = 0.0 if state.started is None else now - state.started
    recent = [record for record in state.records if record.ended > now - WINDOW_SECONDS]
    gaps = [gap for _, gap in gaps_between(recent, now - WINDOW_SECONDS, now)]
    bounds = ", ".join(_bounds(one.applied) for _, one in sorted(state.engines.items()))
    failed = sum(not record.completed for record in state.records)
    return (
        f"{elapsed:4.0f} s: {len(state.records)}/{state.requests} ended, {failed} failed, "
        f"ITL p95 {_ms(quantile(gaps, 95))}, bounds {bounds or '-'}, {len(state.edits)} edits"
    )


def _bounds(bounds: Bounds | None) -> str:
    return "-" if bounds is None else f"{bounds.max_num_seqs} seqs {bounds.max_num_batched_tokens} tokens"


def _ms(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.2f} s"


def _seconds(seconds: float | None) -> str:
    return "..." if seconds is None else f"{seconds:.2f} s"
