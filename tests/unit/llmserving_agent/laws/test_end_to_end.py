"""What an end-to-end target means to a planner."""

from collections.abc import Callable
from typing import Any

import pytest

from llmserving_agent.laws.end_to_end import ENOUGH_FINISHED, first_token_deadline
from llmserving_agent.laws.protocol import Setting, Window
from llmserving_agent.signals.epoch import EpochSums
from llmserving_agent.signals.lengths import Lengths
from llmserving_api.latency import bucket_of
from llmserving_api.policy import Target

E2E = Target(percentile=95, target_seconds=10.0)


@pytest.fixture
def outputs(window: Callable[..., Window], epoch: Callable[..., EpochSums]) -> Callable[..., Window]:
    """Outputs of 101 tokens, one in ten of 201; gaps of 20 ms."""

    def make(count: int = ENOUGH_FINISHED, **changes: Any) -> Window:
        samples = tuple((500, 201 if k % 10 == 0 else 101) for k in range(count))
        mean = sum(output for _, output in samples) / count
        lengths = Lengths(finished=count, output_mean=mean, samples=samples)
        seen = epoch(gaps={bucket_of(0.02): 500})
        return window(**{"lengths": lengths, "epoch": seen, **changes})

    return make


def deadline(window: Window, setting: Callable[..., Setting], **targets: Target | None) -> float | None:
    return first_token_deadline(window, setting(**{"ttft": None, "itl": None, "e2e": E2E, **targets}))


def test_without_an_end_to_end_target_nothing_is_implied(
    outputs: Callable[..., Window], setting: Callable[..., Setting]
):
    assert deadline(outputs(), setting, e2e=None) is None


def test_first_tokens_leave_time_for_a_usual_output_at_the_present_pace(
    outputs: Callable[..., Window], setting: Callable[..., Setting]
):
    assert deadline(outputs(), setting) == pytest.approx(10.0 - 112 * 0.02, rel=0.05)


def test_before_lengths_are_known_a_first_token_is_late_when_all_of_the_target_is_gone(
    outputs: Callable[..., Window], setting: Callable[..., Setting]
):
    assert deadline(outputs(count=5), setting) == 10.0


def test_the_stricter_of_both_counts(outputs: Callable[..., Window], setting: Callable[..., Setting]):
    assert deadline(outputs(), setting, ttft=Target(percentile=95, target_seconds=2.0)) is None
    assert deadline(outputs(), setting, ttft=Target(percentile=95, target_seconds=50.0)) == deadline(outputs(), setting)


def test_outputs_that_cannot_end_in_time_leave_a_tenth_of_the_target_to_first_tokens(
    outputs: Callable[..., Window], setting: Callable[..., Setting], epoch: Callable[..., EpochSums]
):
    slow = outputs(epoch=epoch(gaps={bucket_of(1.0): 500}))
    assert deadline(slow, setting) == pytest.approx(1.0)
