"""The token budget of one step: a small live bound must starve no decode and must never stop prefill for good.

vLLM's scheduler drops a prefill chunk that is too small to be of use, silently and again in every step: with aligned
Mamba blocks (``_mamba_block_aligned_split``), with multimodal items that must not be split
(``_try_schedule_encoder_inputs``) and where chunking is off (the prompt must fit whole). So whenever a step has room
for prefill at all, the room is at least one *quantum*, the smallest chunk that is sure to be accepted; and when prefill
makes no progress for some steps although there is work and memory for it, the guard opens the budget, more each time.
"""

from dataclasses import dataclass
from typing import Final

PATIENCE_STEPS: Final = 16
"""Steps without prefill progress, with work waiting and memory for it, after which the guard opens the budget."""
SMALLEST_CHUNK: Final = 16
"""Tokens that are worth a chunk where nothing else says so."""


@dataclass(frozen=True, slots=True)
class Quantum:
    """What makes up the smallest useful prefill chunk of this engine, in tokens."""

    aligned_block: int = 0
    """Block that chunks must fill where Mamba caches are aligned; 0: they need not."""
    decode_tokens: int = 1
    """1 + speculative tokens: a full prefix hit is admitted with this many."""
    lookahead: int = 0
    """Drafters that consume prompt tokens ahead cut a chunk that would end within this distance of the prompt's end."""
    whole_items: bool = False
    """Multimodal items must not be split (``disable_chunked_mm_input``)."""
    whole_prompt: bool = False
    """Chunked prefill is off."""

    def tokens(self, largest_item: int, next_prompt: int) -> int:
        """The quantum.

        Args:
            largest_item: Largest multimodal item seen so far.
            next_prompt: Tokens of the prompt that would be admitted next; 0 when none waits.
        """
        quantum = max(SMALLEST_CHUNK, self.aligned_block + self.lookahead, self.decode_tokens)
        if self.whole_items:
            quantum = max(quantum, self.aligned_block + self.lookahead + largest_item)
        if self.whole_prompt:
            quantum = max(quantum, next_prompt)
        return quantum


class PrefillGuard:
    """Turns a wanted token budget into one that keeps the promises of the module's text."""

    def __init__(self, ceiling: int, patience_steps: int = PATIENCE_STEPS) -> None:
        self.is_calm = True
        """Prefill has progressed whenever it could: the guard adds nothing to a budget with room for a quantum."""
        self._ceiling = ceiling
        self._patience = patience_steps
        self._stalled = 0
        self._room = 0

    def grant(self, wanted: int, decode_tokens: int, quantum: int, prefill_possible: bool) -> tuple[int, bool]:
        """The budget of the coming step, and whether it was opened for prefill.

        Args:
            wanted: What the bounds and the planner ask for.
            decode_tokens: What the running decodes take.
            quantum: Smallest useful prefill chunk.
            prefill_possible: There is prefill work, and the sequence cap allows it.
        """
        if not prefill_possible:
            return min(self._ceiling, max(wanted, decode_tokens)), False
        room = wanted - decode_tokens
        opened = self._stalled >= self._patience
        if opened:
            self._stalled = 0
            self._room = max(quantum, 2 * max(self._room, room))
        room = max(room, self._room)
        if room > 0:
            room = max(room, quantum)
        return min(self._ceiling, decode_tokens + max(0, room)), opened

    def progressed(self, memory_free: bool, prefill_tokens: int) -> None:
        """What became of a step in which prefill was possible; without free memory the budget is not to blame."""
        if prefill_tokens:
            self._stalled = 0
            self._room = 0
            self.is_calm = True
        elif memory_free:
            self._stalled += 1
            self.is_calm = False
