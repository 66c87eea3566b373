"""What a step takes beside its kernels: communication between cards, and the host."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Links:
    """Communication of tensor parallelism: two all-reduces of the hidden state per block.

    Attributes:
        latency_seconds: Fixed time of one all-reduce.
        bandwidth_bytes_per_second: Bandwidth of one card's links in one direction.
    """

    latency_seconds: float
    bandwidth_bytes_per_second: float

    def seconds(self, *, tokens: int, hidden_bytes: int, layers: int, cards: int) -> float:
        """Time of a step's all-reduces: a ring moves `2 (n - 1) / n` of the bytes over each card's links."""
        per_reduce = self.latency_seconds + (
            2 * (cards - 1) / cards * tokens * hidden_bytes / self.bandwidth_bytes_per_second
        )
        return 2 * layers * per_reduce


@dataclass(frozen=True, slots=True)
class Host:
    """Host time of a step: scheduling, input preparation, output handling of vLLM on a server processor.

    Asynchronous scheduling hides it behind the device as long as it is shorter; synchronous scheduling adds it.
    The defaults are vLLM 0.32's own scheduling and update times, halved for a server processor.
    """

    step_seconds: float = 0.2e-3
    sequence_seconds: float = 6e-6

    def seconds(self, sequences: int) -> float:
        """Host time of a step with this many scheduled sequences."""
        return self.step_seconds + sequences * self.sequence_seconds
