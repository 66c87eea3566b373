"""What the resource's rules take for granted of the ceilings that vLLM chooses where a flag is left off."""

from types import SimpleNamespace

import pytest
from vllm.engine.arg_utils import EngineArgs
from vllm.usage.usage_lib import UsageContext

from llmserving_api.v1alpha1.spec import LEAST_DEFAULT_TOKENS
from llmserving_lab.bench.machine import as_card
from llmserving_lab.device.model import load_device

MODEL = SimpleNamespace(max_model_len=16384, is_multimodal_model=False, is_mm_prefix_lm=False)
PARALLEL = SimpleNamespace(use_batched_dp_moe=False)


def chosen(card: str, **given: int) -> tuple[int | None, int | None]:
    """Sequences and tokens that an API server starts with on a card, some of them given as flags."""
    arguments = EngineArgs(model=".", enable_chunked_prefill=True, **given)
    with as_card(load_device(card)):
        arguments._set_default_max_num_seqs_and_batched_tokens_args(UsageContext.OPENAI_API_SERVER, MODEL, PARALLEL)
    return arguments.max_num_seqs, arguments.max_num_batched_tokens


@pytest.mark.parametrize(
    ("card", "given", "ceilings"),
    [
        ("rtx4090-llama-3.1-8b", {}, (256, LEAST_DEFAULT_TOKENS)),
        ("rtxpro6000-llama-3.1-8b", {}, (1024, 8192)),
        # a budget alone lowers the sequences to what it can hold
        ("rtx4090-llama-3.1-8b", {"max_num_batched_tokens": 128}, (128, 128)),
        # sequences alone do not raise the budget, so no more of them may be given than it holds
        ("rtx4090-llama-3.1-8b", {"max_num_seqs": 4096}, (4096, LEAST_DEFAULT_TOKENS)),
    ],
)
def test_a_flag_left_off_is_chosen_for_the_card(card: str, given: dict[str, int], ceilings: tuple[int, int]) -> None:
    assert chosen(card, **given) == ceilings
