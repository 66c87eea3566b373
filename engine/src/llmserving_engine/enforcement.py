"""What one step is made to obey: caps, budget, order and parking, put into vLLM's scheduler and taken out again.

The attributes of the scheduler that are touched are those of vLLM 0.31 to 0.33, with one difference below 0.31 (see
``runtime.Gate``); ``contract`` checks at start-up that they mean what is assumed here.
"""

from collections.abc import Sequence
from dataclasses import replace
from operator import attrgetter
from typing import Any, Final

from llmserving_engine.batch_ledger import BatchLedger
from llmserving_engine.bounds import Bounds
from llmserving_engine.budget import PATIENCE_STEPS, PrefillGuard
from llmserving_engine.eligibility import Eligibility
from llmserving_engine.planning.protocol import StepPlan
from llmserving_engine.runtime import Gate, Runtime
from llmserving_engine.tracking import RequestTracker
from llmserving_engine.waiting_queue import OrderedQueue
from llmserving_engine.withholding import CHUNK, Withholding

_PARKED_STEP: Final = 1 << 60
_AWAY: Final = 1 << 60
"""How far vLLM's step counter is put back while the decodes pause; those that are to be served are put back with it."""
_eligible_step = attrgetter("next_decode_eligible_step")


class Enforcement:
    """Bounds and plan in one scheduler; used by the engine's thread alone."""

    def __init__(self, scheduler: Any, runtime: Runtime, tracker: RequestTracker, ledger: BatchLedger) -> None:
        self._scheduler = scheduler
        self._gate = runtime.gate
        self._counts_sessions = runtime.counts_sessions
        self._by_priority = runtime.by_priority
        self._ceilings = runtime.control.ceilings
        self._decode_tokens = runtime.decode_tokens
        self._quantum = runtime.quantum
        self._tracks = tracker.tracks
        self._prefilling = ledger.prefilling
        self._boot_gate = getattr(scheduler, runtime.gate.value)
        self._boot_budget = scheduler.max_num_scheduled_tokens
        self._boot_chunk = scheduler.scheduler_config.long_prefill_token_threshold
        self._guard = PrefillGuard(self._ceilings.max_num_batched_tokens)
        self._largest_item = 0
        self._least_chunk = runtime.quantum.tokens(0, 0)  # where nothing is asked of the prompt that waits
        self._queue: OrderedQueue | None = None
        self._eligibility = Eligibility(scheduler)
        self._withholding = Withholding(scheduler, tracker.tracks)
        self.has_deadlines = False
        """The planner lets all requests that it holds back go by a deadline of its own."""
        self._without_prefill = 0  # the last so many steps
        # of the step being scheduled
        self._now_ns = 0
        self._cap = 0
        self._parked: list[tuple[Any, int]] = []
        self._served: list[Any] | None = None  # while the decodes pause
        self._running = 0
        self._offers_all = True
        self.is_set_aside = False
        """The plan was: it kept back all prompt tokens for too long."""
        self._has_chunk = False

    def order_waiting(self) -> None:
        """From now on plans may say who is admitted first."""
        scheduler = self._scheduler
        if self._queue is None:
            self._queue = OrderedQueue(scheduler.waiting, self._by_priority)
            scheduler.waiting = self._queue

    def saw_item(self, tokens: int) -> None:
        """A request has a multimodal item of this size."""
        if tokens > self._largest_item:
            self._largest_item = tokens
            self._least_chunk = self._quantum.tokens(tokens, 0)

    # A step

    def attainable(self, bounds: Bounds) -> Bounds:
        """What a planner may plan with: the bounds, less the slots of idle streaming sessions.

        Where they leave the budget no room for a prompt at all, it is shown some now and then: the guard gives it.
        """
        if self._without_prefill < PATIENCE_STEPS and not self._sessions:
            return bounds
        seqs = max(1, min(bounds.max_num_seqs, self._ceilings.max_num_seqs - self._sessions))
        tokens = bounds.max_num_batched_tokens
        if self._without_prefill >= PATIENCE_STEPS:
            decodes = (len(self._scheduler.running) - len(self._prefilling)) * self._decode_tokens
            tokens = min(self._ceilings.max_num_batched_tokens, max(tokens, decodes + self._least_chunk))
        return Bounds(seqs, tokens)

    def may_admit(self, request: Any) -> bool:
        """Whether a waiting request that vLLM finds ready may be admitted in this step."""
        return self._eligibility.has_adapter_room(request)

    def put(self, plan: StepPlan, applied: Bounds, now_ns: int) -> int:
        """Make the coming step obey the plan within the bounds.

        Returns:
            The step's token budget if it was opened so that prefill goes on at last, else 0.
        """
        scheduler = self._scheduler
        self._now_ns = now_ns
        self._cap = cap = max(1, min(plan.max_num_seqs, applied.max_num_seqs))
        if plan.running is not None:
            scheduler.running[:] = plan.running
        self._running = running = len(scheduler.running)
        self._eligibility.begin()
        self._set_gate(max(cap, running) if self._gate is Gate.RUNNING else cap)
        parked_decodes = self._park(plan.parked) if plan.parked else 0
        if plan.decodes_pause:
            self._pause_decodes()
            parked_decodes = running - len(self._prefilling)
        if self._queue is not None:
            self._queue.offer(plan.waiting_first, plan.only_listed)
        self._offers_all = not plan.only_listed and not plan.parked
        decodes = max(0, running - len(self._prefilling) - parked_decodes) * self._decode_tokens
        wanted = min(plan.token_budget, applied.max_num_batched_tokens)
        quantum = self._least_chunk
        opened = False
        if wanted - decodes < quantum or not self._guard.is_calm or self._quantum.whole_prompt:
            head = self._next_admission()
            quantum = self._quantum.tokens(self._largest_item, _prompt_left(head))
            possible = head is not None or self._has_prefilling()
            wanted, opened = self._guard.grant(wanted, decodes, quantum, possible)
            self.is_set_aside = not possible and self._withholding.is_due(now_ns) and not plan.decodes_pause
            if self.is_set_aside:
                head = self._offer_all(plan)
                quantum = max(CHUNK, self._quantum.tokens(self._largest_item, _prompt_left(head)))
                wanted, opened = min(self._ceilings.max_num_batched_tokens, decodes + quantum), True
        scheduler.max_num_scheduled_tokens = min(wanted, self._boot_budget)
        if plan.chunk_tokens:
            self._has_chunk = True
            scheduler.scheduler_config.long_prefill_token_threshold = max(plan.chunk_tokens, quantum)
        return wanted if opened else 0

    def saw(self, prefill_tokens: int, *, preempted: int) -> bool:
        """The step was scheduled.

        Args:
            prefill_tokens: What it computes of prompts.
            preempted: Requests that lost their blocks.

        Returns:
            Whether it computes none although there was work for it.
        """
        self._without_prefill = 0 if prefill_tokens else self._without_prefill + 1
        if prefill_tokens:
            if self.is_set_aside:
                self._withholding.goes_on()
            else:
                self._withholding.ended()
            if not self._guard.is_calm:
                self._guard.progressed(True, prefill_tokens)
            return False
        head = self._next_admission()
        if head is None and not self._has_prefilling():
            self._look_for_withheld()
            return False
        scheduler = self._scheduler
        prompt = _prompt_left(head)
        free_tokens = scheduler.kv_cache_manager.block_pool.get_num_free_blocks() * scheduler.block_size
        needed = max(prompt, self._quantum.tokens(self._largest_item, prompt))
        self._guard.progressed(not preempted and free_tokens >= needed, 0)  # without memory the budget is not to blame
        return True

    def restore(self) -> None:
        """Undo what holds for one step only."""
        self.is_set_aside = False
        if self._served is not None:
            self._resume_decodes(self._served)
        if self._parked:
            for request, eligible in self._parked:
                request.next_decode_eligible_step = eligible
            self._parked.clear()
        if self._queue is not None:
            self._queue.withdraw()
        if self._has_chunk:
            self._has_chunk = False
            self._scheduler.scheduler_config.long_prefill_token_threshold = self._boot_chunk

    # Other than step by step

    def shed(self, keep: int, timestamp: float) -> None:
        """Preempt the last admitted until ``keep`` run; they wait at the head of the queue and are recomputed."""
        scheduler = self._scheduler
        while len(scheduler.running) > keep:
            scheduler._preempt_request(scheduler.running.pop(), timestamp)

    def end(self, fallback: Bounds) -> Bounds:
        """Hand the scheduler back as stock vLLM would run; the bounds it is left with.

        The cap stays at the fallback, not at the ceiling, with room for the streaming sessions that are idle now: nobody
        moves it any more when they are not. The budget goes to the ceiling: without our guard a smaller one could stop
        the prefill of an item that may not be split for good.
        """
        self.restore()
        scheduler, left = self._scheduler, self._ceilings
        if self._gate is Gate.ACTIVE:  # the older gate must never be below the number running
            left = replace(left, max_num_seqs=fallback.clamped(left).max_num_seqs)
            self._set_gate(left.max_num_seqs)
        else:
            setattr(scheduler, self._gate.value, self._boot_gate)
        scheduler.max_num_scheduled_tokens = self._boot_budget
        return left

    def _park(self, request_ids: Sequence[str]) -> int:
        """Let the step pass over these requests; how many decodes are among them."""
        tracks = self._tracks
        named = [tracks[request_id] for request_id in dict.fromkeys(request_ids) if request_id in tracks]
        requests = [track.request for track in named]
        self._parked.extend(zip(requests, map(_eligible_step, requests), strict=True))
        for request in requests:
            request.next_decode_eligible_step = _PARKED_STEP
        return sum(track.decoding for track in named)

    def _offer_all(self, plan: StepPlan) -> Any:
        """Offer the step all prompt tokens that the plan keeps back; the first request that it may admit, if any."""
        prefilling = self._prefilling
        for request, eligible in self._parked:
            if request.request_id in prefilling:
                request.next_decode_eligible_step = eligible
        self._parked = [entry for entry in self._parked if entry[0].request_id not in prefilling]
        if self._queue is not None:
            self._queue.offer(plan.waiting_first, only=False)
        return self._next_admission()

    def _look_for_withheld(self) -> None:
        """The step computed no prompt token and was offered none: is that the plan's doing?"""
        if self._offers_all or self.has_deadlines or self._scheduler.pause_state:
            self._withholding.ended()
            return
        parked = [request for request, _ in self._parked if request.request_id in self._prefilling]
        waiting = self._eligibility.ready() if self._has_slot() else ()
        self._withholding.saw(parked, waiting, self._now_ns)

    def _pause_decodes(self) -> None:
        """Let the step pass over all decodes, without touching each of them: for all but the others it is not their turn yet."""
        parked = {id(request) for request, _ in self._parked}
        self._served = [request for request in self._prefilling.values() if id(request) not in parked]
        self._scheduler.current_step -= _AWAY
        for request in self._served:
            request.next_decode_eligible_step -= _AWAY

    def _resume_decodes(self, served: list[Any]) -> None:
        self._served = None
        self._scheduler.current_step += _AWAY
        admitted = self._scheduler.running[self._running :]  # vLLM may have given them a turn
        for request in (*served, *admitted):
            if request.next_decode_eligible_step < 0:
                request.next_decode_eligible_step += _AWAY

    @property
    def _sessions(self) -> int:
        """Idle streaming sessions, as far as the gate counts them among the running requests."""
        return self._scheduler.num_waiting_for_streaming_input if self._counts_sessions else 0

    def _set_gate(self, cap: int) -> None:
        """Let vLLM admit while fewer than this many run."""
        setattr(self._scheduler, self._gate.value, min(self._ceilings.max_num_seqs, cap + self._sessions))

    def _has_slot(self) -> bool:
        """Whether vLLM may admit one more."""
        running = len(self._scheduler.running)
        return running < self._cap and running + self._sessions < self._ceilings.max_num_seqs

    def _next_admission(self) -> Any:
        """The request that the step may admit first; None without a free slot, or when nobody is offered."""
        return self._eligibility.first() if self._has_slot() else None

    def _has_prefilling(self) -> bool:
        """Whether part of a prompt is left to do for a running request that is not parked."""
        if self._scheduler.pause_state.name == "PAUSED_ALL":
            return False
        prefilling = self._prefilling
        return len(prefilling) > sum(request.request_id in prefilling for request, _ in self._parked)


def _prompt_left(request: Any) -> int:
    """Tokens of a waiting request still to compute; 0 for nobody."""
    return 0 if request is None else int(request.num_tokens - request.num_computed_tokens)
