"""The control window: recent engine steps under unchanged bounds.

Steps of older bounds say nothing about the present ones, so the window is cut at every change of the applied bounds,
which each step record carries. Within an epoch it forgets what is older than its horizon.
"""

from collections import deque
from dataclasses import dataclass, field

from llmserving_api.latency import Counts, merge
from llmserving_api.telemetry import MoreRecord, StepFlag, StepRecord

SLOT_NS = 250_000_000
FULL_SHARE = 0.98
"""A step that used at least this share of its token budget was held back by it."""


@dataclass(frozen=True, slots=True)
class Steps:
    """Means over steps of one kind: how many, seconds of one, decoding requests and scheduled tokens in one."""

    count: int = 0
    seconds: float = 0.0
    decodes: float = 0.0
    tokens: float = 0.0


@dataclass(slots=True)
class _Sums:
    count: int = 0
    ns: int = 0
    decodes: int = 0
    tokens: int = 0

    def add(self, record: StepRecord) -> None:
        self.count += 1
        self.ns += record.duration_ns
        self.decodes += record.decode_requests
        self.tokens += record.prefill_tokens + record.decode_tokens


@dataclass(slots=True)
class _Slot:
    start_ns: int
    steps: int = 0
    decode: _Sums = field(default_factory=_Sums)
    mixed: _Sums = field(default_factory=_Sums)
    full: _Sums = field(default_factory=_Sums)
    gaps: dict[int, int] = field(default_factory=dict)
    first_tokens: dict[int, int] = field(default_factory=dict)
    preempted: int = 0
    seqs_bound: int = 0


@dataclass(frozen=True, slots=True)
class EpochSums:
    """What happened in the control window.

    Attributes:
        span_seconds: From its first to its newest step.
        steps: All steps.
        decode: Steps without prefill whose duration is known.
        mixed: Steps with prefill and decodes.
        full: Those of the mixed steps that used up their token budget.
        gaps: Inter-token gaps that ended in it.
        first_tokens: Times to first token in it.
        preempted: Requests preempted.
        seqs_binding: Share of steps in which the sequence bound held a waiting request back.
        tokens_binding: Share of mixed steps that used up their token budget.
    """

    span_seconds: float
    steps: int
    decode: Steps
    mixed: Steps
    full: Steps
    gaps: Counts
    first_tokens: Counts
    preempted: int
    seqs_binding: float
    tokens_binding: float


class Epoch:
    """Gathers step records; see the module."""

    def __init__(self, horizon_seconds: float = 5.0) -> None:
        self._horizon_ns = round(horizon_seconds * 1e9)
        self._slots: deque[_Slot] = deque()
        self._bounds: tuple[int, int] | None = None
        self._first_ns = 0
        self._last_ns = 0

    def restart(self) -> None:
        """Forget everything: the engine or the targets are new."""
        self._slots.clear()
        self._bounds = None

    def add(self, record: StepRecord) -> None:
        """Count one step; the first under new bounds starts a new epoch and is itself left out.

        Under asynchronous scheduling that first step's duration still belongs to the batch launched before it.
        """
        bounds = (record.max_num_seqs, record.max_num_batched_tokens)
        if bounds != self._bounds:
            self._slots.clear()
            self._bounds = bounds
            self._first_ns = self._last_ns = record.completed_ns
            return
        self._last_ns = record.completed_ns
        slot = self._slot(record.completed_ns)
        slot.steps += 1
        slot.preempted += record.preempted
        if record.waiting and record.running >= record.max_num_seqs - 1:
            slot.seqs_bound += 1
        if record.duration_ns and record.decode_requests:
            if record.prefill_tokens == 0:
                slot.decode.add(record)
            elif not record.flags & StepFlag.PREFILL_OPENED:
                slot.mixed.add(record)
                if record.prefill_tokens + record.decode_tokens >= FULL_SHARE * record.token_budget:
                    slot.full.add(record)
        _count(slot.gaps, record.gaps)
        _count(slot.first_tokens, record.first_tokens)

    def add_more(self, record: MoreRecord) -> None:
        """Count the latencies that did not fit the newest step's record."""
        if self._slots:
            _count(self._slots[-1].gaps, record.gaps)
            _count(self._slots[-1].first_tokens, record.first_tokens)

    def sums(self, now_ns: int) -> EpochSums:
        """The window as of now."""
        while self._slots and self._slots[0].start_ns + SLOT_NS <= now_ns - self._horizon_ns:
            self._slots.popleft()
        slots = self._slots
        start = max(self._first_ns, slots[0].start_ns) if slots else self._last_ns
        steps = sum(slot.steps for slot in slots)
        mixed = _means([slot.mixed for slot in slots])
        full = _means([slot.full for slot in slots])
        return EpochSums(
            span_seconds=(self._last_ns - start) / 1e9,
            steps=steps,
            decode=_means([slot.decode for slot in slots]),
            mixed=mixed,
            full=full,
            gaps=merge(slot.gaps for slot in slots),
            first_tokens=merge(slot.first_tokens for slot in slots),
            preempted=sum(slot.preempted for slot in slots),
            seqs_binding=sum(slot.seqs_bound for slot in slots) / steps if steps else 0.0,
            tokens_binding=full.count / mixed.count if mixed.count else 0.0,
        )

    def _slot(self, at_ns: int) -> _Slot:
        start = at_ns - at_ns % SLOT_NS
        if not self._slots or self._slots[-1].start_ns < start:
            self._slots.append(_Slot(start))
            while self._slots[0].start_ns + SLOT_NS <= at_ns - self._horizon_ns:
                self._slots.popleft()
        return self._slots[-1]


def _count(into: dict[int, int], pairs: tuple[tuple[int, int], ...]) -> None:
    for bucket, count in pairs:
        into[bucket] = into.get(bucket, 0) + count


def _means(parts: list[_Sums]) -> Steps:
    count = sum(part.count for part in parts)
    if count == 0:
        return Steps()
    return Steps(
        count=count,
        seconds=sum(part.ns for part in parts) / count / 1e9,
        decodes=sum(part.decodes for part in parts) / count,
        tokens=sum(part.tokens for part in parts) / count,
    )
