"""The memory law against the paper's equations and their corrections."""

import math
import random
from collections.abc import Callable

import pytest

from llmserving_agent.laws.memory import Footprint, Memory, MemoryRule, block_bound, buffered_bound, clt_bound
from llmserving_agent.laws.protocol import Setting, Window
from llmserving_agent.signals.epoch import EpochSums
from llmserving_agent.signals.lengths import Lengths
from llmserving_api.conditions import DecisionReason
from llmserving_api.control import Bounds

LENGTHS = Lengths(finished=512, mean=500.0, sd=300.0, resident_mean=400.0)


def test_closed_form_of_the_worked_example() -> None:
    assert clt_bound(1e5, 500, 300, 0.05) == 186


@pytest.mark.parametrize(("sd", "probability", "bound"), [(300, 0.05, 1910), (0, 0.05, 1953)])
def test_with_many_sequences_the_safety_term_is_small(sd: float, probability: float, bound: int) -> None:
    assert clt_bound(1e6, 512, sd, probability) == bound


def test_the_corrected_buffer_converges_to_the_closed_form() -> None:
    b = 100.0
    for _ in range(8):
        b = buffered_bound(1e5, 500, 300, 0.05, b)
    assert b == pytest.approx(186.5, abs=0.1)


def test_the_buffer_as_printed_grows_without_limit() -> None:
    """Equation 14 as printed, fed back, is b + theta sd sqrt(b) / mean: the reason for the correction."""
    b = 100.0
    for _ in range(6):
        buffer = 1e5 - (1.6449 * 300 * math.sqrt(b) + 500 * b)
        b = (1e5 - buffer) / 500
    assert b == pytest.approx(166, abs=1)
    assert b > 1.5 * 100


def test_the_bound_keeps_the_probability_of_overflow() -> None:
    source = random.Random(7)
    b = clt_bound(1e5, 500, 300, 0.05)

    def overflow_share(sequences: int) -> float:
        overflows = 0
        for _ in range(2000):
            total = sum(source.gauss(500, 300) for _ in range(sequences))
            overflows += total > 1e5
        return overflows / 2000

    assert overflow_share(b) < 0.065
    assert overflow_share(b + 12) > 0.2


def test_block_rule_of_the_readme() -> None:
    assert block_bound(total=1000, used=400, running=40, factor=0.95) == 95
    assert block_bound(total=1000, used=0, running=40, factor=0.95) is None


def test_without_anybody_waiting_the_bound_stays(
    window: Callable[..., Window], setting: Callable[..., Setting]
) -> None:
    _, decision = Memory().decide(1.0, window(waiting=0, lengths=LENGTHS), setting())
    assert decision.bounds == window().bounds


def test_the_bound_is_never_below_what_runs(window: Callable[..., Window], setting: Callable[..., Setting]) -> None:
    seen = window(running=300, kv_blocks_used=29000, lengths=Lengths(finished=100, mean=5000.0, sd=0.0))
    _, decision = Memory().decide(1.0, seen, setting())
    assert decision.bounds.max_num_seqs == 300


def test_lengths_rule_needs_enough_finished_requests(
    window: Callable[..., Window], setting: Callable[..., Setting]
) -> None:
    _, decision = Memory(rule=MemoryRule.CLT).decide(1.0, window(lengths=Lengths(finished=3)), setting())
    assert decision.reason is DecisionReason.TOO_FEW_SAMPLES
    assert decision.bounds == window().bounds


def test_until_then_the_block_rule_decides(
    window: Callable[..., Window], setting: Callable[..., Setting], epoch: Callable[..., EpochSums]
) -> None:
    seen = window(running=100, kv_blocks_used=10000, kv_blocks_total=30000, epoch=epoch(seqs_binding=0.0))
    _, decision = Memory().decide(1.0, seen, setting())
    assert decision.bounds.max_num_seqs == 285


def test_resident_footprint_allows_more_than_the_final_one(
    window: Callable[..., Window], setting: Callable[..., Setting]
) -> None:
    seen = window(kv_blocks_used=29000, kv_blocks_total=6250, lengths=LENGTHS)
    _, final = Memory().decide(1.0, seen, setting())
    _, resident = Memory(footprint=Footprint.RESIDENT).decide(1.0, seen, setting())
    assert final.bounds.max_num_seqs == 186
    assert resident.bounds.max_num_seqs > 186


def test_trust_grows_while_a_binding_bound_leaves_the_cache_empty(
    window: Callable[..., Window], setting: Callable[..., Setting], epoch: Callable[..., EpochSums]
) -> None:
    trust = 1.0
    for _ in range(20):
        trust, decision = Memory().decide(trust, window(kv_blocks_total=6250, lengths=LENGTHS), setting())
    assert decision.bounds.max_num_seqs > 2 * 186
    preempting = window(kv_blocks_total=6250, lengths=LENGTHS, epoch=epoch(preempted=1))
    assert Memory().decide(trust, preempting, setting())[0] < trust


def test_trust_stays_when_the_bound_holds_nobody_back(
    window: Callable[..., Window], setting: Callable[..., Setting], epoch: Callable[..., EpochSums]
) -> None:
    seen = window(lengths=LENGTHS, epoch=epoch(seqs_binding=0.0))
    assert Memory().decide(1.0, seen, setting())[0] == 1.0


def test_the_token_bound_is_left_alone(
    window: Callable[..., Window], setting: Callable[..., Setting], bounds: Callable[..., Bounds]
) -> None:
    _, decision = Memory().decide(1.0, window(bounds=bounds(400, 777), lengths=LENGTHS), setting())
    assert decision.bounds.max_num_batched_tokens == 777
