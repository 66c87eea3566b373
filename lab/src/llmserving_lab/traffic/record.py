"""What a client saw of one request, and the latencies that follow from it."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise


@dataclass(frozen=True, slots=True)
class RequestRecord:
    """One request at the client. Times are seconds of the machine's monotonic clock.

    Attributes:
        sent: When it was sent.
        prompt_tokens: Length of its prompt.
        output_tokens: Length of the answer it asked for.
        outputs: When each output arrived, in order.
        ended: When the answer ended or the request failed.
        error: Empty for a complete answer, else what went wrong.
    """

    sent: float
    prompt_tokens: int
    output_tokens: int
    outputs: tuple[float, ...]
    ended: float
    error: str = ""

    @property
    def completed(self) -> bool:
        """Whether the whole answer arrived."""
        return not self.error

    @property
    def ttft_seconds(self) -> float | None:
        """Time to first token, None where none came."""
        return self.outputs[0] - self.sent if self.outputs else None

    @property
    def gaps(self) -> tuple[float, ...]:
        """Seconds between outputs."""
        return tuple(later - earlier for earlier, later in pairwise(self.outputs))

    def to_json(self) -> str:
        """One line of JSON; times to a tenth of a millisecond."""
        fields = asdict(self)
        for name in ("sent", "ended"):
            fields[name] = round(fields[name], 4)
        fields["outputs"] = [round(time, 4) for time in self.outputs]
        return json.dumps(fields, separators=(",", ":"))

    @classmethod
    def from_json(cls, line: str) -> RequestRecord:
        """Read a line written by `to_json`."""
        fields = json.loads(line)
        return cls(**{**fields, "outputs": tuple(fields["outputs"])})


@dataclass(frozen=True, slots=True)
class Goals:
    """Targets in force for a request; None: no such target.

    Attributes:
        ttft_seconds: Target of the time to first token.
        itl_seconds: Target of the inter-token latency.
        percentile: Share of a request's own gaps that must be within the target, in percent.
    """

    ttft_seconds: float | None
    itl_seconds: float | None
    percentile: int = 95


WORST_GAP_FACTOR = 5.0
"""No single gap of a good request exceeds the target by more than this factor."""


def is_good(record: RequestRecord, goals: Goals) -> bool:
    """Whether the request had the latencies promised: TTFT, its own gaps at the percentile, and no extreme gap."""
    ttft = record.ttft_seconds
    if not record.completed or ttft is None:
        return False
    if goals.ttft_seconds is not None and ttft > goals.ttft_seconds:
        return False
    gaps = record.gaps
    if goals.itl_seconds is None or not gaps:
        return True
    typical = quantile(gaps, goals.percentile)
    return typical is not None and typical <= goals.itl_seconds and max(gaps) <= WORST_GAP_FACTOR * goals.itl_seconds


def quantile(values: Sequence[float], percentile: float) -> float | None:
    """Nearest-rank percentile; None of nothing."""
    if not values:
        return None
    ordered = sorted(values)
    return ordered[max(1, math.ceil(percentile / 100 * len(ordered))) - 1]
