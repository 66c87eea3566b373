"""The predictive law in the step: as long as token deadlines allow, filled so that most requests are served in time.

One step, in order:

1. When does it start, and how old are the decodes' last tokens then (`slack`)? What is left of the inter-token target, less
   a guard band for the model's own error, is the time of the step.
2. Which requests can still make their first token (`feasible`)? They go first, by deadline; then those given up, shortest
   first; then those already missed, oldest first. The missed have a share of their own, so that they are never starved
   (`relegation`).
3. Which of them have a slot and fit the KV cache until they end (`candidates`, `admission`)?
4. How many prompt tokens, beside the decodes or in a step of their own between two decode steps (`shape`)?
5. The plan that makes vLLM schedule that (`emission`).

No work grows with the queue: requests enter the order one by one, and only its front is looked at.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llmserving_engine.planning.admission import is_easy, is_scarce
from llmserving_engine.planning.candidates import ROOM_SECONDS, UNKNOWN_RATE, Candidates
from llmserving_engine.planning.emission import emit
from llmserving_engine.planning.feasible import SORTED_PER_STEP, SORTED_SINCE, Ordering
from llmserving_engine.planning.job import Job, Standing
from llmserving_engine.planning.lengths import OutputLengths
from llmserving_engine.planning.lives import Lives
from llmserving_engine.planning.pace import Pace
from llmserving_engine.planning.protocol import StepDone, StepPlan, StepView, Track
from llmserving_engine.planning.relegation import Ageing
from llmserving_engine.planning.settings import PredictiveSettings, read_settings
from llmserving_engine.planning.shape import Decodes, Shaper
from llmserving_engine.planning.slack import Stream
from llmserving_engine.telemetry import RequestClass

NO_TARGET_SECONDS = 0.5
"""Longest step where there is no inter-token target."""
FOREVER = 1e9


class Predictive:
    """See the module's text."""

    name = "predictive"
    orders_waiting = True

    def __init__(self, settings: PredictiveSettings) -> None:
        self._settings = settings
        self._order = Ordering()
        self._stream = Stream()
        self._ageing = Ageing()
        self._lives = Lives()
        self._lengths = OutputLengths()
        self._pace = Pace()
        self._candidates = Candidates(self._order, self._ageing, self._lives, self._lengths, self._pace)
        self._shaper = Shaper(settings, self._pace, self._stream, self._lengths)
        self._jobs: dict[str, Job] = {}
        self._partials: list[Job] = []
        self._granted: list[Job] = []
        self._itl = NO_TARGET_SECONDS
        self._step, self._ttft = 0, FOREVER
        self._was_on_device = self._is_scarce = False

    @property
    def _rate(self) -> float:
        """Prompt tokens a second that are counted on."""
        return self._pace.served * self._settings.rate_share or UNKNOWN_RATE

    # Requests

    def configure(self, parameters: Mapping[str, Any]) -> None:
        """A newly fitted model or other percentiles; what is known of the requests stays."""
        self._settings = read_settings(parameters)
        self._shaper.configure(self._settings)

    def arrived(self, track: Track) -> None:
        """A new request, or one that was there before this planner."""
        request = track.request
        if track.request_class is not RequestClass.BATCH:
            self._candidates.room_until = track.arrival_ns * 1e-9 + ROOM_SECONDS
        self._candidates.inflow.arrived(track.arrival_ns * 1e-9, request.num_prompt_tokens)
        self._candidates.has_priorities |= track.priority != 0
        if track.first_token_ns or track.decoding:
            self._stream.join(request.request_id)
        if track.decoding:
            self._lives.begin(request.request_id, request.num_prompt_tokens, request.num_output_tokens)
        else:
            self._enter(track, resumed=track.first_token_ns > 0)

    def departed(self, track: Track) -> None:
        """A request ended: learn its length, forget it."""
        request = track.request
        job = self._jobs.pop(request.request_id, None)
        if job is not None:
            self._order.discard(job)
        self._stream.leave(request.request_id)
        self._lives.end(request.request_id)
        if request.status.name in ("FINISHED_STOPPED", "FINISHED_LENGTH_CAPPED", "FINISHED_REPETITION"):
            self._lengths.end(request.num_output_tokens)
            if self._lengths.is_due(2):  # nobody says when the device computes
                self._lengths.refresh(self._lives.counts())

    def preempted(self, track: Track) -> None:
        """A request lost its KV and must be computed again; it is the first to come back."""
        request_id = track.request.request_id
        old = self._jobs.pop(request_id, None)
        if old is not None:
            self._order.discard(old)
        self._lives.end(request_id)
        self._enter(track, resumed=track.first_token_ns > 0)

    def _enter(self, track: Track, *, resumed: bool = False) -> Job:
        """Note a request that has tokens to compute; those that run already are told from `view.prefilling`."""
        request = track.request
        arrival = track.arrival_ns * 1e-9
        is_batch = track.request_class is RequestClass.BATCH
        job = Job(
            request, 2 * track.priority + is_batch, arrival, request.num_tokens, track,
            resumed=resumed, hurried=not is_batch,
        )  # fmt: skip
        self._jobs[request.request_id] = job
        self._order.add(job)
        return job

    # A step

    def plan(self, view: StepView) -> StepPlan:
        """Decide the coming step."""
        self._settle(view)
        itl = self._itl = view.targets.itl_ns * 1e-9 or NO_TARGET_SECONDS
        ttft = min(view.targets.ttft_ns * 1e-9 or FOREVER, self._settings.ttft_seconds)
        order = self._order
        start, last_decode = self._stream.start(view.now_ns * 1e-9, view.in_flight_steps)
        order.refresh(start, self._rate, ttft, SORTED_SINCE if self._was_on_device else SORTED_PER_STEP)
        self._was_on_device = False
        self._step, self._ttft = view.step, ttft
        n = len(view.running) - len(view.prefilling)
        decodes = Decodes(n, view.decode_context_tokens + n)
        bearable = self._shaper.bearable(decodes, itl)
        self._is_scarce = view.decode_tokens == 1 and is_scarce(view, bearable)
        work = self._candidates.work(view, self._partials, n, start, ttft, bearable)
        age = start - last_decode if n else 0.0
        most = view.bounds.max_num_batched_tokens - n * view.decode_tokens
        held = order.late_count + order.missed_count
        choice = self._shaper.choose(work, most, decodes, itl, ttft, age, is_behind=held > 0)
        is_spare = choice.tokens >= work.tokens and (work.is_blocked or not is_easy(view))
        self._pace.planned(is_blocked=self._candidates.is_short, is_spare=is_spare)
        plan, grants = emit(view, n, work, choice, held=held, trim=self._shaper.trim)
        self._granted = [*work.done, *grants.taken]
        for job, chunk in grants.chunks:
            self._ageing.served(job.standing is Standing.MISSED, chunk)
        has_decodes = n > 0 and (choice.beside_decodes or not choice.tokens)
        self._stream.launched(view.step, start, choice.seconds, has_decodes=has_decodes, none_before=n == 0)
        return plan

    def on_device(self, now_ns: int) -> None:
        """While the device computes: sort in who came meanwhile, set the share of the missed, refresh the table of lengths."""
        now = now_ns * 1e-9
        self._order.catch_up(now, self._rate, self._ttft)
        self._candidates.age(self._step, now, self._ttft)
        self._was_on_device = True
        if self._lengths.is_due():
            self._lengths.refresh(self._lives.counts())
        if self._is_scarce and self._jobs:
            prefilling = {id(job): job.tokens for job in (*self._partials, *self._granted)}
            self._candidates.foresee(list(prefilling.values()))

    def completed(self, done: StepDone) -> None:
        """A step came back: correct the clock and the predictions."""
        held = done.composition
        landed = done.completed_ns * 1e-9
        self._stream.landed(done.step, landed, has_decodes=held.decode_requests > 0, target=self._itl)
        if held.decode_requests:
            self._lives.step()
        if done.duration_ns:
            seconds = done.duration_ns * 1e-9
            self._pace.landed(held.prefill_tokens, seconds, self._candidates.inflow.gap)
            self._shaper.landed(held, seconds)

    def _settle(self, view: StepView) -> None:
        """Requests granted tokens before: who has its prompt computed now, who was not taken?"""
        self._partials = partials = []
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
            job.left = job.work
            partials.append(job)
        for job in self._granted:
            request = job.request
            if job.standing is Standing.GONE:
                continue
            job.refused = job.waiting
            if request.num_computed_tokens >= job.tokens:
                del self._jobs[request.request_id]
                self._order.discard(job)
                self._lives.begin(request.request_id, request.num_prompt_tokens, request.num_output_tokens)
                if not job.resumed:
                    self._stream.join(request.request_id)


def build_predictive(parameters: Mapping[str, Any]) -> Predictive:
    """Build the planner.

    Raises:
        ParameterError: a parameter is not as it should be.
    """
    return Predictive(read_settings(parameters))
