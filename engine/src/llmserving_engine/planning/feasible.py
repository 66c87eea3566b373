"""Which requests can still make their time to first token, kept up to date without going through the whole queue.

Moore and Hodgson (1968): go through the jobs by deadline and add up their work; whenever the sum passes a deadline,
give up the largest job taken so far. That leaves the fewest jobs late. Jobs that fit at all are few (their work fits
into one target), so the walk over them is short however long the queue is; where they are many all the same (short prompts,
a target of minutes, none at all), it ends after the first of them, and the others are judged when they come near. Those given
up are only ever touched again at the front of their line.
"""

from __future__ import annotations

from bisect import insort
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from heapq import heappop, heappush
from itertools import count
from typing import Final

from llmserving_engine.planning.fairness import LongPrompts
from llmserving_engine.planning.job import Job, Standing
from llmserving_engine.planning.line import Line

SORTED_PER_STEP: Final = 32
"""Arrivals sorted in, and passed deadlines noted, per step: a burst of any size costs no more than this at once, ..."""
SORTED_ON_DEVICE: Final = 4 * SORTED_PER_STEP
"""... and so many while the device computes one; then ..."""
SORTED_SINCE: Final = 8
"""... no more than these between that and the next step."""
JUDGED_PER_STEP: Final = 128
"""Accepted jobs looked at per step, by deadline."""
NEW_TARGET: Final = 0.05
"""A target that moves by more than this share is an edit: it holds for those who wait as well. What the agent derives from the
end-to-end target moves a little all the time, and holds for those who come from then on."""


def _due(job: Job) -> tuple[int, float]:
    return (job.rank, job.deadline)


@dataclass(slots=True)
class Ordering:
    """Requests without their first token, in the order in which they should be served."""

    accepted: list[Job] = field(default_factory=list)
    resumed: list[Job] = field(default_factory=list)
    long_prompts: LongPrompts = field(default_factory=LongPrompts)
    missed_tokens: int = 0
    _target: float = 0.0
    _incoming: deque[Job] = field(default_factory=deque)
    _late: Line = field(default_factory=lambda: Line(Standing.LATE))
    _late_due: list[tuple[float, int, Job]] = field(default_factory=list)
    _missed: Line = field(default_factory=lambda: Line(Standing.MISSED))
    _unhurried: Line = field(default_factory=lambda: Line(Standing.UNHURRIED))
    _serial: count[int] = field(default_factory=count)

    @property
    def late_count(self) -> int:
        """Given up, their deadline ahead."""
        return self._late.count

    @property
    def missed_count(self) -> int:
        """Those whose deadline has passed."""
        return self._missed.count

    @property
    def unhurried_count(self) -> int:
        """Those without a deadline."""
        return self._unhurried.count

    def add(self, job: Job) -> None:
        """Take a new arrival."""
        if job.resumed:
            job.standing = Standing.RESUMED
            self.resumed.append(job)
            return
        if not job.hurried:
            job.standing = Standing.UNHURRIED
            self._unhurried.count += 1
            self._unhurried.push((job.rank, job.arrival, next(self._serial), job))
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
            self._late.count -= 1
        elif job.standing is Standing.MISSED:
            self._missed.count -= 1
            self.missed_tokens -= job.tokens
        elif job.standing is Standing.UNHURRIED:
            self._unhurried.count -= 1
        job.standing = Standing.GONE

    def catch_up(self, now: float, tokens_per_second: float, target: float) -> None:
        """While nobody waits for it: do what several refreshes would, as long as there is any, and clear the lines."""
        due = self._late_due
        for _ in range(0, SORTED_ON_DEVICE, SORTED_PER_STEP):
            if not self._incoming and not (due and due[0][0] <= now):
                break
            self.refresh(now, tokens_per_second, target)
        for line in (self._late, self._missed, self._unhurried):
            line.tidy()

    def refresh(self, now: float, tokens_per_second: float, target: float, most: int = SORTED_PER_STEP) -> None:
        """Note passed deadlines, sort in arrivals, up to `most` of each, and give up what does not fit at this prefill rate."""
        if abs(target - self._target) > NEW_TARGET * self._target:
            self._retarget(now, target)
        self._retire(now, most)
        incoming = self._incoming
        for _ in range(min(len(incoming), most)):
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

    def _retarget(self, now: float, target: float) -> None:
        """The target was edited: everybody is due anew. This alone goes through all who wait, once for each edit."""
        self._target, self._late_due = target, []
        for job in self.accepted:
            job.deadline = job.arrival + target
        self.accepted.sort(
            key=_due
        )  # nearly is: with no target, arrivals within a tenth of a microsecond were due at once
        for job in [*self._late.take(), *self._missed.take(lambda job: job.arrival + target > now)]:
            if job.standing is Standing.MISSED:
                self.missed_tokens -= job.tokens
            job.standing = Standing.INCOMING
            self._incoming.append(job)

    def _retire(self, now: float, most: int) -> None:
        due = self._late_due
        retired = 0
        while due and due[0][0] <= now and retired < most:
            job = heappop(due)[2]
            if job.standing is Standing.LATE:
                self._late.count -= 1
                self._miss(job)
                retired += 1
        for line in (self._late, self._missed, self._unhurried):
            line.tidy(patience=2)  # where nobody catches up

    def _miss(self, job: Job) -> None:
        job.standing = Standing.MISSED
        job.track.relegated = True
        self._missed.count += 1
        self.missed_tokens += job.tokens
        self._missed.push((job.rank, job.arrival, next(self._serial), job))

    def _give_up(self, now: float, tokens_per_second: float) -> None:
        judged = self.accepted[:JUDGED_PER_STEP]
        total = 0
        for job in judged:
            total += job.left
            if now + total / tokens_per_second > job.deadline:
                break
        else:
            return  # as nearly always
        shorter: list[tuple[int, int, Job]] = []
        longer: list[tuple[int, int, Job]] = []
        long_prompts = self.long_prompts
        total = 0
        rank: int | None = None
        for serial, job in enumerate(judged):
            if job.rank != rank:  # nobody is given up for one of a lower rank
                rank, shorter, longer = job.rank, [], []
            work = job.left
            total += work
            heappush(longer if job.tokens >= long_prompts.threshold else shorter, (-work, serial, job))
            if now + total / tokens_per_second > job.deadline:
                from_longer = longer and (long_prompts.may_bear_more or not shorter)
                work, _, victim = heappop(longer if from_longer else shorter)
                total += work
                if not victim.track.relegated:
                    long_prompts.gave_up(victim.tokens)
                self._give_way(victim)

    def _give_way(self, job: Job) -> None:
        self.accepted.remove(job)
        job.standing = Standing.LATE
        job.track.relegated = True
        self._late.count += 1
        key = next(self._serial)
        self._late.push((job.rank, job.work, key, job))
        heappush(self._late_due, (job.deadline, key, job))

    def late(self, most: int) -> list[Job]:
        """Up to `most` given-up jobs whose deadline is ahead, shortest first."""
        return self._late.front(most)

    def missed(self, most: int) -> list[Job]:
        """Up to `most` jobs whose deadline has passed, oldest first."""
        return self._missed.front(most)

    def unhurried(self, most: int) -> list[Job]:
        """Up to `most` jobs without a deadline, oldest first."""
        return self._unhurried.front(most)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __iter__(self) -> Iterator[Job]:
        yield from self.accepted
        yield from self.late(len(self._late))
        yield from self.missed(len(self._missed))
        yield from self.unhurried(len(self._unhurried))
        yield from (job for job in self._incoming if job.standing is Standing.INCOMING)
