"""Device time of a step from measured kernel times: dense layers, attention and the parts that run once per sequence."""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt
from typing import Protocol

from llmserving_lab.device.batch import StepBatch
from llmserving_lab.device.tables import Curve, Grid


class Kernels(Protocol):
    """Device time of the kernels of one step on a card at its full clock, without the host, links or any disturbance."""

    def microseconds(self, batch: StepBatch, *, dense_tokens: int) -> tuple[float, bool]:
        """Time in microseconds and whether a part of it was extrapolated.

        Args:
            batch: The step.
            dense_tokens: Tokens the dense layers compute (`batch.tokens`, or more where a graph pads them).
        """
        ...


@dataclass(frozen=True, slots=True)
class AttentionTable:
    """Attention time of one transformer block, in microseconds, from a profile's rows.

    A profile measures one prefill chunk at a time. Several chunks in a step are put together as one chunk of the same
    number of tokens and the same number of query-key pairs; a chunk larger than any measured is computed in pieces, one
    after another.

    All decodes of a measured row have the same context. Where contexts differ, the step takes the time at their mean and then
    waits for its longest sequence: the difference between the table's times for one decode at the longest context and for
    one at the mean.

    Far beyond the measured contexts the slope between two measured points says little of mixed steps: there one takes at least as
    long as its two parts.

    Attributes:
        prefill: Time by (chunk, cached tokens).
        decode: Time by (decodes, context).
        mixed: Time by (chunk, decodes, cached tokens, context), or None where the profile has no mixed rows; then the two
            parts are added, which underestimates.
        largest_chunk: Largest measured chunk.
        largest_cached: Largest measured number of cached tokens.
        largest_context: Largest measured decode context.
        largest_decodes: Largest measured number of decodes without, and with, a prefill chunk.
    """

    prefill: Grid
    decode: Grid
    mixed: Grid | None
    largest_chunk: int
    largest_cached: int
    largest_context: int
    largest_decodes: tuple[int, int]

    def microseconds(self, batch: StepBatch) -> tuple[float, bool]:
        """Time of one block's attention, and whether it was extrapolated."""
        if not batch.prefill:
            return self._decode(batch) if batch.decodes else (0.0, False)
        chunk, cached = equivalent_chunk(batch.prefill)
        extrapolated = cached > self.largest_cached
        total = 0.0
        while chunk > self.largest_chunk:
            total += self.prefill.at(self.largest_chunk, cached)
            chunk -= self.largest_chunk
            cached += self.largest_chunk
            extrapolated = True
        if not batch.decodes:
            return total + self.prefill.at(chunk, cached), extrapolated
        if self.mixed is None:
            time, beyond = self._decode(batch)
            return total + self.prefill.at(chunk, cached) + time, extrapolated or beyond
        mean = batch.decode_context_sum / batch.decodes
        time = self.mixed.at(chunk, batch.decodes, cached, mean)
        longest = batch.decode_context_max
        if longest > mean:
            time += self.mixed.at(chunk, 1, cached, longest) - self.mixed.at(chunk, 1, cached, mean)
        if cached > self.largest_cached or longest > self.largest_context:
            time = max(time, self.prefill.at(chunk, cached) + self._decode(batch)[0])
        beyond = batch.decodes > self.largest_decodes[1] or longest > self.largest_context
        return total + time, extrapolated or beyond

    def _decode(self, batch: StepBatch) -> tuple[float, bool]:
        mean = batch.decode_context_sum / batch.decodes
        time = self.decode.at(batch.decodes, mean)
        longest = batch.decode_context_max
        if longest > mean:
            time += self.decode.at(1, longest) - self.decode.at(1, mean)
        return time, batch.decodes > self.largest_decodes[0] or longest > self.largest_context


def equivalent_chunk(prefill: tuple[tuple[int, int], ...]) -> tuple[float, float]:
    """One `(tokens, cached)` chunk with as many tokens and query-key pairs as all the given chunks have together.

    Several short prompts have fewer pairs than one long prompt of the same length even with nothing cached; they count as a
    shorter chunk then.
    """
    if len(prefill) == 1:
        return prefill[0]
    tokens = 0
    pairs = 0.0
    for chunk, cached in prefill:
        tokens += chunk
        pairs += chunk * (cached + chunk / 2)
    cached_tokens = pairs / tokens - tokens / 2
    if cached_tokens >= 0:
        return tokens, cached_tokens
    return sqrt(2 * pairs), 0.0


@dataclass(frozen=True, slots=True)
class ProfileKernels:
    """Kernel times of a profile folder.

    Attributes:
        block: Dense time of one transformer block by tokens, microseconds.
        once: Dense time of the layers outside the blocks (embedding, final norm) by tokens.
        head: Time of the language-model head and the sampler by sampled sequences.
        attention: Attention time of one block.
        layers: Number of transformer blocks.
    """

    block: Curve
    once: Curve
    head: Curve
    attention: AttentionTable
    layers: int

    def microseconds(self, batch: StepBatch, *, dense_tokens: int) -> tuple[float, bool]:
        """See `Kernels`."""
        attention, extrapolated = self.attention.microseconds(batch)
        time = self.layers * (self.block.at(dense_tokens) + attention) + self.once.at(dense_tokens)
        if batch.sampled:
            time += self.head.at(batch.sampled)
        beyond = dense_tokens > self.block.largest or batch.sampled > self.head.largest
        return time, extrapolated or beyond
