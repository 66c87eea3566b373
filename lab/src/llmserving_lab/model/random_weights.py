"""Makes a tiny Llama with random weights, large enough that the best token is rarely nearly tied: real kernels, no download.

Runs in the engine's environment (it needs `torch` and `transformers`): `python -m llmserving_lab.model.random_weights FOLDER`.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from llmserving_lab.model.folder import make_model_folder

VOCABULARY = 1024
"""As many as the tokenizer of `make_model_folder` may have."""


def make_random_model(folder: Path) -> None:
    """Write configuration, tokenizer and float32 weights: the same every time."""
    make_model_folder(folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=256,
        intermediate_size=512,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=4096,
        initializer_range=0.2,
        dtype="float32",
    )
    LlamaForCausalLM(config).float().save_pretrained(folder)


if __name__ == "__main__":
    make_random_model(Path(sys.argv[1]))
