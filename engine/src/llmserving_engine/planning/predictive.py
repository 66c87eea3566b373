"""The predictive law in the step: as long as token deadlines allow, filled so that most requests are served in time.

One step, in order:

1. When does it start, and how old are the decodes' last tokens then (`slack`)? What is left of the inter-token target, less
   a guard band for the model's own error, is the time of the step.
2. Which requests can still make their first token (`feasible`)? They go first, by deadline; then those given up, shortest
   first; then those already missed, oldest first. The missed have a share of their own, so that they are never starved.
3. Which of them fit the KV cache until they end (`admission`)?
4. Prompt tokens beside the decodes, or in a step of their own between two decode steps? Attention kernels that serve both
   at once cost more than the two apart, a second step reads the weights once more: whichever gets more tokens computed.
5. When requests wait and the running ones can bear it, one long prefill step (`slack`).

No work grows with the queue: requests enter the order one by one, and only its front is looked at.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from operator import attrgetter
from typing import Any

from llmserving_engine.planning.admission import EASY, Forecast
from llmserving_engine.planning.feasible import JUDGED_PER_STEP, Job, Ordering, Standing
from llmserving_engine.planning.lengths import REFRESH, OutputLengths
from llmserving_engine.planning.probing import Probe
from llmserving_engine.planning.protocol import StepDone, StepPlan, StepView, Track
from llmserving_engine.planning.relegation import Ageing
from llmserving_engine.planning.settings import PredictiveSettings, read_settings
from llmserving_engine.planning.sizing import Work, largest
from llmserving_engine.planning.slack import LONGEST_GAP, Stream
from llmserving_engine.planning.step_model import Trim
from llmserving_engine.telemetry import RequestClass

FRONT = 48
"""Requests that one step may work on."""
LATE_FRONT = 8
"""The same of those given up, of those who missed, and of those without a deadline."""
AGEING_FRONT = 32
"""Missed requests, oldest first, from which their share is set."""
PRESSURE_WEIGHT = 0.02
"""Weight of one step in the share of steps in which memory kept requests out."""
KV_BOUND = 0.5
"""From this share on, memory and not the device limits how fast requests are served."""
FLOW_SECONDS = 4.0
"""Time over which the rate of prompt tokens is taken."""
LOOKUPS = 4
"""Requests looked up in the prefix cache in one step, ..."""
LOOKUP_STEPS = 32
"""... each again after so many steps."""
AGEING_STEPS = 8
"""Steps between two settings of the share of those who missed."""
NO_TARGET_SECONDS = 0.5
"""Longest step where there is no inter-token target."""
FOREVER = 1e9
UNKNOWN_RATE = 1e9
"""Prefill rate before the first model: nobody is given up on a guess."""

BATCH_FILL = 0.3
"""Use of the KV cache up to which batch requests are admitted, so that others find room when they come, ..."""
ROOM_SECONDS = 30.0
"""... for so long after the last of those others came; then batch requests may fill it."""

_computed_tokens = attrgetter("num_computed_tokens")
_rank = attrgetter("rank")


@dataclass(slots=True)
class _Decodes:
    """The running decodes of the step being planned: how many, the tokens they attend to, and what they take alone."""

    count: int
    context: int
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class _Choice:
    """What the step shall be."""

    tokens: int = 0
    beside_decodes: bool = True
    seconds: float = 0.0
    is_long: bool = False


class Predictive:
    """See the module's text."""

    name = "predictive"
    orders_waiting = True

    def __init__(self, settings: PredictiveSettings) -> None:
        self._settings = settings
        self._times = Trim(settings.model)
        self._probe = Probe()
        self._order = Ordering()
        self._stream = Stream()
        self._ageing = Ageing()
        self._lengths = OutputLengths()
        self._jobs: dict[str, Job] = {}
        self._granted: list[Job] = []
        self._room_until = 0.0
        self._has_priorities = False
        self._rate = 0.0
        self._pressure = 0.0
        self._flow = 0.0
        self._last_long = 0
        self._largest_step = 512

    # Requests

    def configure(self, parameters: Mapping[str, Any]) -> None:
        """A newly fitted model or other percentiles; what is known of the requests stays."""
        self._settings = read_settings(parameters)
        self._times.adopt(self._settings.model)

    def arrived(self, track: Track) -> None:
        """A new request, or one that was there before this planner."""
        request = track.request
        if track.request_class is not RequestClass.BATCH:
            self._room_until = track.arrival_ns * 1e-9 + ROOM_SECONDS
        self._has_priorities |= request.priority != 0
        if track.first_token_ns or track.decoding:
            self._stream.join(request.request_id)
        if not track.decoding:
            self._enter(track, resumed=track.first_token_ns > 0)

    def departed(self, track: Track) -> None:
        """A request ended: learn its length, forget it."""
        request = track.request
        job = self._jobs.pop(request.request_id, None)
        if job is not None:
            self._order.discard(job)
        self._stream.leave(request.request_id)
        if request.status.name in ("FINISHED_STOPPED", "FINISHED_LENGTH_CAPPED", "FINISHED_REPETITION"):
            lengths = self._lengths
            lengths.end(request.num_output_tokens)
            if lengths.finished % REFRESH == 0:
                steps = self._stream.decode_steps
                lengths.refresh(steps - joined for joined, _ in self._stream.joins.values())

    def preempted(self, track: Track) -> None:
        """A request lost its KV and must be computed again; it is the first to come back."""
        request_id = track.request.request_id
        old = self._jobs.pop(request_id, None)
        if old is not None:
            self._order.discard(old)
        self._enter(track, resumed=track.first_token_ns > 0)

    def _enter(self, track: Track, *, resumed: bool = False) -> Job:
        """Note a request that has tokens to compute; those that run already are told from `view.prefilling`."""
        request = track.request
        arrival = track.arrival_ns * 1e-9
        is_batch = track.request_class is RequestClass.BATCH
        job = Job(
            request, 2 * request.priority + is_batch, arrival, request.num_tokens, track,
            resumed=resumed, hurried=not is_batch,
        )  # fmt: skip
        self._jobs[request.request_id] = job
        self._order.add(job)
        return job

    # A step

    def plan(self, view: StepView) -> StepPlan:
        """Decide the coming step."""
        self._settle(view)
        itl = self._itl
        start, last_decode = self._stream.start(view.now_ns * 1e-9, view.in_flight_steps)
        rate = self._served_rate() * self._settings.rate_share or UNKNOWN_RATE
        self._order.refresh(start, rate, self._ttft(view))
        decodes = _decodes(view)
        work = self._work(view, decodes, start)
        if self._times.model is None:
            choice = self._probed(view, decodes, work, itl)
        else:
            if decodes.count:
                decodes.seconds = self._times.seconds(0, 0.0, decodes.count, decodes.context)
            choice = self._choose(view, decodes, work, itl, start - last_decode if decodes.count else 0.0)
        return self._emit(view, decodes, work, choice, start)

    def completed(self, done: StepDone) -> None:
        """A step came back: correct the clock and the predictions."""
        held = done.composition
        self._stream.landed(
            done.step,
            done.completed_ns * 1e-9,
            has_decodes=held.decode_requests > 0,
            target=self._itl,
        )
        if done.duration_ns:
            seconds = done.duration_ns * 1e-9
            weight = min(1.0, seconds / FLOW_SECONDS)
            self._flow += weight * (held.prefill_tokens / seconds - self._flow)
            self._largest_step = max(self._largest_step, held.prefill_tokens)
            self._probe.completed(held.prefill_tokens + held.decode_requests, seconds)
            self._times.observe(
                held.prefill_tokens,
                held.prefill_attention_tokens,
                held.decode_requests,
                held.decode_context_tokens,
                seconds,
            )

    _itl = NO_TARGET_SECONDS

    def _settle(self, view: StepView) -> None:
        """Requests granted tokens before: who has its prompt computed now, who was not taken?"""
        self._itl = view.targets.itl_ns * 1e-9 or NO_TARGET_SECONDS
        for request_id, request in view.prefilling.items():
            job = self._jobs.get(request_id)
            if job is not None and not job.resumed and job.tokens < request.num_tokens:
                self._order.discard(job)  # its first token came after it was preempted: a stream waits for it now
                job = None
            if job is None:  # it has tokens to compute whatever we thought of it: never leave it out
                track = view.tracks.get(request_id) or Track(request, view.now_ns)
                job = self._enter(track, resumed=track.first_token_ns > 0)
            elif job.resumed:  # the last token before it was preempted may have come since
                job.tokens = request.num_tokens
            job.waiting = False
            job.cached = 0  # what was found in the cache is computed; what was lost from it meanwhile is not
        for job in self._granted:
            request = job.request
            if job.standing is Standing.GONE:
                continue
            job.refused = job.waiting
            if request.num_computed_tokens >= job.tokens:
                del self._jobs[request.request_id]
                self._order.discard(job)
                if not job.resumed:
                    self._stream.join(request.request_id)
        self._granted = []

    def _ttft(self, view: StepView) -> float:
        return min(view.targets.ttft_ns * 1e-9 or FOREVER, self._settings.ttft_seconds)

    def _work(self, view: StepView, decodes: _Decodes, start: float) -> Work:
        """Prompt tokens in the order in which they should be computed, as far as slots and KV allow."""
        work = Work()
        slots = view.bounds.max_num_seqs - len(view.running)
        blocks = view.kv_blocks_free - 1 - decodes.count // view.block_size
        kept_free = (1 - BATCH_FILL) * view.kv_blocks_total if start < self._room_until else 0.0
        forecast: Forecast | None = None
        blocked = False
        lookups = LOOKUPS
        ttft = self._ttft(view)
        most = view.bounds.max_num_batched_tokens
        for group in self._fronts(view.step, start, ttft):
            for job in group:
                if job.waiting and lookups:
                    lookups -= _look_up(view, job)
                if job.waiting and (blocked or slots <= 0 or (not job.hurried and blocks < kept_free)):
                    continue
                tokens = job.work
                if tokens <= 0:
                    self._granted.append(job)
                    continue
                if job.waiting:
                    need = -(-(job.tokens + 1) // view.block_size)
                    if need > blocks:
                        blocked = True
                        continue
                    if view.kv_blocks_free - need < (1 - EASY) * view.kv_blocks_total and not job.resumed:
                        forecast = forecast or self._forecast(view)
                        if not forecast.admits(job.tokens):
                            blocked = True
                            continue
                    blocks -= need
                    slots -= 1
                work.add(job, tokens)
                if work.tokens >= most or len(work.jobs) >= FRONT:
                    break
            if work.tokens >= most or len(work.jobs) >= FRONT:
                break
        if not decodes.count and not work.jobs and not work.refused and blocked:
            self._unblock(work)
        work.put_refused_last()
        self._pressure += PRESSURE_WEIGHT * (blocked - self._pressure)
        return work

    def _fronts(self, step: int, start: float, ttft: float) -> Iterator[Sequence[Job]]:
        """Requests without their first token, group after group; a group is only made when those before did not fill."""
        order, ageing = self._order, self._ageing
        oldest: list[Job] = []
        if order.missed_count:
            if step % AGEING_STEPS == 0:
                ageing.update(
                    order.missed(AGEING_FRONT), order.missed_tokens, start, self._served_rate() or UNKNOWN_RATE, ttft
                )
            oldest = order.missed(1) if ageing.is_due else []
        yield order.resumed
        yield oldest
        by_deadline = self._by_deadline(oldest)
        if self._has_priorities:
            yield sorted(chain.from_iterable(by_deadline), key=_rank)
        else:
            yield from by_deadline

    def _by_deadline(self, oldest: Sequence[Job]) -> Iterator[Sequence[Job]]:
        order = self._order
        yield order.accepted[:JUDGED_PER_STEP]
        if order.late_count:
            yield order.late(LATE_FRONT)
        if order.missed_count:
            yield order.missed(LATE_FRONT)[len(oldest) :]
        if order.unhurried_count:
            yield order.unhurried(LATE_FRONT)

    def _unblock(self, work: Work) -> None:
        """Nothing runs and the forecast admits nobody: the first in order is let in alone, whatever it may grow to."""
        order = self._order
        for group in (order.resumed, order.accepted, order.late(1), order.missed(1), order.unhurried(1)):
            for job in group:
                work.add(job, job.work)
                return

    def _forecast(self, view: StepView) -> Forecast:
        prefilling = view.prefilling
        lives = []
        for request in view.running:
            if request.request_id in prefilling:
                lives.append((0, request.num_tokens))
            else:
                computed = request.num_computed_tokens
                lives.append((computed - request.num_prompt_tokens + 1, computed))
        return Forecast(view.kv_blocks_total * view.block_size, lives, self._lengths)

    def _probed(self, view: StepView, decodes: _Decodes, work: Work, itl: float) -> _Choice:
        """Before the first model: beside the decodes, with a token budget found by feedback."""
        most = view.bounds.max_num_batched_tokens - decodes.count * view.decode_tokens
        return _Choice(max(0, min(work.tokens, self._probe.budget(itl, most))))

    def _choose(self, view: StepView, decodes: _Decodes, work: Work, itl: float, age: float) -> _Choice:
        seconds, pairs = self._times.seconds, work.pairs
        n, context = decodes.count, decodes.context
        total = min(work.tokens, view.bounds.max_num_batched_tokens - n * view.decode_tokens)
        if not total or total <= 0:
            return _Choice(seconds=decodes.seconds)

        def alone(tokens: int) -> float:
            return seconds(tokens, pairs(tokens), 0, 0)

        def mixed(tokens: int) -> float:
            return seconds(tokens, pairs(tokens), n, context)

        sure = 1.0 - self._settings.guard(self._times.error)
        target = itl * sure
        target *= 1.0 - self._settings.kv_relief * self._pressure
        if not n:
            tokens = largest(alone, total, target, 0.0) or min(total, 64)
            self._note_rate(tokens, alone(tokens), total)
            return _Choice(tokens, False, alone(tokens))
        if self._may_be_long(itl, age, min(total, work.hurried_tokens)):
            limit = self._settings.long_share * sure * LONGEST_GAP * itl - age - decodes.seconds
            tokens = largest(alone, min(total, 2 * self._largest_step), limit, decodes.seconds)
            if tokens and alone(tokens) > 1.5 * itl and self._is_bearable():
                self._last_long = self._stream.decode_steps
                self._note_rate(tokens, alone(tokens), total)
                return _Choice(tokens, False, alone(tokens), is_long=True)
        apart = largest(alone, total, target - age - decodes.seconds, decodes.seconds)
        beside = largest(mixed, total, target - age, 0.0)
        if not apart and not beside:
            return _Choice(seconds=decodes.seconds)
        is_tie = apart == beside
        is_apart = decodes.seconds + alone(apart) < mixed(apart) if is_tie else apart > beside
        if is_apart:
            self._note_rate(apart, alone(apart) + decodes.seconds + age, total)
            return _Choice(apart, False, alone(apart))
        self._note_rate(beside, mixed(beside) + age, total)
        return _Choice(beside, True, mixed(beside))

    def _may_be_long(self, itl: float, age: float, total: int) -> bool:
        settings, order = self._settings, self._order
        if settings.long_share <= 0 or age > 0.5 * itl or total < 1000:
            return False
        if self._pressure > KV_BOUND:  # memory limits, and requests that take longer hold theirs longer
            return False
        if self._stream.decode_steps - self._last_long < settings.long_spacing / settings.itl_allowance:
            return False
        return bool(order.late_count or order.missed_count or total > settings.long_backlog * self._rate)

    def _is_bearable(self) -> bool:
        settings = self._settings
        return self._stream.spoiled(settings.itl_allowance, self._lengths, settings.long_harm) <= settings.long_harm

    def _served_rate(self) -> float:
        """Prompt tokens per second that requests can count on: what is computed, or what the KV cache lets in."""
        if self._pressure > KV_BOUND and self._flow > 0:
            return min(self._rate, self._flow)
        return self._rate

    def _note_rate(self, tokens: int, seconds: float, total: int) -> None:
        """Prefill rate under load: only steps that could not take all there was tell it."""
        if not self._rate:
            self._rate = tokens / seconds
        elif tokens < total or tokens >= 256:
            self._rate += min(1.0, seconds) * (tokens / seconds - self._rate)

    def _emit(self, view: StepView, decodes: _Decodes, work: Work, choice: _Choice, start: float) -> StepPlan:
        n = decodes.count
        cap = view.bounds.max_num_seqs
        per_decode = view.decode_tokens
        has_decodes = n > 0 and (choice.beside_decodes or not choice.tokens)
        self._stream.launched(view.step, start, choice.seconds, has_decodes=has_decodes, none_before=n == 0)
        nanoseconds = int(choice.seconds * 1e9)
        held = self._order.late_count + self._order.missed_count
        prefilling = view.prefilling
        if not choice.tokens:
            order = None if not prefilling else [*_decoding(view), *prefilling.values()]
            return StepPlan(
                cap, n * per_decode, order, only_listed=True, parked=tuple(prefilling), predicted_ns=nanoseconds,
                held=held, trim=self._times.value,
            )  # fmt: skip
        partial: list[Any] = []
        refused = [job.request.request_id for job in work.refused]
        admitted: list[str] = []
        self._granted += work.refused
        left = choice.tokens
        for job in work.jobs:
            request = job.request
            tokens = job.work
            if not job.waiting and admitted and tokens > left:
                continue  # it would be served before those admitted, and take what is theirs
            if not job.waiting:
                partial.append(request)
                self._granted.append(job)
            elif not job.refused:
                admitted.append(request.request_id)
                self._granted.append(job)
            chunk = min(tokens, left)
            self._ageing.served(job.standing is Standing.MISSED, chunk)
            left -= chunk
            if left <= 0:
                break
        others = [request for request in prefilling.values() if request not in partial]
        parked = [request.request_id for request in others]
        budget = choice.tokens - left
        order = None  # as it is: the decodes alone
        if choice.beside_decodes:
            budget += n * per_decode
            if prefilling:
                order = [*_decoding(view), *partial, *others]
        elif prefilling or admitted or refused:
            decoding = _decoding(view)
            if prefilling:
                order = [*partial, *decoding, *others]
            if admitted or refused:
                parked += [request.request_id for request in decoding]
        return StepPlan(
            cap, budget, order, waiting_first=(*refused, *admitted),
            only_listed=True, parked=tuple(parked), predicted_ns=nanoseconds, held=held, trim=self._times.value,
            decodes_pause=not choice.beside_decodes,
        )  # fmt: skip


def _look_up(view: StepView, job: Job) -> bool:
    """Ask how much of a waiting request is in the prefix cache, unless that was asked a short while ago."""
    if job.looked_up + LOOKUP_STEPS > view.step:
        return False
    job.looked_up = view.step
    job.cached = view.cached_tokens(job.request)
    return True


def _decodes(view: StepView) -> _Decodes:
    running, prefilling = view.running, view.prefilling
    count = len(running) - len(prefilling)
    context = sum(map(_computed_tokens, running)) - sum(map(_computed_tokens, prefilling.values()))
    return _Decodes(count, context + count)


def _decoding(view: StepView) -> Sequence[Any]:
    """The running requests that decode, in the engine's order."""
    prefilling = view.prefilling
    return [request for request in view.running if request.request_id not in prefilling] if prefilling else view.running


def build_predictive(parameters: Mapping[str, Any]) -> Predictive:
    """Build the planner.

    Raises:
        ParameterError: a parameter is not as it should be.
    """
    return Predictive(read_settings(parameters))
