"""Guards, and what holds of every law with its guards."""

from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llmserving_agent.catalogue import LAWS
from llmserving_agent.guards.hold import HoldOnStale
from llmserving_agent.guards.memory import GPUMemoryVeto
from llmserving_agent.guards.motion import BoundedStep, DeadBand, OnlyWhenBinding
from llmserving_agent.guards.shape import Clamp, Quantise
from llmserving_agent.laws.protocol import Decision, GPUMemory, Setting, Window
from llmserving_agent.signals.epoch import EpochSums
from llmserving_api.conditions import DecisionReason
from llmserving_api.control import Bounds
from llmserving_api.policy import LawName, Limits

Windows = Callable[..., Window]
Settings = Callable[..., Setting]
Epochs = Callable[..., EpochSums]
BoundsOf = Callable[..., Bounds]
FEEDBACK = (LawName.MEMORY, LawName.SLA, LawName.MEMORY_SLA)


class Wants:
    """A law that always wants the same bounds."""

    def __init__(self, seqs: int, tokens: int) -> None:
        self.bounds = Bounds(max_num_seqs=seqs, max_num_batched_tokens=tokens)

    def start(self, bounds: Bounds, setting: Setting) -> None:
        """No state."""

    def decide(self, state: None, window: Window, setting: Setting) -> tuple[None, Decision]:
        return None, Decision(self.bounds, DecisionReason.HEADROOM, "because")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"age_seconds": None}, DecisionReason.TELEMETRY_STALE),
        ({"age_seconds": 6.0}, DecisionReason.TELEMETRY_STALE),
        ({"running": 0, "waiting": 0}, DecisionReason.IDLE),
    ],
)
def test_without_fresh_data_the_bounds_are_held(
    window: Windows, setting: Settings, changes: dict[str, object], reason: DecisionReason
) -> None:
    seen = window(**changes)
    _, decision = HoldOnStale(Wants(1, 1)).decide(None, seen, setting())
    assert decision.bounds == seen.bounds
    assert decision.reason is reason


def test_with_no_step_under_the_present_bounds_they_are_held(window: Windows, setting: Settings, epoch: Epochs) -> None:
    _, decision = HoldOnStale(Wants(1, 1)).decide(None, window(epoch=epoch(steps=0)), setting())
    assert decision.bounds == window().bounds
    assert decision.reason is DecisionReason.TOO_FEW_SAMPLES


def test_a_bound_that_holds_nothing_back_does_not_grow_but_may_fall(
    window: Windows, setting: Settings, epoch: Epochs
) -> None:
    seen = window(epoch=epoch(seqs_binding=0.0, tokens_binding=0.0))
    _, up = OnlyWhenBinding(Wants(128, 2048)).decide(None, seen, setting())
    assert up.bounds == seen.bounds
    assert up.reason is DecisionReason.NOT_BINDING
    _, down = OnlyWhenBinding(Wants(32, 512)).decide(None, seen, setting())
    assert down.bounds == Bounds(max_num_seqs=32, max_num_batched_tokens=512)


def test_while_it_drains_the_sequence_bound_does_not_fall_further(window: Windows, setting: Settings) -> None:
    _, decision = OnlyWhenBinding(Wants(32, 1024)).decide(None, window(draining=True, running=90), setting())
    assert decision.bounds == window().bounds
    assert decision.reason is DecisionReason.DRAINING
    assert "90 running drain to 64" in decision.message


def test_trifles_are_not_done(window: Windows, setting: Settings) -> None:
    _, decision = DeadBand(Wants(65, 1060)).decide(None, window(), setting())
    assert decision.bounds == window().bounds


def test_down_fast_up_slowly(window: Windows, setting: Settings, bounds: BoundsOf) -> None:
    _, down = BoundedStep(Wants(1, 1)).decide(None, window(), setting())
    assert down.bounds == bounds(16, 256)
    _, up = BoundedStep(Wants(512, 8192)).decide(None, window(), setting())
    assert up.bounds == bounds(96, 1536)


def test_growth_waits_until_the_last_change_has_settled(window: Windows, setting: Settings, epoch: Epochs) -> None:
    seen = window(epoch=epoch(span_seconds=0.5))
    _, decision = BoundedStep(Wants(512, 512)).decide(None, seen, setting())
    assert decision.bounds == Bounds(max_num_seqs=64, max_num_batched_tokens=512)


@pytest.mark.parametrize(
    ("wanted", "got"), [((20, 700), (16, 640)), ((70, 1100), (72, 1088)), ((600, 64), (600, 64)), ((3, 30), (2, 64))]
)
def test_bounds_are_sizes_that_the_engine_computes_well(
    window: Windows, setting: Settings, wanted: tuple[int, int], got: tuple[int, int]
) -> None:
    sizes = setting(graph_sizes=(1, 2, 4, *range(8, 513, 8)))
    _, decision = Quantise(Wants(*wanted)).decide(None, window(), sizes)
    assert (decision.bounds.max_num_seqs, decision.bounds.max_num_batched_tokens) == got


def test_little_free_gpu_memory_vetoes_a_larger_token_bound(window: Windows, setting: Settings) -> None:
    tight = window(gpu=GPUMemory("GPU-1", 100 << 20, 80 << 30))
    _, decision = GPUMemoryVeto(Wants(64, 2048)).decide(None, tight, setting())
    assert decision.bounds == tight.bounds
    assert decision.reason is DecisionReason.MEMORY_HIGH
    assert "100 MiB free on GPU-1" in decision.message
    roomy = window(gpu=GPUMemory("GPU-1", 4 << 30, 80 << 30))
    _, decision = GPUMemoryVeto(Wants(64, 2048)).decide(None, roomy, setting())
    assert decision.bounds.max_num_batched_tokens == 2048


def test_new_limits_act_at_once_even_without_telemetry(window: Windows, setting: Settings) -> None:
    seen = window(age_seconds=None)
    narrow = setting(max_num_seqs=Limits(min=8, max=32))
    _, decision = Clamp(HoldOnStale(Wants(64, 1024))).decide(None, seen, narrow)
    assert decision.bounds == Bounds(max_num_seqs=32, max_num_batched_tokens=1024)
    assert decision.reason is DecisionReason.LIMITS_CHANGED
    assert "8 to 32 seqs" in decision.message


def test_a_wish_beyond_the_limit_says_so(window: Windows, setting: Settings, bounds: BoundsOf) -> None:
    seen = window(bounds=bounds(512, 8192))
    _, decision = Clamp(Wants(600, 9000)).decide(None, seen, setting())
    assert decision.bounds == seen.bounds
    assert decision.reason is DecisionReason.AT_LIMIT


@pytest.mark.parametrize("law", list(LawName))
def test_bounds_are_within_limits_whatever_happens(
    law: LawName, any_window: st.SearchStrategy[Window], any_setting: st.SearchStrategy[Setting]
) -> None:
    @settings(max_examples=60, suppress_health_check=list(HealthCheck), deadline=None)
    @given(any_setting, st.lists(any_window, min_size=1, max_size=4))
    def check(setting: Setting, seen: list[Window]) -> None:
        guarded = LAWS[law]()
        state = guarded.start(seen[0].bounds, setting)
        for one in seen:
            state, decision = guarded.decide(state, one, setting)
            assert setting.max_num_seqs.min <= decision.bounds.max_num_seqs <= setting.max_num_seqs.max
            tokens = setting.max_num_batched_tokens
            assert tokens.min <= decision.bounds.max_num_batched_tokens <= tokens.max
            assert decision.message

    check()


@pytest.mark.parametrize("law", FEEDBACK)
def test_on_stale_data_no_feedback_law_moves_bounds_that_are_within_limits(
    law: LawName, any_window: st.SearchStrategy[Window], any_setting: st.SearchStrategy[Setting], setting: Settings
) -> None:
    wide = setting(max_num_seqs=Limits(min=1, max=4096), max_num_batched_tokens=Limits(min=1, max=65536))

    @settings(max_examples=60, suppress_health_check=list(HealthCheck), deadline=None)
    @given(any_window.filter(lambda seen: seen.age_seconds is None or seen.age_seconds > 5))
    def check(seen: Window) -> None:
        guarded = LAWS[law]()
        _, decision = guarded.decide(guarded.start(seen.bounds, wide), seen, wide)
        assert decision.bounds == seen.bounds

    check()
