"""How many prompt tokens a step computes, and whether beside the decodes or in a step of their own between two decode steps.

Attention kernels that serve both at once cost more than the two apart, a second step reads the weights once more: whichever
computes more tokens per second. Where memory is scarce and no work is left over, the decodes' own time counts less and less:
they take it anyway, so prompts go where they add least to it. When requests wait and the running ones can bear it, one long
prefill step.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import inf

from llmserving_engine.planning.lengths import OutputLengths
from llmserving_engine.planning.pace import Pace
from llmserving_engine.planning.probing import Probe
from llmserving_engine.planning.protocol import StepComposition
from llmserving_engine.planning.settings import PredictiveSettings
from llmserving_engine.planning.sizing import GRID, Work, best_size
from llmserving_engine.planning.slack import LONGEST_GAP, Stream
from llmserving_engine.planning.step_model import Trim

LONG_LEAST_TOKENS = 1000
"""Work that is worth a long step."""
UNDISTURBED_SHARE = 0.1
"""Where nobody decodes, a step that computes one long prompt takes at most this share of the target of first tokens: so long may
who comes meanwhile have to wait, ..."""
UNDISTURBED_LEAST = 256
"""... and computes no fewer tokens than these: far down a prompt fewer hardly take less time."""
CRAMPED = 0.97
"""Share of a step's time that the decodes may take by themselves where prompts take a long gap because nothing else is left: with
one more of them all would be late."""
MANY_TOKENS = 1 << 17
"""Of context, to see what they cost."""
FEW = 32
"""See `Shaper.bearable`."""
LONG_LEAST_GAP = 1.5
"""A step shorter than so many targets is no long one: the next two usual steps compute as much."""

Seconds = Callable[[int], float]


@dataclass(frozen=True, slots=True)
class Decodes:
    """The running decodes of the step being planned: how many, and the tokens they attend to."""

    count: int
    context: int


@dataclass(frozen=True, slots=True)
class Choice:
    """What the step shall be.

    Attributes:
        tokens: Prompt tokens.
        beside_decodes: Whether the decodes get their tokens in the same step.
        seconds: Predicted duration; 0: unknown.
    """

    tokens: int = 0
    beside_decodes: bool = True
    seconds: float = 0.0


class Shaper:
    """Chooses; knows what steps take."""

    def __init__(self, settings: PredictiveSettings, pace: Pace, stream: Stream, lengths: OutputLengths) -> None:
        self._settings = settings
        self._times = Trim(settings.model)
        self._probe = Probe()
        self._pace, self._stream, self._lengths = pace, stream, lengths
        self._last_long = 0
        self._largest_step = 512

    @property
    def trim(self) -> float:
        """What predictions are multiplied by for what was seen since the model was fitted."""
        return self._times.value

    def configure(self, settings: PredictiveSettings) -> None:
        """A newly fitted model or other percentiles."""
        self._settings = settings
        self._times.adopt(settings.model)

    def landed(self, held: StepComposition, seconds: float) -> None:
        """A step that held this took so long."""
        self._largest_step = max(self._largest_step, held.prefill_tokens)
        self._probe.completed(held.prefill_tokens + held.decode_requests, seconds)
        self._times.observe(
            held.prefill_tokens,
            held.prefill_attention_tokens,
            held.decode_requests,
            held.decode_context_tokens,
            seconds,
        )

    def choose(
        self, work: Work, most: int, decodes: Decodes, itl: float, ttft: float, age: float, *, is_behind: bool
    ) -> Choice:
        """The step.

        Args:
            work: Prompt tokens on offer.
            most: Prompt tokens that the bounds allow.
            decodes: The running decodes.
            itl: Target of the time between tokens in seconds.
            ttft: Target of the first token in seconds.
            age: Seconds since the decodes' last tokens when the step begins.
            is_behind: Whether somebody will miss, or has missed, the first token's target.
        """
        total = min(work.tokens, most)
        if self._times.model is None:  # before the first one: beside the decodes, a budget found by feedback
            return Choice(max(0, min(work.tokens, self._probe.budget(itl, most))))
        seconds, pairs = self._times.seconds, work.pairs
        n, context = decodes.count, decodes.context
        bare = seconds(0, 0.0, n, context) if n else 0.0
        if total <= 0:
            return Choice(seconds=bare)

        def alone(tokens: int) -> float:
            return seconds(tokens, pairs(tokens), 0, 0)

        def mixed(tokens: int) -> float:
            return seconds(tokens, pairs(tokens), n, context)

        sure = 1.0 - self._settings.guard(self._times.error)
        target = itl * sure
        long_gap = self._settings.long_share * sure * LONGEST_GAP * itl
        if not n:
            tokens = best_size(alone, total, target)
            first = min(work.first_tokens, total)
            if tokens < first:  # a long prompt by itself: nobody waits for a token of this step
                limit = max(target, min(long_gap, UNDISTURBED_SHARE * ttft))
                tokens = best_size(alone, first, limit) or min(first, UNDISTURBED_LEAST)
            taken = alone(tokens)
            self._pace.chosen(tokens, taken, total)
            return Choice(tokens, False, taken)
        is_doubtful = len(work.refused) == len(
            work.jobs
        )  # decodes do not pause for those whom the engine may pass over again
        if not is_doubtful and self._may_be_long(itl, age, min(total, work.hurried_tokens), is_behind=is_behind):
            tokens = best_size(alone, min(total, 2 * self._largest_step), long_gap - age - bare, bare)
            taken = alone(tokens) if tokens else 0.0
            if taken > LONG_LEAST_GAP * itl and self._is_bearable():
                self._last_long = self._stream.decode_steps
                self._pace.chosen(tokens, taken, total)
                return Choice(tokens, False, taken)
        thrift = 0.0 if is_behind and not work.is_blocked else self._pace.thrift
        spared = thrift * sure * bare
        apart = 0 if is_doubtful else best_size(alone, total, target - age - bare, bare - spared, thrift)
        beside = best_size(mixed, total, target - age, -spared, thrift)
        if not apart and not beside:
            smallest = min(total, GRID)
            least = min(mixed(smallest), alone(smallest) + bare)
            return self._cramped(total, long_gap - age - bare, least, target, alone, bare)
        taken_apart = alone(apart) if apart else 0.0
        taken_beside = mixed(beside) if beside else 0.0
        is_apart = not beside or apart * (taken_beside - spared) > beside * (taken_apart + bare - spared)
        if is_apart:
            self._pace.chosen(apart, taken_apart + bare + age, total)
            return Choice(apart, False, taken_apart)
        self._pace.chosen(beside, taken_beside + age, total)
        return Choice(beside, True, taken_beside)

    def bearable(self, decodes: Decodes, itl: float) -> float:
        """KV tokens that so many decodes can attend to in steps that keep the target and leave a little time for prompts.

        Infinite where that is no more than `FEW` such decodes hold: then single ones make the difference, and no forecast tells
        which; what the step takes as it is decides.
        """
        n = decodes.count
        if self._times.model is None or not n:
            return inf
        seconds = self._times.seconds
        bare = seconds(0, 0.0, n, 0)
        each = (seconds(0, 0.0, n, MANY_TOKENS) - bare) / MANY_TOKENS
        target = CRAMPED * itl * (1.0 - self._settings.guard(self._times.error))
        tokens = max(target - bare, 0.0) / each if each > 0 else inf
        return tokens if tokens > FEW * decodes.context / n else inf

    def _cramped(self, total: int, limit: float, least: float, target: float, alone: Seconds, bare: float) -> Choice:
        """What to do where no prompt tokens fit: the decodes alone, or a long gap for prompts, which are otherwise never computed.

        Args:
            total: Prompt tokens on offer.
            limit: Longest prefill step.
            least: What the smallest prompt chunk and the decodes take.
            target: Longest step without a long gap.
            alone: What prompt tokens take in a step of their own.
            bare: What the decodes take by themselves.
        """
        if least > target and bare <= CRAMPED * target and self._may_have_long_gap() and self._is_bearable():
            tokens = best_size(alone, min(total, 2 * self._largest_step), limit, bare)
            if tokens:
                self._last_long = self._stream.decode_steps
                return Choice(tokens, False, alone(tokens))
        return Choice(seconds=bare)

    def _may_have_long_gap(self) -> bool:
        settings = self._settings
        since = self._stream.decode_steps - self._last_long
        return settings.long_share > 0 and since >= settings.long_spacing / settings.itl_allowance

    def _may_be_long(self, itl: float, age: float, total: int, *, is_behind: bool) -> bool:
        settings = self._settings
        if settings.long_share <= 0 or age > 0.5 * itl or total < LONG_LEAST_TOKENS:
            return False
        if self._pace.is_memory_bound:  # requests that take longer hold their memory longer
            return False
        if not self._may_have_long_gap():
            return False
        return is_behind or total > settings.long_backlog * self._pace.rate

    def _is_bearable(self) -> bool:
        settings = self._settings
        return self._stream.spoiled(settings.itl_allowance, self._lengths, settings.long_harm) <= settings.long_harm
