"""Counts since the agent's start, for metrics."""

from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from llmserving_api.conditions import DecisionReason
from llmserving_api.latency import value_seconds
from llmserving_api.policy import LawName
from llmserving_api.telemetry import Pairs, RequestClass, StepFlag, StepRecord

STEP_EDGES = (0.002, 0.005, 0.01, 0.015, 0.02, 0.025, 0.03, 0.04, 0.05, 0.06, 0.08, 0.1, 0.15, 0.2, 0.5, 1.0, 5.0)
TICK_EDGES = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5)

CLASS_NAMES: Mapping[int, str] = {one.value: one.name.lower() for one in RequestClass}


class Buckets:
    """A cumulative histogram in seconds with fixed upper edges, as Prometheus has them."""

    def __init__(self, edges: tuple[float, ...]) -> None:
        self._edges = edges
        self._counts = [0] * (len(edges) + 1)
        self.sum = 0.0

    def add(self, seconds: float) -> None:
        """Count one value."""
        self._counts[bisect_left(self._edges, seconds)] += 1
        self.sum += seconds

    def cumulative(self) -> list[tuple[str, float]]:
        """Pairs of edge and count of values up to it, the last edge infinite."""
        pairs: list[tuple[str, float]] = []
        total = 0
        for edge, count in zip((*self._edges, float("inf")), self._counts, strict=True):
            total += count
            pairs.append(("+Inf" if edge == float("inf") else str(edge), total))
        return pairs


@dataclass(slots=True)
class EngineTotals:
    """Counts of one engine rank.

    Attributes:
        steps: Engine steps.
        step_seconds: Their durations, where known.
        predicted_seconds: What the step-time model foresaw, where there is one.
        budget_tokens: Sum of the token budgets that steps were granted.
        preemptions: Requests preempted.
        prefill_opened: Steps whose token budget was opened because prefill made no progress.
        dropped: Telemetry records lost.
        first_tokens: Requests that got their first token.
        first_token_seconds: Sum of their times to it.
        relegated: Requests that left after being put behind others.
        results: Requests that left, by verdict, without batch requests.
        class_results: All that left, by class and verdict.
        decisions: Decisions by law, reason and whether they were carried out.
    """

    steps: int = 0
    step_seconds: Buckets = field(default_factory=lambda: Buckets(STEP_EDGES))
    predicted_seconds: Buckets = field(default_factory=lambda: Buckets(STEP_EDGES))
    budget_tokens: int = 0
    preemptions: int = 0
    prefill_opened: int = 0
    dropped: int = 0
    first_tokens: int = 0
    first_token_seconds: float = 0.0
    relegated: int = 0
    results: Counter[str] = field(default_factory=lambda: Counter(good=0, missed=0, failed=0, aborted=0))
    class_results: Counter[tuple[str, str]] = field(default_factory=Counter)
    decisions: Counter[tuple[LawName, DecisionReason, bool]] = field(default_factory=Counter)

    def add(self, record: StepRecord) -> None:
        """Count one step."""
        self.steps += 1
        if record.duration_ns:
            self.step_seconds.add(record.duration_ns / 1e9)
        if record.predicted_ns:
            self.predicted_seconds.add(record.predicted_ns / 1e9)
        self.budget_tokens += record.token_budget
        self.preemptions += record.preempted
        self.prefill_opened += bool(record.flags & StepFlag.PREFILL_OPENED)
        self.add_first_tokens(record.first_tokens)

    def add_result(self, request_class: int, verdict: str, count: int = 1) -> None:
        """Count requests that left."""
        if request_class != RequestClass.BATCH:
            self.results[verdict] += count
        self.class_results[CLASS_NAMES.get(request_class, "unknown"), verdict] += count

    def add_first_tokens(self, pairs: Pairs) -> None:
        """Count times to first token."""
        for bucket, count in pairs:
            self.first_tokens += count
            self.first_token_seconds += count * value_seconds(bucket)
