from collections.abc import Callable

import pytest

from llmserving_lab.record.series import read_state


def test_the_engines_behind_one_server_are_added_up(metrics_text: Callable[..., str]) -> None:
    state = read_state(metrics_text(running=3, waiting=1, finished=5, engines=2))
    assert state is not None
    assert (state.running, state.waiting, state.finished, state.output_tokens) == (6, 2, 10, 100)
    assert (state.kv_usage, state.kv_tokens, state.block_size, state.engines) == (0.25, 32_000, 16, 2)


def test_a_capacity_that_is_not_told_is_none_and_not_zero(metrics_text: Callable[..., str]) -> None:
    state = read_state(metrics_text().replace('num_gpu_blocks="1000"', 'num_gpu_blocks="None"'))
    assert state is not None
    assert state.kv_tokens is None


@pytest.mark.parametrize("text", ["", "process_cpu_seconds_total 5\n"])
def test_series_of_something_else_are_no_state(text: str) -> None:
    assert read_state(text) is None
