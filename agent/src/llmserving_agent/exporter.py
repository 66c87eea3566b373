"""Prometheus series of the agent and of its engines, from the loop's state at the time of the scrape."""

from collections.abc import Callable, Iterable, Iterator, Sequence

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from llmserving_agent.engine import Engine
from llmserving_agent.loop import AgentLoop
from llmserving_agent.report import latency_window
from llmserving_agent.signals.attainment import SLACounts, shifted
from llmserving_agent.totals import CLASS_NAMES, Buckets
from llmserving_api import series
from llmserving_api.control import Bounds, ContractMode
from llmserving_api.latency import Counts, quantile_seconds
from llmserving_api.misses import LatencyName, judge
from llmserving_api.policy import AskedLimits, Limits, Mode, Policy, Target
from llmserving_api.telemetry import RequestClass

PERCENTILES = (50, 95, 99)
GPU_SOURCES = ("nvml", "relay", "none")
BOUNDS = ("max_num_seqs", "max_num_batched_tokens")

Sample = tuple[tuple[str, ...], float]


class LoopCollector(Collector):
    """Reads one ``AgentLoop``; nothing is counted here."""

    def __init__(self, loop: AgentLoop, clock: Callable[[], float], registry: CollectorRegistry) -> None:
        """Register with a registry; ``clock`` is the loop's."""
        self._loop, self._clock = loop, clock
        registry.register(self)

    def collect(self) -> Iterator[Metric]:
        """All series, as of now."""
        now = self._clock()
        policy = self._loop.policy.policy
        owner = ("", "") if policy is None else (policy.namespace, policy.name)
        if policy is not None:
            yield from _policy(policy, owner, self._loop)
        yield _counter(series.POLICY_ERRORS, [(owner, self._loop.policy.refused)])
        yield from _gpu(self._loop)
        yield from _timings(self._loop)
        yield from self._engines(policy, owner, now)

    def _engines(self, policy: Policy | None, owner: tuple[str, str], now: float) -> Iterator[Metric]:
        engines = [((*owner, str(rank)), engine) for rank, engine in self._loop.engines.items()]
        yield from _bounds(engines)
        yield from _counts(engines)
        yield from _state(engines, now)
        observed, attained, by_class = [], [], []
        misses: list[Sample] = []
        allowed: list[Sample] = []
        for labels, engine in engines:
            counts = engine.measured.sla.total
            if policy is not None:
                window = latency_window(engine.measured, self._loop.front_end.seconds, policy.sla.window_seconds, now)
                for metric, target in _targets(policy):
                    judged = judge(window, metric, target.target_seconds)
                    tail = (*labels, metric, str(target.percentile))
                    misses.append((tail, judged.misses))
                    allowed.append((tail, judged.allowed(target.percentile)))
            observed += [((*labels, *tail), value) for tail, value in _observed(counts, policy, self._loop)]
            arrived = counts.requests + engine.measured.overdue_waiting(now)
            if arrived:
                attained.append((labels, counts.good / arrived))
                by_class.append(((*labels, CLASS_NAMES[RequestClass.INTERACTIVE]), counts.good / arrived))
            batch = engine.measured.batch.total.good_share
            if batch is not None:
                by_class.append(((*labels, CLASS_NAMES[RequestClass.BATCH]), batch))
        yield _gauge(series.LATENCY_OBSERVED, observed)
        yield _gauge(series.MISSES, misses)
        yield _gauge(series.MISSES_ALLOWED, allowed)
        yield _gauge(series.ATTAINMENT, attained)
        yield _gauge(series.CLASS_ATTAINMENT, by_class)


def _gauge(definition: series.Series, samples: Iterable[Sample]) -> Metric:
    family = GaugeMetricFamily(definition.name, definition.help, labels=definition.labels)
    for labels, value in samples:
        family.add_metric(list(labels), value)
    return family


def _counter(definition: series.Series, samples: Iterable[Sample]) -> Metric:
    family = CounterMetricFamily(definition.name, definition.help, labels=definition.labels)
    for labels, value in samples:
        family.add_metric(list(labels), value)
    return family


def _histogram(definition: series.Series, samples: Iterable[tuple[tuple[str, ...], Buckets]]) -> Metric:
    family = HistogramMetricFamily(definition.name, definition.help, labels=definition.labels)
    for labels, buckets in samples:
        family.add_metric(list(labels), buckets.cumulative(), buckets.sum)
    return family


def _targets(policy: Policy) -> list[tuple[LatencyName, Target]]:
    sla = policy.sla
    named: tuple[tuple[LatencyName, Target | None], ...] = (
        ("ttft", sla.time_to_first_token),
        ("itl", sla.inter_token_latency),
        ("e2e", sla.end_to_end_latency),
    )
    return [(name, target) for name, target in named if target is not None]


def _limits(policy: Policy, loop: AgentLoop) -> Iterator[tuple[str, AskedLimits | Limits]]:
    """The limits as in force: the ceilings are one for all ranks, and unknown before the first document."""
    ceilings = next((engine.config.ceilings for engine in loop.engines.values() if engine.config is not None), None)
    for bound in BOUNDS:
        asked: AskedLimits = getattr(policy, bound)
        yield bound, asked if ceilings is None else asked.within(getattr(ceilings, bound))


def _policy(policy: Policy, owner: tuple[str, str], loop: AgentLoop) -> Iterator[Metric]:
    yield _gauge(
        series.SLA_TARGET,
        [((*owner, name, str(target.percentile)), target.target_seconds) for name, target in _targets(policy)],
    )
    limits: list[Sample] = []
    for bound, limit in _limits(policy, loop):
        limits.append(((*owner, bound, "min"), limit.min))
        if limit.max is not None:
            limits.append(((*owner, bound, "max"), limit.max))
    yield _gauge(series.BOUND_LIMIT, limits)
    yield _gauge(series.POLICY_REVISION, [(owner, policy.revision)])
    yield _gauge(series.MODE, [((*owner, mode.value), float(mode is policy.mode)) for mode in Mode])


def _gpu(loop: AgentLoop) -> Iterator[Metric]:
    yield _gauge(series.GPU_SOURCE, [((source,), float(source == loop.gpu.source)) for source in GPU_SOURCES])
    memory: list[Sample] = []
    for device in loop.gpu.devices:
        memory.append(((device.uuid, "total"), device.memory_total_bytes))
        memory.append(((device.uuid, "used"), device.memory_used_bytes))
        memory.append(((device.uuid, "free"), device.memory_free_bytes))
    yield _gauge(series.GPU_MEMORY, memory)


def _timings(loop: AgentLoop) -> Iterator[Metric]:
    yield _histogram(series.TICK_SECONDS, [((step,), buckets) for step, buckets in loop.timings.items()])


def _bounds(engines: Sequence[tuple[tuple[str, ...], Engine]]) -> Iterator[Metric]:
    for definition, name in (
        (series.BOUND_REQUESTED, "requested"),
        (series.BOUND_APPLIED, "applied"),
        (series.BOUND_EFFECTIVE, "effective"),
    ):
        samples: list[Sample] = []
        for labels, engine in engines:
            bounds: Bounds | None = None if engine.config is None else getattr(engine.config, name)
            if bounds is not None:
                samples.append(((*labels, "max_num_seqs"), bounds.max_num_seqs))
                samples.append(((*labels, "max_num_batched_tokens"), bounds.max_num_batched_tokens))
        yield _gauge(definition, samples)


def _counts(engines: Sequence[tuple[tuple[str, ...], Engine]]) -> Iterator[Metric]:
    totals = [(labels, engine.totals) for labels, engine in engines]
    yield _counter(series.REQUESTS, [((*labels, result), n) for labels, t in totals for result, n in t.results.items()])
    yield _counter(
        series.CLASS_REQUESTS,
        [((*labels, *key), n) for labels, t in totals for key, n in t.class_results.items()],
    )
    yield _counter(
        series.DECISIONS,
        [
            ((*labels, law.value, reason.value, str(acted).lower()), n)
            for labels, t in totals
            for (law, reason, acted), n in t.decisions.items()
        ],
    )
    yield _counter(series.TELEMETRY_DROPPED, [(labels, t.dropped) for labels, t in totals])
    yield _counter(series.ENGINE_STEPS, [(labels, t.steps) for labels, t in totals])
    yield _counter(series.ENGINE_PREEMPTIONS, [(labels, t.preemptions) for labels, t in totals])
    yield _counter(series.ENGINE_PREFILL_OPENED, [(labels, t.prefill_opened) for labels, t in totals])
    yield _counter(series.ENGINE_BUDGET_TOKENS, [(labels, t.budget_tokens) for labels, t in totals])
    yield _counter(series.ENGINE_RELEGATED, [(labels, t.relegated) for labels, t in totals])
    yield _histogram(series.ENGINE_STEP_SECONDS, [(labels, t.step_seconds) for labels, t in totals])
    yield _histogram(series.ENGINE_PREDICTED_SECONDS, [(labels, t.predicted_seconds) for labels, t in totals])


def _state(engines: Sequence[tuple[tuple[str, ...], Engine]], now: float) -> Iterator[Metric]:
    steps = [(labels, engine.measured.last_step) for labels, engine in engines if engine.measured.last_step is not None]
    yield _gauge(series.TELEMETRY_AGE, [(labels, max(0.0, now - step.completed_ns / 1e9)) for labels, step in steps])
    yield _gauge(series.ENGINE_RUNNING, [(labels, engine.running) for labels, engine in engines])
    yield _gauge(series.ENGINE_WAITING, [(labels, step.waiting) for labels, step in steps])
    yield _gauge(series.ENGINE_HELD, [(labels, step.held) for labels, step in steps])
    yield _gauge(series.ENGINE_TRIM, [(labels, step.trim) for labels, step in steps])
    yield _gauge(
        series.ENGINE_KV_USAGE,
        [(labels, step.kv_blocks_used / step.kv_blocks_total) for labels, step in steps if step.kv_blocks_total],
    )
    yield _gauge(series.SATURATED, [(labels, float(engine.is_saturated(now))) for labels, engine in engines])
    yield _gauge(
        series.ENGINE_CONTRACT,
        [
            ((*labels, mode.value), float(engine.config.contract.mode is mode))
            for labels, engine in engines
            if engine.config is not None
            for mode in ContractMode
        ],
    )


def _observed(counts: SLACounts, policy: Policy | None, loop: AgentLoop) -> Iterator[tuple[tuple[str, str], float]]:
    share = loop.front_end.seconds
    wanted: dict[str, int] = {} if policy is None else {name: target.percentile for name, target in _targets(policy)}
    histograms: dict[str, Counts] = {
        "ttft": shifted(counts.ttft, share),
        "itl": counts.itl,
        "e2e": shifted(counts.e2e, share),
    }
    for metric, histogram in histograms.items():
        for percentile in sorted({*PERCENTILES, wanted.get(metric, 95)}):
            value = quantile_seconds(histogram, percentile)
            if value is not None:
                yield (metric, str(percentile)), value
