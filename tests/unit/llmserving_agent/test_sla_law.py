"""The SLA law and its combination with the memory law."""

from collections.abc import Callable

import pytest

from llmserving_agent.laws.end_to_end import inter_token_target
from llmserving_agent.laws.memory_sla import MemorySLA
from llmserving_agent.laws.protocol import GPUMemory, Setting, Window
from llmserving_agent.laws.sla import FIRST_RATIO, GREATEST_RATIO, SLA
from llmserving_agent.laws.static import Static
from llmserving_agent.signals.epoch import EpochSums, Steps
from llmserving_agent.signals.lengths import Lengths
from llmserving_api.conditions import DecisionReason
from llmserving_api.control import Bounds
from llmserving_api.policy import Limits, Target

Windows = Callable[..., Window]
Settings = Callable[..., Setting]
Epochs = Callable[..., EpochSums]
Gaps = Callable[..., dict[int, int]]
BoundsOf = Callable[..., Bounds]

QUICK = Steps(count=60, seconds=0.02, decodes=60, tokens=60)
LONG = Steps(count=30, seconds=0.08, decodes=60, tokens=1024)


def test_long_steps_with_prefill_lower_the_token_bound_and_leave_the_sequence_bound(
    window: Windows, setting: Settings, epoch: Epochs, gaps: Gaps
) -> None:
    seen = window(epoch=epoch(decode=QUICK, mixed=LONG, full=LONG, gaps=gaps(0.08), seqs_binding=0.0))
    law = SLA()
    _, decision = law.decide(law.start(seen.bounds, setting()), seen, setting())
    assert decision.bounds.max_num_batched_tokens < 512
    assert decision.bounds.max_num_seqs >= seen.bounds.max_num_seqs
    assert decision.reason is DecisionReason.ITL_HIGH
    assert "over target 50 ms" in decision.message


def test_long_steps_without_prefill_lower_the_sequence_bound(
    window: Windows, setting: Settings, epoch: Epochs, gaps: Gaps
) -> None:
    slow = Steps(count=60, seconds=0.09, decodes=64, tokens=64)
    seen = window(epoch=epoch(decode=slow, gaps=gaps(0.09)))
    law = SLA()
    _, decision = law.decide(law.start(seen.bounds, setting()), seen, setting())
    assert decision.bounds.max_num_seqs < 40
    assert decision.bounds.max_num_batched_tokens == seen.bounds.max_num_batched_tokens


def test_late_first_tokens_with_room_between_tokens_raise_the_bounds(
    window: Windows, setting: Settings, epoch: Epochs, gaps: Gaps
) -> None:
    full = Steps(count=30, seconds=0.025, decodes=60, tokens=1024)
    seen = window(
        epoch=epoch(decode=QUICK, mixed=full, full=full, gaps=gaps(0.025), first_tokens=gaps(3.0)), overdue_waiting=2
    )
    law = SLA()
    _, decision = law.decide(law.start(seen.bounds, setting()), seen, setting())
    assert decision.bounds.max_num_batched_tokens > 1024
    assert decision.reason is DecisionReason.TTFT_HIGH


def test_both_late_is_saturation_and_the_bounds_do_not_move(
    window: Windows, setting: Settings, epoch: Epochs, gaps: Gaps
) -> None:
    full = Steps(count=30, seconds=FIRST_RATIO * 0.05, decodes=64, tokens=1024)
    decode = Steps(count=60, seconds=FIRST_RATIO * 0.05, decodes=64, tokens=64)
    seen = window(epoch=epoch(decode=decode, mixed=full, full=full, gaps=gaps(0.045), first_tokens=gaps(3.0)))
    law = SLA()
    _, decision = law.decide(law.start(seen.bounds, setting()), seen, setting())
    assert decision.reason is DecisionReason.SATURATED
    assert decision.bounds == seen.bounds
    assert "TTFT" in decision.message


def test_without_an_inter_token_target_nothing_is_held_back(window: Windows, setting: Settings) -> None:
    law = SLA()
    free = setting(itl=None)
    _, decision = law.decide(law.start(window().bounds, free), window(), free)
    assert decision.bounds == Bounds(max_num_seqs=512, max_num_batched_tokens=8192)


def test_too_few_steps_decide_nothing(window: Windows, setting: Settings, epoch: Epochs) -> None:
    few = Steps(count=3, seconds=0.5, decodes=60, tokens=1024)
    seen = window(epoch=epoch(decode=few, mixed=few, full=few, steps=6))
    law = SLA()
    _, decision = law.decide(law.start(seen.bounds, setting()), seen, setting())
    assert decision.bounds == seen.bounds
    assert decision.reason is DecisionReason.TOO_FEW_SAMPLES


def test_running_decodes_and_some_prefill_always_fit_the_token_bound(
    window: Windows, setting: Settings, epoch: Epochs, gaps: Gaps
) -> None:
    seen = window(decoding=400, epoch=epoch(mixed=LONG, full=LONG, gaps=gaps(0.08)))
    law = SLA()
    state = law.start(seen.bounds, setting())
    for _ in range(20):
        state, decision = law.decide(state, seen, setting())
    assert decision.bounds.max_num_batched_tokens >= 464


def test_with_the_token_bound_at_its_least_costly_decodes_lower_the_sequence_bound(
    window: Windows, setting: Settings, epoch: Epochs, gaps: Gaps, bounds: BoundsOf
) -> None:
    mixed = Steps(count=60, seconds=0.08, decodes=64, tokens=256)
    seen = window(
        bounds=bounds(64, 256),
        epoch=epoch(mixed=mixed, full=mixed, gaps=gaps(0.08)),
        idle_step_seconds=0.02,
        seconds_per_decode=0.0007,
    )
    law = SLA()
    _, decision = law.decide(law.start(seen.bounds, setting()), seen, setting())
    assert decision.bounds.max_num_seqs < 30


def test_cheap_decodes_are_not_starved_for_a_target_they_cannot_bring(
    window: Windows, setting: Settings, epoch: Epochs, gaps: Gaps, bounds: BoundsOf
) -> None:
    mixed = Steps(count=60, seconds=0.08, decodes=64, tokens=256)
    seen = window(
        bounds=bounds(64, 256),
        epoch=epoch(mixed=mixed, full=mixed, gaps=gaps(0.08)),
        idle_step_seconds=0.02,
        seconds_per_decode=0.00001,
    )
    law = SLA()
    _, decision = law.decide(law.start(seen.bounds, setting()), seen, setting())
    assert decision.bounds.max_num_seqs == 64
    assert decision.reason is DecisionReason.SATURATED


def test_a_target_below_an_idle_step_is_not_chased(
    window: Windows, setting: Settings, epoch: Epochs, gaps: Gaps
) -> None:
    decode = Steps(count=60, seconds=0.065, decodes=64, tokens=64)
    seen = window(epoch=epoch(decode=decode, gaps=gaps(0.065)), idle_step_seconds=0.06)
    law = SLA()
    _, decision = law.decide(law.start(seen.bounds, setting()), seen, setting())
    assert decision.bounds.max_num_seqs >= seen.bounds.max_num_seqs


def test_steps_that_are_quick_on_average_and_too_often_long_lower_a_bound_that_lets_large_prompts_through(
    window: Windows, setting: Settings, epoch: Epochs, gaps: Gaps, bounds: BoundsOf
) -> None:
    mixed = Steps(count=30, seconds=0.03, decodes=60, tokens=400)
    latencies = {**gaps(0.02, 900), **gaps(0.2, 100)}
    seen = window(bounds=bounds(64, 8192), epoch=epoch(decode=QUICK, mixed=mixed, gaps=latencies, tokens_binding=0.0))
    law = SLA()
    _, decision = law.decide(law.start(seen.bounds, setting()), seen, setting())
    assert decision.bounds.max_num_batched_tokens == pytest.approx(400 * (0.040 - 0.020) / (0.030 - 0.020), rel=0.1)
    assert decision.reason is DecisionReason.ITL_HIGH


@pytest.mark.parametrize(("gap", "direction"), [(0.02, 1), (0.06, -1)])
def test_the_set_point_follows_the_share_of_gaps_over_the_target(
    window: Windows, setting: Settings, epoch: Epochs, gaps: Gaps, gap: float, direction: int
) -> None:
    within = Steps(count=30, seconds=FIRST_RATIO * 0.05, decodes=64, tokens=1024)
    seen = window(epoch=epoch(mixed=within, full=within, gaps=gaps(gap)))
    law = SLA()
    state, _ = law.decide(law.start(seen.bounds, setting()), seen, setting())
    assert (state.ratio - FIRST_RATIO) * direction > 0
    assert state.ratio <= GREATEST_RATIO


def test_the_search_starts_again_from_bounds_that_others_chose(
    window: Windows, setting: Settings, epoch: Epochs, gaps: Gaps, bounds: BoundsOf
) -> None:
    law = SLA()
    state = law.start(bounds(512, 8192), setting())
    decode = Steps(count=60, seconds=0.04, decodes=32, tokens=32)
    seen = window(bounds=bounds(32, 8192), running=32, epoch=epoch(decode=decode, gaps=gaps(0.04)))
    _, decision = law.decide(state, seen, setting())
    assert decision.bounds.max_num_seqs == pytest.approx(32, abs=4)


def test_the_combination_is_the_smaller_of_both(window: Windows, setting: Settings, epoch: Epochs, gaps: Gaps) -> None:
    lengths = Lengths(finished=512, mean=500.0, sd=300.0, resident_mean=400.0)
    quick = Steps(count=60, seconds=0.02, decodes=256, tokens=256)
    seen = window(
        bounds=Bounds(max_num_seqs=256, max_num_batched_tokens=1024),
        running=150,
        kv_blocks_used=6000,
        kv_blocks_total=6250,
        lengths=lengths,
        epoch=epoch(decode=quick, gaps=gaps(0.02)),
    )
    law = MemorySLA()
    _, decision = law.decide(law.start(seen.bounds, setting()), seen, setting())
    assert decision.bounds.max_num_seqs == 186
    assert decision.reason is DecisionReason.MEMORY_HIGH
    assert "KV cache 96% used" in decision.message


def test_the_combination_is_the_sla_law_where_memory_has_no_opinion(
    window: Windows, setting: Settings, epoch: Epochs, gaps: Gaps
) -> None:
    seen = window(waiting=0, epoch=epoch(decode=QUICK, mixed=LONG, full=LONG, gaps=gaps(0.08)))
    both, alone = MemorySLA(), SLA()
    _, expected = alone.decide(alone.start(seen.bounds, setting()), seen, setting())
    _, decision = both.decide(both.start(seen.bounds, setting()), seen, setting())
    assert decision == expected


@pytest.mark.parametrize(("own", "expected"), [(None, 0.09), (0.2, 0.09), (0.05, 0.05)])
def test_an_end_to_end_target_asks_for_a_time_between_tokens(
    window: Windows, setting: Settings, epoch: Epochs, gaps: Gaps, own: float | None, expected: float
) -> None:
    seen = window(
        lengths=Lengths(finished=100, samples=tuple((500, 101) for _ in range(100))),
        epoch=epoch(first_tokens=gaps(1.0)),
    )
    wanted = setting(
        itl=None if own is None else Target(percentile=95, target_seconds=own),
        e2e=Target(percentile=90, target_seconds=10.0),
    )
    target = inter_token_target(seen, wanted)
    assert target is not None
    assert target.target_seconds == pytest.approx(expected, rel=0.02)


def test_before_output_lengths_are_known_an_end_to_end_target_asks_for_nothing(
    window: Windows, setting: Settings
) -> None:
    assert inter_token_target(window(), setting(itl=None, e2e=Target(percentile=90, target_seconds=10.0))) is None


def test_a_throttled_gpu_is_named_as_the_reason_of_slow_steps(
    window: Windows, setting: Settings, epoch: Epochs, gaps: Gaps
) -> None:
    hot = GPUMemory("GPU-1", 1 << 34, 1 << 36, ("HwThermalSlowdown",))
    seen = window(epoch=epoch(decode=QUICK, mixed=LONG, full=LONG, gaps=gaps(0.08)), gpu=hot)
    law = SLA()
    _, decision = law.decide(law.start(seen.bounds, setting()), seen, setting())
    assert "the GPU is throttled (HwThermalSlowdown)" in decision.message


def test_static_keeps_the_upper_limits(window: Windows, setting: Settings) -> None:
    _, decision = Static().decide(None, window(), setting(max_num_seqs=Limits(min=8, max=128)))
    assert decision.bounds == Bounds(max_num_seqs=128, max_num_batched_tokens=8192)
