"""The time that running requests leave a step, and how many long gaps they can bear.

All decodes of a step get their tokens at the same moment, so one clock serves them all: what differs is only when a
request joined. A request is served well when at most (100 - percentile) % of its own gaps exceed the target, and
none five times the target. So now and then a long prefill step is free of charge: it costs each running request one
gap of those it may have.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from math import inf

from llmserving_engine.planning.lengths import OutputLengths

LONGEST_GAP = 5.0
"""No gap of a good request exceeds this many times its target."""


@dataclass(slots=True)
class Flight:
    """A planned step that has not come back.

    Attributes:
        step: Its number.
        start: When it begins on the device.
        seconds: What it takes, as predicted.
        has_decodes: Whether decodes get tokens.
        none_before: Whether nobody decodes before it, so that the streams begin with it.
    """

    step: int
    start: float
    seconds: float
    has_decodes: bool
    none_before: bool = False


@dataclass(slots=True)
class Stream:
    """The common clock of all decodes.

    Attributes:
        decode_steps: Steps with decodes that came back.
        long_gaps: Those among them that ended a gap above the target.
        last_decode: When the newest of them came back; 0: none has yet.
        joins: `(decode_steps, long_gaps)` when a request got its first token, by request id.
    """

    decode_steps: int = 0
    long_gaps: int = 0
    last_decode: float = 0.0
    joins: dict[str, tuple[int, int]] = field(default_factory=dict)
    flights: deque[Flight] = field(default_factory=deque)

    def join(self, request_id: str) -> None:
        """A request gets its first token in the step now in flight."""
        self.joins[request_id] = (self.decode_steps, self.long_gaps)

    def leave(self, request_id: str) -> None:
        """A request ended."""
        self.joins.pop(request_id, None)

    def start(self, now: float, in_flight: int) -> tuple[float, float]:
        """When a step scheduled now will begin on the device, and the time of the decodes' last tokens by then.

        Args:
            now: Engine time in seconds.
            in_flight: Steps scheduled that have not come back; of one that held nothing it is not said when it does.
        """
        flights = self.flights
        while len(flights) > in_flight:
            flights.popleft()
        time, last = now, self.last_decode or now
        end = 0.0
        for flight in flights:
            end = max(flight.start, end) + flight.seconds
            if flight.has_decodes or flight.none_before:
                last = end
        return max(time, end), last

    def launched(
        self, step: int, start: float, seconds: float, *, has_decodes: bool, none_before: bool = False
    ) -> None:
        """A step was planned; see `Flight`."""
        self.flights.append(Flight(step, start, seconds, has_decodes, none_before))

    def landed(self, step: int, now: float, *, has_decodes: bool, target: float) -> None:
        """A step came back.

        Args:
            step: Its number.
            now: When.
            has_decodes: Whether decodes got tokens.
            target: Inter-token target in seconds.
        """
        flights = self.flights
        none_before = False
        while flights and flights[0].step <= step:
            flight = flights.popleft()
            none_before = flight.step == step and flight.none_before
        if flights:  # it began when this one ended, not when that was predicted: errors must not add up
            flights[0].start = now
        if has_decodes:
            self.decode_steps += 1
            if now - (self.last_decode or now) > target:
                self.long_gaps += 1
        if has_decodes or none_before:
            self.last_decode = now

    def spoiled(self, allowance: float, lengths: OutputLengths, enough: float = inf) -> float:
        """Expected number of running requests that one more long gap would leave with too many of them.

        Args:
            allowance: Share of its gaps that may be long.
            lengths: How long outputs get: a request with few tokens so far may still earn the gap later on.
            enough: Beyond it the number is not counted to the end.
        """
        spoiled = 0.0
        each = 1.0 / allowance
        survival = lengths.survival
        steps, gaps = self.decode_steps, self.long_gaps + 1
        for joined, had in reversed(self.joins.values()):  # the youngest have the most to lose
            have = steps - joined
            need = int(each * (gaps - had)) + 1
            if have < need:
                spoiled += 1.0 - survival(need) / max(survival(have), 1e-6)
                if spoiled > enough:
                    break
        return spoiled
