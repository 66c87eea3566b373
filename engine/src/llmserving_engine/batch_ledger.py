"""Who is in the batch and what a step of it holds, kept up to date at a cost that does not grow with the batch.

The running requests are either *prefilling* (few at a time) or *decoding* (hundreds). Of the decoding ones only the
number and the sum of their context are kept; a step changes both by what it schedules, and requests that begin or cease
to decode are seen one by one. When the numbers do not add up (a request left by a way not seen here), or with
speculation, where rejected tokens are taken back, they are counted anew.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from llmserving_engine.planning.protocol import StepComposition, Track

_FEW: Final = 16


@dataclass(slots=True)
class Changes:
    """What one step did."""

    scheduled: Mapping[str, int]
    """Tokens by request, vLLM's own."""
    composition: StepComposition
    """Its context is without those passed over who are known by name."""
    chunks: set[str]
    """Scheduled, but with prompt left to do: no output comes for these."""
    joined: list[str]
    """Will get output from this step and got none from the step before."""
    left: list[str]
    """The other way round; those that departed need not be here."""
    count: int
    """How many will get output."""
    is_pause: bool = False
    """No decode is in it though some run: their stream of outputs pauses as a whole, and nobody is named in ``left``."""
    unnamed: int = 0
    """Decodes that the step passed over and that are not known by name yet; see ``BatchLedger.name_absent``."""

    def __contains__(self, request_id: str) -> bool:
        """Whether output will come for the request."""
        return request_id in self.scheduled and request_id not in self.chunks

    def drop(self, request_id: str) -> None:
        """A request departed: no output will come for it."""
        if request_id in self:
            self.count -= 1
            if request_id in self.joined:
                self.joined.remove(request_id)


class BatchLedger:
    """Prefilling and decoding requests of one scheduler."""

    def __init__(self, tracks: Mapping[str, Track], is_speculative: bool) -> None:
        self.prefilling: dict[str, Any] = {}
        self._tracks = tracks
        self._is_speculative = is_speculative
        self._decoding = 0
        self.context_tokens = 0
        """Tokens computed for the decoding requests, those scheduled included."""
        self._absent: dict[str, Any] = {}  # decoding, but passed over in the last step
        self._left: list[str] = []  # out of the batch since the last step, to come back
        self._open: Changes | None = None  # the last step, while it has unnamed ones

    def scheduled(
        self, output: Any, running: Sequence[Any], requests: Mapping[str, Any], now_ns: int, *, await_departures: bool
    ) -> Changes:
        """Take in a step just scheduled.

        Args:
            output: vLLM's ``SchedulerOutput``, not empty.
            running: The running requests after it.
            requests: All requests by id.
            now_ns: When it was scheduled.
            await_departures: The output of an earlier step is still to come. With asynchronous scheduling a decode whose
                last token is in flight is passed over; its departure names it, so nobody is looked for until then.
        """
        scheduled: dict[str, int] = output.num_scheduled_tokens
        prefilling, tracks = self.prefilling, self._tracks
        self._admit(output, requests, now_ns)
        prefill_tokens = prefill_requests = attention = 0
        chunks: set[str] = set()
        joined: list[str] = []
        for request_id, request in prefilling.items():
            tokens = scheduled.get(request_id, 0)
            if tokens:
                prefill_requests += 1
                prefill_tokens += tokens
                attention += tokens * (request.num_computed_tokens - tokens) + tokens * tokens // 2
                if request.is_prefill_chunk:
                    chunks.add(request_id)
                else:
                    joined.append(request_id)
        decode_requests = len(scheduled) - prefill_requests
        decode_tokens = output.total_num_scheduled_tokens - prefill_tokens
        if self._is_speculative or self._decoding != len(running) - len(prefilling):
            self._recount(running)
        else:
            self.context_tokens += decode_tokens
        composition = StepComposition(
            prefill_tokens, decode_tokens, prefill_requests, decode_requests, self.context_tokens, attention
        )
        is_pause = not decode_requests and self._decoding > 0
        left, self._left = self._left, []
        changes = Changes(scheduled, composition, chunks, joined, left, len(scheduled) - len(chunks), is_pause)
        done = tuple(joined)
        if is_pause:
            composition.decode_context_tokens = 0
        else:
            self._look_for_absent(changes, running, output, await_departures=await_departures)
        for request_id in done:  # their prompt is done: from now on they decode
            request = prefilling.pop(request_id)
            self._decoding += 1
            self.context_tokens += request.num_computed_tokens
            if is_pause:
                self._absent[request_id] = request  # its first token comes while the stream pauses: it joins it later
            track = tracks.get(request_id)
            if track is not None:
                track.decoding = True
        return changes

    def _look_for_absent(
        self, changes: Changes, running: Sequence[Any], output: Any, *, await_departures: bool
    ) -> None:
        """Who of those passed over before is back, and who is passed over now?"""
        scheduled = changes.scheduled
        if self._absent:
            changes.joined.extend(name for name in self._absent if name in scheduled)
            self._absent = {name: request for name, request in self._absent.items() if name not in scheduled}
            absent_tokens = sum(request.num_computed_tokens for request in self._absent.values())
            changes.composition.decode_context_tokens -= absent_tokens
        changes.unnamed = self._decoding - changes.composition.decode_requests - len(self._absent)
        if changes.unnamed > 0:
            if await_departures:
                self._open = changes
            else:
                self._name(changes, passed_over(running, output))

    def name_absent(self, running: Sequence[Any]) -> None:
        """Find those whom the last step passed over and who have not departed since; before anybody else is admitted."""
        step = self._open
        if step is not None:
            self._name(step, [request for request in running if request.request_id not in step.scheduled])

    def ceased(self, track: Track, computed_tokens: int, *, comes_back: bool) -> None:
        """A request left the batch, with so many tokens computed: for good or not."""
        request_id = track.request.request_id
        self.prefilling.pop(request_id, None)
        was_absent = self._absent.pop(request_id, None)
        if comes_back:
            self._left.append(request_id)
        if track.decoding:
            track.decoding = False
            self._decoding -= 1
            self.context_tokens -= computed_tokens
            step = self._open
            if step is not None and was_absent is None and request_id not in step.scheduled:
                step.left.append(request_id)
                step.composition.decode_context_tokens -= computed_tokens
                step.unnamed -= 1
                if not step.unnamed:
                    self._open = None

    def postpone(self, left: Sequence[str]) -> None:
        """These left the stream in a step that gave nobody output: name them again with the next one."""
        self._left = [*left, *self._left]

    def _admit(self, output: Any, requests: Mapping[str, Any], now_ns: int) -> None:
        prefilling, tracks = self.prefilling, self._tracks
        for new in output.scheduled_new_reqs:
            request_id = new.req_id
            request = prefilling[request_id] = requests[request_id]
            track = tracks.get(request_id)
            if track is not None and not track.first_scheduled_ns:
                track.first_scheduled_ns = now_ns
                track.cached_tokens = min(new.num_computed_tokens, request.num_prompt_tokens)
        for request_id in output.scheduled_cached_reqs.resumed_req_ids:
            prefilling[request_id] = requests[request_id]

    def _name(self, step: Changes, requests: Sequence[Any]) -> None:
        """These are all whom the step passed over."""
        for request in requests:
            request_id = request.request_id
            if request_id not in self.prefilling and request_id not in self._absent:
                self._absent[request_id] = request
                step.left.append(request_id)
                step.composition.decode_context_tokens -= request.num_computed_tokens
        step.unnamed = 0
        self._open = None

    def _recount(self, running: Sequence[Any]) -> None:
        self._decoding = self.context_tokens = 0
        for request in running:
            if request.request_id in self.prefilling:
                continue
            self._decoding += 1
            self.context_tokens += request.num_computed_tokens
            track = self._tracks.get(request.request_id)
            if track is not None:
                track.decoding = True


def passed_over(running: Sequence[Any], output: Any) -> list[Any]:
    """The running requests that a step did not schedule; ``output`` is its ``SchedulerOutput``.

    ``schedule()`` takes the running requests in order and then appends the admitted ones. So the ids of those that went
    on are the running ones in the same order with some left out: a few of them are found by bisection.
    """
    cached, scheduled = output.scheduled_cached_reqs, output.num_scheduled_tokens
    resumed = len(cached.resumed_req_ids)
    names = cached.req_ids  # those that went on, then the resumed
    went_on = len(names) - resumed
    before = len(running) - len(output.scheduled_new_reqs) - resumed
    missing = before - went_on
    found: list[Any] = []
    if missing <= _FEW:
        low = 0
        for shift in range(missing):
            high = before - 1
            while low < high:
                middle = (low + high) // 2
                if middle - shift < went_on and running[middle].request_id == names[middle - shift]:
                    low = middle + 1
                else:
                    high = middle
            found.append(running[low])
            low += 1
        if not any(request.request_id in scheduled for request in found):
            return found
    return [request for request in running if request.request_id not in scheduled]
