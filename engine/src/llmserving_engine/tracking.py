"""Latencies of every request, at a cost per step that does not grow with the number of requests.

A step of a busy engine hands one output to each of hundreds of requests, and nearly all of them got their previous
output in the step before: their gap is one and the same number. So the tracker keeps one *gap log* for the whole engine
and for each request only where its uninterrupted stream of outputs began. Requests that join or leave the stream
(first token, preempted, parked, passed over, finished) are few in a step and handled one by one.
"""

from bisect import bisect_right
from collections import OrderedDict, deque
from collections.abc import Iterable
from typing import Any, Final

from llmserving_engine.bounds import Targets
from llmserving_engine.latency import bucket_of
from llmserving_engine.planning.protocol import Track
from llmserving_engine.telemetry import Outcome, Pairs, RequestRow

_OUTCOMES: Final = {"FINISHED_ABORTED": Outcome.ABORTED, "FINISHED_ERROR": Outcome.FAILED}
_OVERDUE_PER_STEP: Final = 32
"""Most requests looked at in one step when many become overdue at once; the rest follow in the next steps."""
_MAX_AGE_NS: Final = 3600 * 10**9
"""A request stamped earlier than this had a wrong clock."""


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

    def __init__(self) -> None:
        self.tracks: dict[str, Track] = {}
        self.last_output_ns = 0
        self._targets = Targets()
        self._log = GapLog()
        self._pending: deque[Track] = deque()  # no first token yet, in order of arrival, not overdue
        self._overdue: OrderedDict[str, Track] = OrderedDict()  # its first entry is looked up in each step

    # Arrivals and departures

    def arrive(self, request: Any, now_ns: int, wall_ns: int) -> Track | None:
        """Begin to track a request; None when it is tracked already (a further chunk of a streaming session)."""
        request_id = request.request_id
        if request_id in self.tracks:
            return None
        age_ns = wall_ns - int(request.arrival_time * 1e9)
        track = Track(request, now_ns - age_ns if 0 <= age_ns <= _MAX_AGE_NS else now_ns)
        self.tracks[request_id] = track
        self._pending.append(track)
        return track

    def depart(self, request_id: str, now_ns: int) -> tuple[Track, RequestRow] | None:
        """End tracking; None when the request is not tracked."""
        track = self.tracks.pop(request_id, None)
        if track is None:
            return None
        self._leave_stream(track, self._log.count)
        self._overdue.pop(request_id, None)
        request = track.request
        first = track.first_token_ns
        scheduled = track.first_scheduled_ns
        row = RequestRow(
            outcome=_OUTCOMES.get(request.status.name, Outcome.FINISHED),
            arrival_ns=track.arrival_ns,
            finished_ns=now_ns,
            prompt_tokens=request.num_prompt_tokens,
            cached_tokens=track.cached_tokens,
            output_tokens=request.num_output_tokens,
            gaps=track.gaps,
            gaps_over_target=track.gaps_over_target,
            preemptions=track.preemptions,
            priority=request.priority,
            relegated=int(track.relegated),
            ttft_seconds=(first - track.arrival_ns) / 1e9 if first else 0.0,
            e2e_seconds=(now_ns - track.arrival_ns) / 1e9,
            queue_seconds=((scheduled or now_ns) - track.arrival_ns) / 1e9,
            max_gap_seconds=track.max_gap_ns / 1e9,
        )
        return track, row

    # Outputs

    def outputs(self, joined: Iterable[str], left: Iterable[str], count: int, now_ns: int) -> tuple[Pairs, Pairs]:
        """Count the outputs of a step; all tokens that a request gets in one step are one output.

        Args:
            joined: Requests that got output now and not in the step before.
            left: Requests that got output in the step before and not now. Those that departed need not be named.
            count: How many got output now, those who joined included.
            now_ns: When the output came.

        Returns:
            Gaps that ended now and times to first token, as (bucket, count) pairs.
        """
        log, tracks = self._log, self.tracks
        for request_id in left:
            track = tracks.get(request_id)
            if track is not None and track.stream_start >= 0:
                self._leave_stream(track, log.count)
                track.last_token_ns = self.last_output_ns
        gaps: dict[int, int] = {}
        firsts: dict[int, int] = {}
        gap_ns = now_ns - self.last_output_ns
        itl_ns = self._targets.itl_ns
        log.append(gap_ns, 0 < itl_ns < gap_ns)
        streaming = count
        for request_id in joined:
            streaming -= 1
            track = tracks.get(request_id)
            if track is None:
                continue
            if track.first_token_ns:
                own_gap_ns = now_ns - track.last_token_ns
                track.gaps += 1
                track.gaps_over_target += 0 < itl_ns < own_gap_ns
                track.max_gap_ns = max(track.max_gap_ns, own_gap_ns)
                bucket = bucket_of(own_gap_ns)
                gaps[bucket] = gaps.get(bucket, 0) + 1
            else:
                track.first_token_ns = now_ns
                self._overdue.pop(request_id, None)
                bucket = bucket_of(now_ns - track.arrival_ns)
                firsts[bucket] = firsts.get(bucket, 0) + 1
            track.stream_start = log.count
            track.stream_over = log.over
        if streaming > 0:
            bucket = bucket_of(gap_ns)
            gaps[bucket] = gaps.get(bucket, 0) + streaming
        self.last_output_ns = now_ns
        return list(gaps.items()), list(firsts.items())

    def _leave_stream(self, track: Track, end: int) -> None:
        """Settle a request's stream, which had the log's entries from its start up to ``end``."""
        if track.stream_start < 0:
            return
        track.gaps += end - track.stream_start
        track.gaps_over_target += self._log.over - track.stream_over
        track.max_gap_ns = max(track.max_gap_ns, self._log.longest_since(track.stream_start))
        track.stream_start = -1

    # Requests without a first token

    def set_targets(self, targets: Targets) -> None:
        """Count against other targets from now on."""
        if targets == self._targets:
            return
        self._targets = targets
        self._pending = deque(sorted((*self._overdue.values(), *self._pending), key=lambda track: track.arrival_ns))
        self._overdue.clear()

    def overdue(self, now_ns: int) -> int:
        """Requests that have had no token for longer than the TTFT target since they arrived."""
        ttft_ns = self._targets.ttft_ns
        pending = self._pending
        for _ in range(min(len(pending), _OVERDUE_PER_STEP)):
            track = pending[0]
            if self._waits(track):
                if not ttft_ns or now_ns - track.arrival_ns <= ttft_ns:
                    break
                self._overdue[track.request.request_id] = track
            pending.popleft()
        return len(self._overdue)

    def oldest_ns(self, now_ns: int) -> int:
        """Age of the oldest request without a first token, after ``overdue``; 0 when there is none."""
        oldest = next(iter(self._overdue.values()), None) or (self._pending[0] if self._pending else None)
        return 0 if oldest is None else max(0, now_ns - oldest.arrival_ns)

    def _waits(self, track: Track) -> bool:
        return not track.first_token_ns and self.tracks.get(track.request.request_id) is track
