"""The device's time line and how a scheduler's output becomes a step."""

from dataclasses import dataclass, field
from types import SimpleNamespace

import pytest

from llmserving_lab.device.batch import StepBatch
from llmserving_lab.device.model import DeviceModel, load_device
from llmserving_lab.device.timeline import DeviceTimeline, ReadyAt, StepReader

SENTENCE = [7, 8, 9]
DECODE = StepBatch(decodes=1, decode_context_sum=100, decode_context_max=100, sampled=1)


@pytest.fixture(scope="module")
def device() -> DeviceModel:
    return load_device("rtxpro6000-llama-3.1-8b")


def test_a_step_dispatched_early_begins_when_the_one_before_has_ended(device: DeviceModel) -> None:
    line = DeviceTimeline(device, now=100.0)
    first = line.dispatch(DECODE, now=100.0)
    second = line.dispatch(DECODE, now=100.001)
    assert second - first == pytest.approx(first - 100.0)


def test_an_idle_device_begins_at_once(device: DeviceModel) -> None:
    line = DeviceTimeline(device, now=100.0)
    length = line.dispatch(DECODE, now=100.0) - 100.0
    assert line.dispatch(DECODE, now=200.0) == pytest.approx(200.0 + length)


@dataclass
class Cached:
    req_ids: list[str] = field(default_factory=list)
    num_computed_tokens: list[int] = field(default_factory=list)
    num_output_tokens: list[int] = field(default_factory=list)


def output(
    scheduled: dict[str, int], new: dict[str, tuple[int, int]], cached: Cached, finished: tuple[str, ...] = ()
) -> SimpleNamespace:
    """A scheduler output: new maps a request to (prompt length, computed tokens)."""
    return SimpleNamespace(
        num_scheduled_tokens=scheduled,
        scheduled_new_reqs=[
            SimpleNamespace(
                req_id=name, prompt_token_ids=[0] * prompt, prefill_token_ids=None, num_computed_tokens=computed
            )
            for name, (prompt, computed) in new.items()
        ],
        scheduled_cached_reqs=cached,
        finished_req_ids=set(finished),
    )


def test_a_prompt_in_chunks_samples_with_its_last_chunk_only() -> None:
    reader = StepReader(SENTENCE)
    first = reader.read(output({"a": 60}, {"a": (100, 0)}, Cached()))
    assert first.batch == StepBatch(prefill=((60, 0),), sampled=0)
    assert first.tokens == {"a": []}
    second = reader.read(output({"a": 40}, {}, Cached(["a"], [60], [0])))
    assert second.batch == StepBatch(prefill=((40, 60),), sampled=1)
    assert second.tokens == {"a": [7]}


def test_one_token_after_an_output_is_a_decode_with_its_whole_context() -> None:
    reader = StepReader(SENTENCE)
    reader.read(output({"a": 100}, {"a": (100, 0)}, Cached()))
    step = reader.read(output({"a": 1}, {}, Cached(["a"], [100], [1])))
    assert step.batch == StepBatch(decodes=1, decode_context_sum=101, decode_context_max=101, sampled=1)
    assert step.tokens == {"a": [8]}


def test_a_preempted_request_recomputes_prompt_and_outputs_as_prefill() -> None:
    reader = StepReader(SENTENCE)
    reader.read(output({"a": 100}, {"a": (100, 0)}, Cached()))
    step = reader.read(output({"a": 105}, {}, Cached(["a"], [0], [5])))
    assert step.batch == StepBatch(prefill=((105, 0),), sampled=1)
    assert step.tokens == {"a": [SENTENCE[5 % 3]]}


def test_a_one_token_prompt_is_prefill_and_not_a_decode() -> None:
    step = StepReader(SENTENCE).read(output({"a": 1}, {"a": (1, 0)}, Cached()))
    assert (step.batch.decodes, step.batch.sampled) == (0, 1)


def test_a_prefix_that_is_cached_is_not_computed_again() -> None:
    step = StepReader(SENTENCE).read(output({"a": 36}, {"a": (100, 64)}, Cached()))
    assert step.batch == StepBatch(prefill=((36, 64),), sampled=1)


def test_finished_requests_are_forgotten_and_their_names_may_come_again() -> None:
    reader = StepReader(SENTENCE)
    reader.read(output({"a": 10}, {"a": (10, 0)}, Cached()))
    step = reader.read(output({"a": 20}, {"a": (20, 0)}, Cached(), finished=("a",)))
    assert step.tokens == {"a": [7]}


class PlayedClock:
    def __init__(self) -> None:
        self.now = 10.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def test_a_result_waits_for_its_time_and_not_longer() -> None:
    clock = PlayedClock()
    future = ReadyAt("tokens", 12.5, clock=clock, sleep=clock.sleep)
    assert not future.done()
    assert future.result() == "tokens"
    assert clock.now == 12.5
    assert future.done()
    assert future.result() == "tokens"
    assert clock.now == 12.5


def test_a_result_that_is_too_far_ahead_times_out() -> None:
    clock = PlayedClock()
    with pytest.raises(TimeoutError):
        ReadyAt("tokens", 20.0, clock=clock, sleep=clock.sleep).result(timeout=1.0)
    assert clock.now == 11.0
