"""Which requests a step may work on, in which order: as far as slots and the KV cache allow.

No work grows with the queue: groups of requests are made one after the other, and only as long as those before did not fill
the step.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from operator import attrgetter

from llmserving_engine.planning.admission import Room
from llmserving_engine.planning.feasible import JUDGED_PER_STEP, Ordering
from llmserving_engine.planning.forecast import Coming, Forecast
from llmserving_engine.planning.inflow import Inflow
from llmserving_engine.planning.job import Job, Standing
from llmserving_engine.planning.lengths import OutputLengths
from llmserving_engine.planning.lives import Lives
from llmserving_engine.planning.pace import Pace
from llmserving_engine.planning.protocol import StepView
from llmserving_engine.planning.relegation import WAIT, Ageing
from llmserving_engine.planning.sizing import Work

FRONT = 48
"""Requests that one step may work on."""
LATE_FRONT = 8
"""The same of those given up, of those who missed, and of those without a deadline."""
AGEING_FRONT = 32
"""Missed requests, oldest first, from which their share is set."""
AGEING_STEPS = 8
"""Steps between two settings of that share; it is set while the device computes."""
LOOKUPS = 2
"""Requests looked up in the prefix cache in one step, ..."""
LOOKUP_STEPS = 32
"""... each again after so many steps."""
OUTLOOK = 8
"""Waiting requests looked at in a step that can admit none."""
UNKNOWN_RATE = 1e9
"""Prefill rate before the first model: nobody is given up on a guess."""
BATCH_FILL = 0.3
"""Use of the KV cache up to which batch requests are admitted, so that others find room when they come, ..."""
ROOM_SECONDS = 30.0
"""... for so long after the last of those others came; then batch requests may fill it."""

_rank = attrgetter("rank")


@dataclass(slots=True)
class Candidates:
    """Chooses them.

    Attributes:
        order: Requests without their first token.
        ageing: Share of those who missed.
        lives: Decoding requests by how long their outputs are.
        lengths: How long outputs get.
        pace: How fast prompts are computed.
        has_priorities: Whether any request had a priority.
        room_until: Engine time until which room is kept for requests that are not batch.
        aged: Step in which the share of those who missed was set last.
        inflow: How many requests come.
        foreseen: What the running will hold, made while the device computes.
        is_short: Whether the last step had no room for somebody, or kept it for those who come.
    """

    order: Ordering
    ageing: Ageing
    lives: Lives
    lengths: OutputLengths
    pace: Pace
    has_priorities: bool = False
    room_until: float = 0.0
    aged: int = 0
    inflow: Inflow = field(default_factory=Inflow)
    foreseen: Forecast | None = None
    is_short: bool = False

    def work(
        self, view: StepView, partials: Sequence[Job], decodes: int, start: float, ttft: float, bearable: float
    ) -> Work:
        """Prompt tokens in the order in which they should be computed.

        Args:
            view: The engine's state.
            partials: Requests whose prompt is computed in part.
            decodes: Requests that decode.
            start: When the step will begin, engine time in seconds.
            ttft: Target in seconds.
            bearable: KV tokens that decodes can attend to in time.
        """
        work = Work()
        kept_free = (1 - BATCH_FILL) * view.kv_blocks_total if start < self.room_until else 0.0
        blocks = view.kv_blocks_free - 1 - decodes // view.block_size
        room = Room(
            view, self.lives, self.lengths, self.foreseen, blocks=blocks, kept_free=kept_free, bearable=bearable
        )
        self.foreseen = None
        coming = Coming(self.inflow.per_step(start, self.pace.step), self.inflow.prompt)
        oldest = self._oldest(view.step, start, ttft)
        most = view.bounds.max_num_batched_tokens
        lookups, outlook = LOOKUPS, OUTLOOK
        for job in chain.from_iterable(self._fronts(oldest)):
            if job.waiting and lookups and job.looked_up + LOOKUP_STEPS <= view.step:
                lookups -= 1
                job.looked_up = view.step
                job.cached = view.cached_tokens(job.request)
            tokens = job.left = job.work
            can_wait = job.standing is Standing.MISSED and job not in oldest
            if job.waiting and not room.admits(job, tokens, coming if can_wait else None):
                if room.is_closed or room.is_kept:
                    outlook -= 1
                    if outlook <= 0:
                        break
            elif tokens <= 0:
                work.done.append(job)
            else:
                work.add(job, tokens)
                if work.tokens >= most or len(work.jobs) >= FRONT:
                    break
        self.is_short = room.is_blocked or room.is_kept
        _add_rest(work, partials)
        if not decodes and not work.jobs and not work.refused and self.is_short:
            self._unblock(work)
        work.put_refused_last()
        work.is_blocked = room.is_blocked
        return work

    def foresee(self, prompts: Sequence[int]) -> None:
        """Make the forecast for the next step; `prompts`: tokens of those whose prompts are being computed."""
        self.foreseen = Forecast(self.lives.kept(prompts), self.lengths)

    def age(self, step: int, now: float, ttft: float, steps: int = AGEING_STEPS) -> None:
        """Set the share of those who missed, once it is so many steps old."""
        order = self.order
        if order.missed_count and step - self.aged >= steps:
            self.aged = step
            oldest, rate = order.missed(AGEING_FRONT), self.pace.served or UNKNOWN_RATE
            if now - oldest[0].arrival > WAIT * ttft:  # work never ran out since: no more can be computed than was
                rate = min(rate, self.pace.flow or rate)
            self.ageing.update(oldest, order.missed_tokens, now, rate, ttft)

    def _oldest(self, step: int, start: float, ttft: float) -> Sequence[Job]:
        """The missed request that goes first, if their share is due."""
        if not self.order.missed_count:
            return ()
        self.age(step, start, ttft, 2 * AGEING_STEPS)  # where nobody said when the device computes
        return self.order.missed(1) if self.ageing.is_due else ()

    def _fronts(self, oldest: Sequence[Job]) -> Iterator[Sequence[Job]]:
        """Requests without their first token, group after group."""
        yield self.order.resumed[::-1]  # the engine puts each back at the head of its queue
        yield oldest
        by_deadline = self._by_deadline(oldest)
        if self.has_priorities:
            yield sorted(chain.from_iterable(by_deadline), key=_rank)
        else:
            yield from by_deadline

    def _by_deadline(self, oldest: Sequence[Job]) -> Iterator[Sequence[Job]]:
        order = self.order
        yield order.accepted[:JUDGED_PER_STEP]
        if order.late_count:
            yield order.late(LATE_FRONT)
        if order.missed_count:
            yield order.missed(LATE_FRONT)[len(oldest) :]
        if order.unhurried_count:
            yield order.unhurried(LATE_FRONT)

    def _unblock(self, work: Work) -> None:
        """Nothing runs and the forecast admits nobody: the first in order is let in alone, whatever it may grow to."""
        order = self.order
        for group in (order.resumed[::-1], order.accepted, order.late(1), order.missed(1), order.unhurried(1)):
            for job in group:
                work.add(job, job.work)
                return


def _add_rest(work: Work, partials: Sequence[Job]) -> None:
    """Those computed in part that are not among them yet: they hold memory, however many are before them."""
    for job in partials:
        if job not in work.jobs and job not in work.done:
            tokens = job.work
            if tokens > 0:
                work.add(job, tokens)
            else:
                work.done.append(job)
