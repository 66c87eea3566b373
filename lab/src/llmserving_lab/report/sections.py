"""Results sorted into sections: one per load, device and SLA, with a series per policy. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import inf, isclose
from pathlib import Path

from llmserving_lab.bench.measurement import OVERLOAD
from llmserving_lab.bench.plan import RunPlan
from llmserving_lab.report.reading import BenchRun, CapacityEntry, LimitRun, Result


@dataclass(frozen=True, slots=True)
class Spread:
    """A figure over the slices of a rate: lowest, overall, highest."""

    low: float
    value: float
    high: float


@dataclass(frozen=True, slots=True)
class Point:
    """A policy at a rate, all slices together; requests per second."""

    rate: float
    attainment: Spread
    goodput: Spread


@dataclass(frozen=True, slots=True)
class Series:
    """Runs of one policy, in the order of their files."""

    label: str
    runs: tuple[BenchRun, ...]


@dataclass(frozen=True, slots=True)
class CapacityBar:
    """A policy's capacity.

    Attributes:
        label: Its name, with the setting that a search settled on.
        series: Label of the series that its runs belong to.
        entry: The figures.
    """

    label: str
    series: str
    entry: CapacityEntry


@dataclass(frozen=True, slots=True)
class Section:
    """Results that can be compared: equal load, device, SLA and KV capacity.

    Attributes:
        title: Name of the load.
        setup: The plan that all runs are variants of.
        files: Names of the files that it comes from.
        series: Per policy.
        capacities: Per policy, where a file has them.
        limit: Saturated throughput without targets, requests per second, where a file has it.
        caveats: What to know before believing a figure.
    """

    title: str
    setup: RunPlan
    files: tuple[str, ...]
    series: tuple[Series, ...]
    capacities: tuple[CapacityBar, ...]
    limit: float | None
    caveats: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Moment:
    """Runs to be seen side by side over time: those at one rate, or each at its own capacity."""

    label: str
    runs: tuple[tuple[str, BenchRun], ...]


def sections(results: Iterable[Result]) -> tuple[Section, ...]:
    """Sort results into sections, in the order of the files; files with an equal setup share one."""
    groups: dict[RunPlan, list[Result]] = {}
    for result in results:
        groups.setdefault(_setup(result.document.plan), []).append(result)
    return tuple(_section(setup, group) for setup, group in groups.items())


def points(series: Series) -> tuple[Point, ...]:
    """The series by rate, lowest first; runs at the trace's own rate are left out."""
    by_rate: dict[float, list[BenchRun]] = {}
    for run in series.runs:
        if run.rate_rps is not None and run.attainment is not None and run.goodput_rps is not None:
            by_rate.setdefault(run.rate_rps, []).append(run)
    return tuple(_point(rate, by_rate[rate]) for rate in sorted(by_rate))


def moments(section: Section) -> tuple[Moment, ...]:
    """What can be seen over time: the first slice of each policy at each rate, capacities first, then by rate."""
    found: dict[tuple[float, str], dict[str, BenchRun]] = {}
    for series in section.series:
        for run in series.runs:
            if run.bounds or run.states:
                found.setdefault(_moment(section, series.label, run), {}).setdefault(series.label, run)
    return tuple(Moment(label, tuple(runs.items())) for (_, label), runs in sorted(found.items()))


def _setup(plan: RunPlan) -> RunPlan:
    """The plan without what differs between runs that can be compared."""
    load = plan.load.model_copy(update={"rate": None, "start": 0, "seed": 0})
    same = {"policy": "", "load": load, "warmup": 0.0, "give_up_misses": None, "detail": True}
    return plan.model_copy(update=same)


def _section(setup: RunPlan, group: Sequence[Result]) -> Section:
    twice = _measured_twice(group)
    runs: dict[str, list[BenchRun]] = {}
    bars: list[CapacityBar] = []
    limits: list[float] = []
    for result in group:

        def label(policy: str, file: str = result.name) -> str:
            return f"{policy} ({file})" if policy in twice else policy

        for run in result.document.runs:
            if isinstance(run, LimitRun):
                limits.append(run.throughput_rps)
            else:
                runs.setdefault(label(run.policy), []).append(run)
        for entry in result.document.capacity:
            bars.append(CapacityBar(label(_named(entry)), label(entry.measured_as), entry))
            limits.append(entry.limit_rps)
    load = setup.load
    name = Path(load.trace).stem if load.trace else load.kind
    title = name if load.arrivals == "own" else f"{name}, arrivals: {load.arrivals}"
    return Section(
        title=group[0].document.cell or title,
        setup=setup,
        files=tuple(result.name for result in group),
        series=tuple(Series(policy, tuple(of_it)) for policy, of_it in runs.items()),
        capacities=tuple(bars),
        limit=max(limits, default=None),
        caveats=tuple(sorted({caveat for result in group for caveat in result.document.caveats})),
    )


def _measured_twice(group: Sequence[Result]) -> set[str]:
    """Policies of which several files hold the same run or a capacity: each file then has a series of its own."""
    seen: set[tuple[object, ...]] = set()
    twice: set[str] = set()
    for result in group:
        keys: dict[tuple[object, ...], str] = {
            ("capacity", _named(entry)): _named(entry) for entry in result.document.capacity
        }
        for run in result.document.runs:
            if isinstance(run, BenchRun):
                keys[run.policy, run.rate_rps, run.start, run.seed] = run.policy
        twice |= {policy for key, policy in keys.items() if key in seen}
        seen |= keys.keys()
    return twice


def _named(entry: CapacityEntry) -> str:
    return (
        entry.policy
        if entry.policy == entry.measured_as
        else f"{entry.policy}: {entry.measured_as.removeprefix('static:')}"
    )


def _point(rate: float, runs: Sequence[BenchRun]) -> Point:
    counted = sum(run.arrived - run.aborted for run in runs)
    shares = [run.attainment for run in runs if run.attainment is not None]
    rates = [run.goodput_rps for run in runs if run.goodput_rps is not None]
    overall = sum(run.good for run in runs) / counted if counted else 0.0
    return Point(
        rate,
        Spread(min(shares), overall, max(shares)),
        Spread(min(rates), sum(rates) / len(rates), max(rates)),
    )


def _moment(section: Section, series: str, run: BenchRun) -> tuple[float, str]:
    """Its place in the order, and its label."""
    rate = run.rate_rps
    if rate is None:
        return inf, "at the trace's own rate"
    for bar in section.capacities:
        own = [low for low, _ in bar.entry.slice_capacities] or [bar.entry.low]
        if bar.series == series and any(isclose(rate, low) for low in own):
            return -2, "each at its capacity"
        if bar.series == series and any(isclose(rate, low * OVERLOAD) for low in own):
            return -1, f"each at {OVERLOAD:g} times its capacity"
    return rate, f"{rate:g} requests/s"
