"""Memory of a card under vLLM: what remains for the KV cache once weights, activations and graphs have their share."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

GIB = 1 << 30


@dataclass(frozen=True, slots=True)
class ModelShape:
    """Sizes of a transformer that memory and communication depend on.

    Attributes:
        layers: Transformer blocks.
        hidden: Width of the hidden state.
        intermediate: Width of the MLP (of the active experts together, for mixtures).
        kv_heads: Key-value heads.
        head_dim: Width of one head.
        vocabulary: Size of the vocabulary.
        parameters: Number of parameters.
        bytes_per_value: Bytes of a weight, activation or KV value (2 for bfloat16).
    """

    layers: int
    hidden: int
    intermediate: int
    kv_heads: int
    head_dim: int
    vocabulary: int
    parameters: float
    bytes_per_value: int = 2

    @property
    def kv_bytes_per_token(self) -> int:
        """Bytes of one token's keys and values over all blocks."""
        return 2 * self.layers * self.kv_heads * self.head_dim * self.bytes_per_value

    @property
    def hidden_bytes(self) -> int:
        """Bytes of one token's hidden state."""
        return self.hidden * self.bytes_per_value


@dataclass(frozen=True, slots=True)
class Memory:
    """Memory of one card with one model, as vLLM divides it.

    vLLM measures the peak of a dummy step at its ceilings and gives the KV cache what is left of `utilisation` of the card.
    The peak is estimated here: the widest activations of a full token budget, or the logits of a full batch in float32 with the
    sampler's copies, whichever is larger; captured graphs take some memory per size.

    Attributes:
        card_bytes: Memory of the card.
        shape: The model.
        cards: Tensor-parallel size: weights, KV heads and MLP width are divided by it.
        utilisation: vLLM's `gpu_memory_utilization`.
        overhead_bytes: CUDA context, libraries and workspaces.
        graph_bytes: Memory of one captured graph size.
    """

    card_bytes: int
    shape: ModelShape
    cards: int = 1
    utilisation: float = 0.9
    overhead_bytes: int = GIB
    graph_bytes: int = 12 << 20

    def activation_bytes(self, max_num_seqs: int, max_num_batched_tokens: int) -> int:
        """Peak of a dummy step at these ceilings, without weights and KV."""
        shape = self.shape
        widest = 3 * shape.intermediate // self.cards + 4 * shape.hidden
        forward = max_num_batched_tokens * widest * shape.bytes_per_value
        logits = max_num_seqs * shape.vocabulary * (shape.bytes_per_value + 2 * 4)
        return max(forward, logits)

    def graph_pool_bytes(self, max_num_seqs: int) -> int:
        """Memory of all captured graphs: sizes grow with the sequence ceiling as in vLLM."""
        return len(capture_sizes(max_num_seqs)) * self.graph_bytes

    def kv_tokens(self, max_num_seqs: int, max_num_batched_tokens: int) -> int:
        """Tokens of KV cache under these ceilings; 0 where nothing is left."""
        weights = int(self.shape.parameters * self.shape.bytes_per_value) // self.cards
        left = (
            int(self.card_bytes * self.utilisation)
            - self.overhead_bytes
            - weights
            - self.activation_bytes(max_num_seqs, max_num_batched_tokens)
            - self.graph_pool_bytes(max_num_seqs)
        )
        heads = max(1, self.shape.kv_heads // self.cards)
        per_token = self.shape.kv_bytes_per_token * heads // self.shape.kv_heads
        return max(0, left // per_token)


def capture_sizes(max_num_seqs: int, largest: int = 512) -> tuple[int, ...]:
    """CUDA-graph sizes that vLLM captures by default: 1, 2, 4, every 8 below 256, every 16 up to twice the sequence ceiling.

    Source: vLLM 0.32, `config/vllm.py`, `_set_cudagraph_sizes`.
    """
    top = min(2 * max_num_seqs, largest)
    sizes = [size for size in (1, 2, 4) if size <= top]
    sizes += range(8, min(top + 1, 256), 8)
    sizes += range(256, top + 1, 16)
    return tuple(sizes)


@cache
def _table(name: str) -> dict[str, Any]:
    table: dict[str, Any] = json.loads((files("llmserving_lab.device") / name).read_text())
    return table


def known_card_bytes(card: str) -> int | None:
    """Memory of a card by its driver name, or None if the shipped table has no such card."""
    for fragment, gib in _table("cards.json")["memory_gib"].items():
        if fragment.lower() in card.lower():
            return int(gib * GIB)
    return None


def known_shape(model: str) -> ModelShape | None:
    """Shape of a model by its name (the part after the organisation), or None if the shipped table has no such model."""
    wanted = model.rsplit("/", 1)[-1].lower()
    for name, shape in _table("shapes.json")["models"].items():
        if wanted in {name.lower(), f"{name.lower()}-instruct"}:
            return ModelShape(**shape)
    return None
