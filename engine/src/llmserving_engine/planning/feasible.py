"""Which requests can still make their time to first token, kept up to date without going through the whole queue.

Moore and Hodgson (1968): go through the jobs by deadline and add up their work; whenever the sum passes a deadline,
give up the largest job taken so far. That leaves the fewest jobs late. Jobs that fit at all are few (their work fits
into one target), so the walk over them is short however long the queue is; those given up are only ever touched
again at the front of a heap.
"""

from __future__ import annotations

from bisect import insort
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import IntEnum
from heapq import heapify, heappop, heappush
from itertools import count
from typing import Any, Final, Protocol

from llmserving_engine.planning.fairness import LongPrompts

INCOMING_PER_STEP: Final = 64
"""Arrivals sorted in per step: a burst of any size costs no more than this at once."""
STALE_ENTRIES: Final = 64
"""Entries of jobs that moved on that a heap may hold beyond one for each live one, before it is cleared of them."""


class Prompted(Protocol):
    """What is needed of a request."""

    request_id: str
    num_computed_tokens: int


class Relegatable(Protocol):
    """Where it is noted that a request was put behind others."""

    relegated: bool


class Standing(IntEnum):
    """Where a request without its first token stands."""

    INCOMING = 0
    ACCEPTED = 1
    """Makes its deadline if nothing unforeseen happens."""
    LATE = 2
    """Given up so that others make theirs; its deadline is still ahead."""
    MISSED = 3
    """Its deadline has passed."""
    RESUMED = 4
    """Was preempted after its first token."""
    GONE = 5
    """Has its first token, or left."""
    UNHURRIED = 6
    """Has no deadline: behind all others of its priority, oldest first."""


@dataclass(slots=True, eq=False)
class Job:
    """One request until its first token.

    Attributes:
        request: The engine's request.
        rank: Priority and class; smaller goes first, whatever the deadlines.
        arrival: Engine time of arrival in seconds.
        tokens: Tokens whose KV is needed before the first token (or before going on, after preemption).
        track: Told when the request is relegated.
        deadline: Engine time by which the first token is due; set when it is sorted in.
        resumed: It has had its first token before and was preempted: it goes before all others.
        hurried: Whether it has a deadline at all.
        waiting: Whether it is in the waiting queue (else it runs and holds KV).
        standing: See `Standing`.
        cached: Tokens found in the prefix cache when it was last looked up.
        looked_up: The step of that lookup.
    """

    request: Prompted
    rank: int
    arrival: float
    tokens: int
    track: Relegatable
    deadline: float = 0.0
    resumed: bool = False
    hurried: bool = True
    waiting: bool = True
    standing: Standing = Standing.INCOMING
    cached: int = 0
    looked_up: int = -(1 << 60)

    @property
    def work(self) -> int:
        """Tokens still to compute."""
        return self.tokens - max(self.request.num_computed_tokens, self.cached)


def _due(job: Job) -> tuple[int, float]:
    return (job.rank, job.deadline)


@dataclass(slots=True)
class Ordering:
    """Requests without their first token, in the order in which they should be served."""

    accepted: list[Job] = field(default_factory=list)
    resumed: list[Job] = field(default_factory=list)
    long_prompts: LongPrompts = field(default_factory=LongPrompts)
    late_count: int = 0
    missed_count: int = 0
    missed_tokens: int = 0
    unhurried_count: int = 0
    _incoming: deque[Job] = field(default_factory=deque)
    _late: list[tuple[int, int, int, Job]] = field(default_factory=list)
    _late_due: list[tuple[float, int, Job]] = field(default_factory=list)
    _missed: list[tuple[int, float, int, Job]] = field(default_factory=list)
    _unhurried: list[tuple[int, float, int, Job]] = field(default_factory=list)
    _serial: count[int] = field(default_factory=count)

    def add(self, job: Job) -> None:
        """Take a new arrival."""
        if job.resumed:
            job.standing = Standing.RESUMED
            self.resumed.append(job)
            return
        if not job.hurried:
            job.standing = Standing.UNHURRIED
            self.unhurried_count += 1
            heappush(self._unhurried, (job.rank, job.arrival, next(self._serial), job))
            return
        job.standing = Standing.INCOMING
        self._incoming.append(job)
        self.long_prompts.arrived(job.tokens)

    def discard(self, job: Job) -> None:
        """Forget a job: first token, end or abort. Heaps drop it when it comes up."""
        if job.standing is Standing.ACCEPTED:
            self.accepted.remove(job)
        elif job.standing is Standing.RESUMED:
            self.resumed.remove(job)
        elif job.standing is Standing.LATE:
            self.late_count -= 1
        elif job.standing is Standing.MISSED:
            self.missed_count -= 1
            self.missed_tokens -= job.tokens
        elif job.standing is Standing.UNHURRIED:
            self.unhurried_count -= 1
        job.standing = Standing.GONE

    def refresh(self, now: float, tokens_per_second: float, target: float) -> None:
        """Sort in arrivals, retire passed deadlines, and give up what does not fit at this prefill rate."""
        self._retire(now)
        incoming = self._incoming
        for _ in range(min(len(incoming), INCOMING_PER_STEP)):
            job = incoming.popleft()
            if job.standing is not Standing.INCOMING:
                continue
            job.deadline = job.arrival + target
            if job.deadline <= now:
                self._miss(job)
            else:
                job.standing = Standing.ACCEPTED
                insort(self.accepted, job, key=_due)
        self._give_up(now, tokens_per_second)

    def _retire(self, now: float) -> None:
        due = self._late_due
        while due and due[0][0] <= now:
            job = heappop(due)[2]
            if job.standing is Standing.LATE:
                self.late_count -= 1
                self._miss(job)
        if len(self._late) > 2 * self.late_count + STALE_ENTRIES:
            self._late = _cleared(self._late, Standing.LATE)
        if len(self._missed) > 2 * self.missed_count + STALE_ENTRIES:
            self._missed = _cleared(self._missed, Standing.MISSED)
        if len(self._unhurried) > 2 * self.unhurried_count + STALE_ENTRIES:
            self._unhurried = _cleared(self._unhurried, Standing.UNHURRIED)

    def _miss(self, job: Job) -> None:
        job.standing = Standing.MISSED
        job.track.relegated = True
        self.missed_count += 1
        self.missed_tokens += job.tokens
        heappush(self._missed, (job.rank, job.arrival, next(self._serial), job))

    def _give_up(self, now: float, tokens_per_second: float) -> None:
        shorter: list[tuple[int, int, Job]] = []
        longer: list[tuple[int, int, Job]] = []
        long_prompts = self.long_prompts
        total = 0
        dropped = False
        rank: int | None = None
        for serial, job in enumerate(self.accepted):
            if job.rank != rank:  # nobody is given up for one of a lower rank
                rank, shorter, longer = job.rank, [], []
            work = job.tokens - max(job.request.num_computed_tokens, job.cached)
            total += work
            heappush(longer if job.tokens >= long_prompts.threshold else shorter, (-work, serial, job))
            if now + total / tokens_per_second > job.deadline:
                from_longer = longer and (long_prompts.may_bear_more or not shorter)
                work, _, victim = heappop(longer if from_longer else shorter)
                if not victim.track.relegated:
                    long_prompts.gave_up(victim.tokens)
                total += work
                victim.standing = Standing.LATE
                victim.track.relegated = True
                self.late_count += 1
                key = next(self._serial)
                heappush(self._late, (victim.rank, victim.work, key, victim))
                heappush(self._late_due, (victim.deadline, key, victim))
                dropped = True
        if dropped:
            self.accepted = [job for job in self.accepted if job.standing is Standing.ACCEPTED]

    def late(self, most: int) -> list[Job]:
        """Up to `most` given-up jobs whose deadline is ahead, shortest first."""
        return _front(self._late, Standing.LATE, most)

    def missed(self, most: int) -> list[Job]:
        """Up to `most` jobs whose deadline has passed, oldest first."""
        return _front(self._missed, Standing.MISSED, most)

    def unhurried(self, most: int) -> list[Job]:
        """Up to `most` jobs without a deadline, oldest first."""
        return _front(self._unhurried, Standing.UNHURRIED, most)

    def __len__(self) -> int:
        return len(self.accepted) + self.late_count + self.missed_count + self.unhurried_count + len(self._incoming)

    def __iter__(self) -> Iterator[Job]:
        yield from self.accepted
        yield from self.late(len(self._late))
        yield from self.missed(len(self._missed))
        yield from self.unhurried(len(self._unhurried))
        yield from (job for job in self._incoming if job.standing is Standing.INCOMING)


def _front(heap: list[Any], standing: Standing, most: int) -> list[Job]:
    """The first live entries of a heap; entries of jobs that moved on are dropped on the way."""
    taken: list[Any] = []
    while heap and len(taken) < most:
        entry = heappop(heap)
        if entry[-1].standing is standing:
            taken.append(entry)
    for entry in taken:
        heappush(heap, entry)
    return [entry[-1] for entry in taken]


def _cleared(heap: list[Any], standing: Standing) -> list[Any]:
    """The heap without entries of jobs that moved on."""
    live = [entry for entry in heap if entry[-1].standing is standing]
    heapify(live)
    return live
