"""Whether an otherwise idle engine could meet the targets at all.

Judged from the kindest steps seen: if even those are too slow, no bound helps. The quickest decode-only step stands
for the inter-token latency of an idle engine, the highest prefill rate for its time to first token. Without such
steps nothing is known. An engine that was never seen nearly idle is not called infeasible.
"""

from dataclasses import dataclass

from llmserving_agent.signals.attainment import JudgeBy
from llmserving_agent.signals.lengths import Lengths
from llmserving_api.telemetry import StepRecord

IDLE_DECODES = 4
"""Steps with at most this many decodes count as an idle engine's."""
ENOUGH_STEPS = 20
PREFILL_TOKENS = 128
"""Steps with fewer prefill tokens say little of the prefill rate: fixed costs dominate."""


@dataclass(slots=True)
class Feasibility:
    """Gathers the kindest steps of one engine.

    Attributes:
        idle_steps: Decode-only steps with few decodes.
        idle_seconds: Their smoothed duration.
        any_seconds: Smoothed duration of decode-only steps of whatever size.
        prefill_tokens_per_second: Highest prefill rate of a step.
        prefill_steps: Steps with enough prefill.
    """

    idle_steps: int = 0
    idle_seconds: float = 0.0
    any_seconds: float = 0.0
    prefill_tokens_per_second: float = 0.0
    prefill_steps: int = 0

    def add(self, record: StepRecord) -> None:
        """Count one step."""
        if not record.duration_ns:
            return
        seconds = record.duration_ns / 1e9
        if record.prefill_tokens == 0 and record.decode_requests:
            self.any_seconds += 0.1 * (seconds - self.any_seconds) if self.any_seconds else seconds
            if record.decode_requests <= IDLE_DECODES:
                self.idle_steps += 1
                self.idle_seconds += 0.1 * (seconds - self.idle_seconds) if self.idle_seconds else seconds
        elif record.prefill_tokens >= PREFILL_TOKENS:
            self.prefill_steps += 1
            self.prefill_tokens_per_second = max(self.prefill_tokens_per_second, record.prefill_tokens / seconds)

    @property
    def idle_step_seconds(self) -> float | None:
        """Duration of a step with hardly anything in it; None before enough were seen."""
        return self.idle_seconds if self.idle_steps >= ENOUGH_STEPS else None

    def verdict(self, targets: JudgeBy, lengths: Lengths) -> bool | None:
        """False when a target is out of reach, True when none is, None while that is not known of every target."""
        verdicts = []
        if targets.itl is not None:
            verdicts.append(self._itl(targets.itl.target_seconds))
        if targets.ttft is not None:
            verdicts.append(self._ttft(targets.ttft.target_seconds, lengths))
        if not verdicts or False in verdicts:
            return False if verdicts else None
        return None if None in verdicts else True

    def _itl(self, target: float) -> bool | None:
        if self.any_seconds and self.any_seconds <= target:
            return True
        idle = self.idle_step_seconds
        return False if idle is not None and idle > target else None

    def _ttft(self, target: float, lengths: Lengths) -> bool | None:
        if self.prefill_steps < ENOUGH_STEPS or not lengths.finished:
            return None
        return lengths.prompt_p95 / self.prefill_tokens_per_second <= target
