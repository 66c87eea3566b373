"""Latencies of every request, at a cost per step that does not grow with the number of requests.

A step of a busy engine hands one output to each of hundreds of requests, and nearly all of them got their previous
output in the step before: their gap is one and the same number. So the tracker keeps one *gap log* for the whole engine
and for each request only where its uninterrupted stream of outputs began. Requests that join or leave the stream
(first token, preempted, parked, passed over, finished) are few in a step and handled one by one.
"""

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from llmserving_engine.bounds import Targets
from llmserving_engine.classes import class_of
from llmserving_engine.planning.protocol import Track
from llmserving_engine.telemetry import RequestClass
from llmserving_engine.waiting_ages import WaitingAges

_BATCH: Final = RequestClass.BATCH
_MAX_AGE_NS: Final = 3600 * 10**9
"""A request stamped earlier than this had a wrong clock."""


@dataclass(slots=True)
class Latencies:
    """What the outputs of a step add to the histograms, in nanoseconds; each also for batch requests, kept apart."""

    gap_ns: int = 0
    """The gap that ended for each request of the stream."""
    streaming: int = 0
    """How many had it, without batch requests."""
    batch_streaming: int = 0
    gaps: list[int] = field(default_factory=list)
    """Of those that had paused, each its own."""
    first_tokens: list[int] = field(default_factory=list)
    batch_gaps: list[int] = field(default_factory=list)
    batch_first_tokens: list[int] = field(default_factory=list)


class GapLog:
    """The gaps of the stream: how many, how many long ones, and the longest since any point."""

    def __init__(self) -> None:
        self.count = 0
        self.over = 0
        self._indices: list[int] = []  # of the entries that no later entry exceeds
        self._gaps: list[int] = []  # theirs, falling

    def append(self, gap_ns: int, is_over: bool) -> None:
        """Log the gap between two successive steps with output."""
        gaps, indices = self._gaps, self._indices
        while gaps and gaps[-1] <= gap_ns:
            gaps.pop()
            indices.pop()
        gaps.append(gap_ns)
        indices.append(self.count)
        self.count += 1
        self.over += is_over

    def longest_since(self, index: int) -> int:
        """The longest gap from entry ``index`` on; 0 when there is none."""
        position = bisect_right(self._indices, index - 1)
        return self._gaps[position] if position < len(self._gaps) else 0


class RequestTracker:
    """Tracks of all requests in the engine; see the module's text for how gaps are counted."""

    def __init__(self, *, by_priority: bool = False) -> None:
        self.tracks: dict[str, Track] = {}
        self._by_priority = by_priority  # the engine's policy
        self._last_output_ns = 0  # of the stream
        self._ttft_ns = self._itl_ns = 0  # targets
        self._log = GapLog()
        self._batch_streaming = 0
        self._waiting = WaitingAges()  # of those without a first token

    # Arrivals and departures

    def arrive(self, request: Any, now_ns: int, wall_ns: int) -> Track | None:
        """Begin to track a request; None when it is tracked already (a further chunk of a streaming session)."""
        request_id = request.request_id
        if request_id in self.tracks:
            return None
        age_ns = wall_ns - int(request.arrival_time * 1e9)
        arrival_ns = now_ns - age_ns if 0 <= age_ns <= _MAX_AGE_NS else now_ns
        track = Track(request, arrival_ns, class_of(request), request.priority if self._by_priority else 0)
        self.tracks[request_id] = track
        if track.request_class is not _BATCH:
            self._waiting.add(track.arrival_ns)
        return track

    def depart(self, request_id: str) -> Track | None:
        """End tracking; None when the request is not tracked."""
        track = self.tracks.pop(request_id, None)
        if track is None:
            return None
        self._leave_stream(track)
        if not track.first_token_ns and track.request_class is not _BATCH:
            self._waiting.gone.append(track.arrival_ns)
        return track

    # Outputs

    def outputs(
        self, joined: Sequence[str], left: Iterable[str], count: int, now_ns: int, *, is_pause: bool = False
    ) -> Latencies:
        """Count the outputs of a step; all tokens that a request gets in one step are one output.

        Args:
            joined: Requests that got output now and not in the step before.
            left: Requests that got output in the step before and not now. Those that departed need not be named.
            count: How many got output now, those who joined included.
            now_ns: When the output came.
            is_pause: Nobody of the stream got output: it goes on later, and who joined now joins it then.
        """
        log, tracks, itl_ns = self._log, self.tracks, self._itl_ns
        for request_id in left:
            track = tracks.get(request_id)
            if track is not None and track.stream_start >= 0:
                self._leave_stream(track)
                track.last_token_ns = self._last_output_ns
        latencies = Latencies()
        if not is_pause:
            latencies.gap_ns = gap_ns = now_ns - self._last_output_ns
            self._last_output_ns = now_ns
            log.append(gap_ns, 0 < itl_ns < gap_ns)
            latencies.batch_streaming = self._batch_streaming
            latencies.streaming = count - len(joined) - self._batch_streaming
        for request_id in joined:
            track = tracks.get(request_id)
            if track is None:
                continue
            is_batch = track.request_class is _BATCH
            if track.first_token_ns:
                own_gap_ns = now_ns - track.last_token_ns
                track.gaps += 1
                track.gaps_over_target += 0 < itl_ns < own_gap_ns
                track.max_gap_ns = max(track.max_gap_ns, own_gap_ns)
                (latencies.batch_gaps if is_batch else latencies.gaps).append(own_gap_ns)
            else:
                track.first_token_ns = now_ns
                if not is_batch:
                    self._waiting.gone.append(track.arrival_ns)
                firsts = latencies.batch_first_tokens if is_batch else latencies.first_tokens
                firsts.append(now_ns - track.arrival_ns)
            if is_pause:
                track.last_token_ns = now_ns
            else:
                track.stream_start, track.stream_over = log.count, log.over
                self._batch_streaming += is_batch
        return latencies

    def _leave_stream(self, track: Track) -> None:
        """Settle a request's stream, which had the log's entries from its start on."""
        log, start = self._log, track.stream_start
        if start < 0:
            return
        track.gaps += log.count - start
        track.gaps_over_target += log.over - track.stream_over
        longest_ns = log.longest_since(start)
        track.max_gap_ns = max(track.max_gap_ns, longest_ns)
        track.stream_start = -1
        if track.request_class is _BATCH:
            self._batch_streaming -= 1

    # Requests without a first token

    def set_targets(self, targets: Targets) -> None:
        """Count against other targets from now on."""
        self._ttft_ns, self._itl_ns = targets.ttft_ns, targets.itl_ns

    def overdue(self, now_ns: int) -> tuple[int, int]:
        """Those without a first token for longer than the TTFT target, and the age of the first to arrive (0: none)."""
        ttft_ns = self._ttft_ns
        late, first_ns = self._waiting.look(now_ns - ttft_ns)
        return late if ttft_ns else 0, 0 if first_ns is None else max(0, now_ns - first_ns)
