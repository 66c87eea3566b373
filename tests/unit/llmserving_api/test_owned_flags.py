"""Flags that the operator sets are refused however they are spelled; all others pass."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmserving_api.v1alpha1.owned import BEGINNINGS_OF_OWNED, OWNED_FLAGS, OWNED_VARIABLES, EngineFlag, VariableName

FLAGS = [flag for owned in OWNED_FLAGS for flag in owned.flags]


@given(st.sampled_from(FLAGS), st.data())
def test_every_spelling_is_refused(flag: str, data: st.DataObject) -> None:
    dashes = data.draw(st.lists(st.sampled_from("-_"), min_size=len(flag), max_size=len(flag)))
    spelled = "--" + "".join(dashes[i] if c == "-" else c for i, c in enumerate(flag[2:], 2))
    cut = data.draw(st.integers(min_value=3, max_value=len(spelled)))
    value = data.draw(st.sampled_from(["", "=1", ".x=1"]))
    beginning = spelled[:cut].replace("_", "-")
    if beginning not in BEGINNINGS_OF_OWNED:
        assert EngineFlag().refusal(spelled[:cut] + value) is not None


@pytest.mark.parametrize(
    "argument",
    [
        "--tensor-parallel-size=2",
        "--data-parallel-size=2",
        "--data_parallel_size=2",
        "--config-format=mistral",
        "--model-impl=vllm",
        "--max-model-len=4096",
        "--max-num-partial-prefills=2",
        "--no-enable-prefix-caching",
        '--compilation-config={"level": 3}',
        "--kv-transfer-config.kv_connector=x",
    ],
)
def test_flags_of_the_user_pass(argument: str) -> None:
    assert EngineFlag().refusal(argument) is None


@pytest.mark.parametrize(
    "argument", ["", "-", "--", "-tp", "-tp=2", "2", "--=2", "--_x", "serve", " --max-model-len=1"]
)
def test_what_is_no_long_flag_is_refused(argument: str) -> None:
    assert "long form" in str(EngineFlag().refusal(argument))


@pytest.mark.parametrize("name", [name for owned in OWNED_VARIABLES for name in owned.names])
def test_variables_of_the_operator_are_refused(name: str) -> None:
    refusal = VariableName().refusal(name)
    assert refusal is not None
    assert name in refusal
    assert VariableName().refusal(f"MY_{name}") is None


def test_our_own_prefix_is_refused() -> None:
    assert VariableName().refusal("LLMSERVING_CONTROL_DIR") is not None
