"""The planner in a small engine that obeys plans as the scheduler does."""

import dataclasses
import random
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from llmserving_engine.bounds import Bounds, Targets
from llmserving_engine.planning.candidates import OUTLOOK
from llmserving_engine.planning.feasible import SORTED_ON_DEVICE, SORTED_PER_STEP
from llmserving_engine.planning.predictive import build_predictive
from llmserving_engine.planning.protocol import StepView
from llmserving_engine.telemetry import RequestClass
from llmserving_fakes.small_engine import SECOND, Request, SmallEngine


class Engine(SmallEngine):
    """The small engine under the planner, which knows its device unless told otherwise."""

    def __init__(self, requests: list[Request], *, blocks: int = 4000, model: bool = True, seqs: int = 64) -> None:
        planner = build_predictive(self.model() if model else {})
        targets = Targets(2 * SECOND, SECOND // 20)
        super().__init__(requests, planner, blocks=blocks, bounds=Bounds(seqs, 2048), targets=targets)

    @staticmethod
    def model() -> dict[str, Any]:
        coefficients = [8e-3, 0.0, 4e-5, 0.0, 6e-5, 8e-8, 0.0, 6e-5, 0.0, 0.0]
        return {"coefficients": coefficients, "residuals": [[], [], []], "error": 0.03}


class SilentEngine(Engine):
    """An engine that does not say when the device computes."""

    def __init__(self, requests: list[Request]) -> None:
        super().__init__(requests)
        self.planner.on_device = lambda now_ns: None


def load(count: int, rate: float, seed: int, prompt: int = 600, output: int = 60) -> list[Request]:
    rng = random.Random(seed)
    time = 0.0
    requests = []
    for k in range(count):
        time += rng.expovariate(rate)
        tokens = max(1, min(4000, int(rng.expovariate(1 / prompt))))
        requests.append(Request(f"r{k}", time, tokens, max(1, int(rng.expovariate(1 / output)))))
    return requests


def ttft(request: Request) -> float:
    return request.token_times[0] - request.arrival


def gaps(request: Request) -> list[float]:
    return [b - a for a, b in zip(request.token_times, request.token_times[1:], strict=False)]


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    rate=st.sampled_from([2.0, 20.0, 200.0]),
    blocks=st.sampled_from([300, 800, 4000]),
    model=st.booleans(),
)
@example(seed=3969, rate=20.0, blocks=300, model=False)
def test_every_request_finishes_with_all_its_tokens_whatever_the_load(seed: int, rate: float, blocks: int, model: bool):
    requests = load(60, rate, seed)
    engine = Engine(requests, blocks=blocks, model=model, seqs=16)
    done = engine.run()
    assert len(done) == len(requests)
    assert all(len(one.token_times) == one.output for one in done)
    assert engine.free == engine.total


def test_steps_keep_the_inter_token_target_under_a_steady_load():
    done = Engine(load(300, 12.0, 3)).run()
    every = sorted(gap for one in done for gap in gaps(one))
    assert every[int(0.95 * len(every))] <= 0.05
    assert max(every) <= 0.25


def test_decodes_go_on_while_a_long_prompt_is_computed():
    requests = [Request("chat", 0.0, 100, 200), Request("long", 1.0, 20_000, 2)]
    engine = Engine(requests)
    engine.run()
    assert max(gaps(requests[0])) <= 0.25
    assert sorted(gaps(requests[0]))[int(0.9 * 199)] <= 0.05


def test_a_long_prompt_yields_to_short_ones_that_can_still_be_in_time():
    requests = [Request("long", 0.0, 60_000, 2)] + [Request(f"s{k}", 0.5 + 0.1 * k, 200, 5) for k in range(20)]
    engine = Engine(requests, blocks=8000)
    engine.run()
    assert all(ttft(one) <= 2.0 for one in requests[1:])


def test_more_requests_are_in_time_in_overload_than_first_come_first_served_could_serve():
    requests = load(600, 60.0, 5)
    done = Engine(requests).run()
    in_time = sum(ttft(one) <= 2.0 for one in done)
    assert in_time > 0.3 * len(requests)


@pytest.mark.parametrize("engine_class", [Engine, SilentEngine])
def test_relegated_requests_are_served_while_others_keep_coming(engine_class: type[Engine]):
    requests = load(900, 40.0, 11)
    engine = engine_class(requests)
    done = engine.run()
    last_arrival = max(one.arrival for one in requests)
    relegated = [one for one in done if ttft(one) > 2.0]
    served_meanwhile = [one for one in relegated if one.token_times[0] < last_arrival]
    assert relegated
    assert served_meanwhile


def test_memory_is_not_overfilled_once_output_lengths_are_known():
    engine = Engine(load(400, 20.0, 2, prompt=300, output=200), blocks=600)
    engine.run()
    assert engine.preempted < 40


def chunks(blocks: int) -> list[int]:
    """Prompt tokens of the steps in which somebody decodes."""
    requests = load(300, 9.0, 3, prompt=700, output=80)
    engine = Engine(requests, blocks=blocks)
    sizes = []
    while engine.has_work:
        step = engine.advance()
        if step and step.composition.decode_requests and step.composition.prefill_tokens:
            sizes.append(step.composition.prefill_tokens)
    return sizes


def test_prompts_are_spread_over_the_steps_of_the_decodes_only_where_memory_is_scarce():
    ample, scarce = chunks(4000), chunks(600)
    assert len(scarce) > 1.3 * len(ample)
    assert sum(scarce) / len(scarce) < 0.8 * sum(ample) / len(ample)


def test_a_prompt_computed_in_part_is_computed_to_its_end_when_memory_lets_none_of_those_before_it_in():
    large = [Request(f"large{k}", 0.0, 4000, 2) for k in range(20)]
    small = Request("small", 0.0, 1400, 2)
    engine = Engine([*large, small], blocks=300)
    engine.arrive()
    engine.now = 3.0  # all have missed
    del engine.waiting["small"]
    engine.running, engine.prefilling = [small], {"small": small}
    small.num_computed_tokens, small.is_prefill_chunk, small.blocks = 800, True, 50
    engine.free -= small.blocks
    assert len(engine.run()) == 21


def test_requests_that_still_run_keep_the_expected_output_from_being_short():
    short = [Request(f"s{k}", 0.5 + 0.02 * k, 50, 5) for k in range(130)]
    long = [Request(f"l{k}", 0.0, 50, 2000) for k in range(40)]
    engine = Engine([*long, *short])
    for _ in engine.steps():
        if len(engine.done) >= len(short):
            break
    assert all(one.output == 5 for one in engine.done)
    assert engine.planner._lengths.survival(500) > 0.15  # nobody, by those that ended alone


def test_priorities_are_served_first():
    requests = load(200, 80.0, 9)
    for one in requests[::4]:
        one.priority = -1
    Engine(requests).run()
    urgent = sum(ttft(one) for one in requests[::4]) / 50
    others = sum(ttft(one) for one in requests if one.priority == 0) / 150
    assert urgent < 0.5 * others


def with_batch(requests: list[Request], count: int, tokens: int, output: int = 60) -> list[Request]:
    batch = [Request(f"b{k}", 0.0, tokens, output, request_class=RequestClass.BATCH) for k in range(count)]
    return requests + batch


def test_those_who_missed_an_urgent_deadline_go_before_those_of_lower_priority_who_can_make_theirs():
    urgent = [Request(f"u{k}", 0.0, 4000, 2, priority=-1) for k in range(30)]
    others = [Request(f"o{k}", 0.5 + 0.01 * k, 100, 2) for k in range(10)]
    Engine(urgent + others).run()
    assert max(ttft(one) for one in urgent) > 2.0
    assert max(one.token_times[0] for one in urgent) <= min(
        one.token_times[0] for one in others
    )  # they may share a step


def test_a_backlog_of_batch_requests_costs_the_others_nothing_they_are_promised():
    alone, beside = load(150, 12.0, 3), load(150, 12.0, 3)
    Engine(alone).run()
    engine = Engine(with_batch(beside, 200, 1500))
    engine.run()
    assert sum(ttft(one) <= 2.0 for one in beside) >= sum(ttft(one) <= 2.0 for one in alone) - 1
    for one in beside:
        assert sorted(gaps(one))[: int(0.9 * len(gaps(one)))][-1:] <= [0.05]


def test_batch_requests_use_what_the_others_leave_and_all_finish():
    interactive = load(150, 6.0, 3)
    done = Engine(with_batch(interactive, 60, 1500)).run()
    batch = [one for one in done if one.request_class is RequestClass.BATCH]
    last_arrival = max(one.arrival for one in interactive)
    assert len(batch) == 60
    assert sum(one.token_times[-1] < last_arrival for one in batch) > 30


def test_batch_requests_leave_room_in_the_cache_for_others():
    interactive = load(80, 4.0, 7, prompt=300)
    requests = with_batch(interactive, 100, 300, output=400)
    for one in requests[80:]:
        one.arrival = 1.0
    assert len(Engine(requests, blocks=1600, seqs=256).run()) == 180
    assert sum(ttft(one) <= 2.0 for one in interactive) >= 76


def test_alone_in_the_engine_batch_requests_fill_the_cache():
    engine = Engine(with_batch([], 60, 300, output=100), blocks=400)
    least = min(engine.free for _ in engine.steps())
    assert len(engine.done) == 60
    assert least < 0.4 * engine.total


def test_without_targets_everything_is_served_in_order_of_arrival():
    engine = Engine(load(60, 100.0, 4))
    engine.targets = Targets()
    engine.run()
    firsts = [one.token_times[0] for one in sorted(engine.done, key=lambda one: one.arrival)]
    assert firsts == sorted(firsts)


def test_a_stricter_deadline_than_the_engines_own_target_is_planned_for():
    def served(parameters: dict[str, float]) -> list[Request]:
        engine = Engine(load(300, 40.0, 3))
        engine.planner.configure(Engine.model() | parameters)
        return engine.run()

    usual, strict = served({}), served({"ttft_seconds": 0.5})
    assert sum(ttft(one) <= 0.5 for one in strict) > 2 * sum(ttft(one) <= 0.5 for one in usual)


def test_a_new_model_keeps_what_is_known_of_the_requests():
    engine = Engine(load(80, 30.0, 6))
    for step in engine.steps():
        if step % 20 == 0:
            engine.planner.configure(Engine.model() | {"error": 0.05})
    assert len(engine.done) == 80


@pytest.mark.parametrize("install_at", [1, 30])
def test_a_planner_installed_while_the_engine_serves_takes_over_all_requests(install_at: int):
    engine = Engine(load(60, 50.0, 8))
    for step in engine.steps():
        if step == install_at:
            engine.install(build_predictive(Engine.model()))
    assert len(engine.done) == 60


@pytest.mark.parametrize("has_first_token", [True, False])
def test_a_planner_installed_while_preempted_requests_wait_takes_them_over(has_first_token: bool):
    """They are known from before; the new planner's queue offers whom it lists."""
    engine = Engine([Request(f"r{k}", 0.0, 900, 30) for k in range(3)])
    while len(engine.running) < 3 or engine.prefilling:
        engine.advance()
    if has_first_token:
        preempted = engine.preempt()
    else:
        preempted = engine.running[-1]
        preempted.num_output_tokens = engine.tracks[preempted.request_id].first_token_ns = 0
        engine.preempt()
    engine.install(build_predictive(Engine.model()))
    engine.step += 1
    assert engine.planner.plan(engine.view()).waiting_first == (preempted.request_id,)


class CachingEngine(Engine):
    """All but 100 tokens of every prompt of 8,000 are in the prefix cache."""

    def view(self) -> StepView:
        return dataclasses.replace(super().view(), cached_tokens=lambda request: 7900)


def test_prompts_in_the_prefix_cache_count_only_by_what_is_left_of_them():
    """Twenty long prompts at once can only all be in time because nearly all of each is cached."""
    requests = [Request(f"r{k}", 0.0, 8000, 3) for k in range(20)]
    engine = CachingEngine(requests, blocks=20_000)
    engine.arrive()
    admitted = 0
    for _ in range(5):
        engine.step += 1
        admitted = max(admitted, len(engine.planner.plan(engine.view()).waiting_first))
    assert admitted >= 4


def test_a_full_batch_looks_at_few_of_those_that_wait():
    looked_up = set()

    class Watching(Engine):
        def view(self) -> StepView:
            return dataclasses.replace(super().view(), cached_tokens=lambda one: looked_up.add(one.request_id) or 0)

    running, waiting = (
        [Request(f"{when}-{k}", when, 20, 400) for k in range(8 + 90 * int(when))] for when in (0.0, 1.0)
    )
    engine = Watching(running + waiting, seqs=8)
    while engine.now < 1.5:
        engine.advance()
    assert len(engine.waiting) == len(waiting)
    assert 0 < len(looked_up - {one.request_id for one in running}) <= OUTLOOK


def test_a_prompt_that_is_in_the_prefix_cache_no_longer_is_computed_without_delay():
    engine = CachingEngine([Request("r", 0.0, 8000, 2)])
    engine.run()
    assert engine.step < 20


def test_a_request_that_the_engine_passes_over_holds_up_nobody_behind_it():
    held = [Request(f"h{k}", 0.0, 6000, 2, held_until=1.5) for k in range(2)]
    others = [Request(f"o{k}", 0.1, 300, 2) for k in range(20)]
    Engine(held + others).run()
    assert max(one.token_times[0] for one in others) < 1.0
    assert max(one.token_times[0] for one in held) < 2.5


def test_a_request_that_the_engine_passes_over_does_not_stop_a_prompt_that_is_being_computed():
    held, long = Request("held", 0.0, 1000, 2, held_until=4.0), Request("long", 0.0, 20_000, 2)
    Engine([held, long]).run()
    assert ttft(long) < 2.0
    assert 4.0 < ttft(held) < 4.1


def test_a_request_that_is_let_in_alone_is_offered_until_the_engine_takes_it():
    held = Request("held", 0.0, 900, 5, held_until=0.5)
    assert Engine([held], blocks=64).run(5000) == [held]


def test_a_request_whose_last_token_came_after_it_was_preempted_is_computed_to_its_end():
    """With asynchronous scheduling that token is under way when the request is preempted."""
    engine = Engine(load(20, 20.0, 3, prompt=500, output=150))
    preempted = 0
    while engine.has_work:
        assert engine.step < 20_000, "a request is left out for good"
        engine.advance()
        last = engine.running[-1] if engine.running else None
        if engine.step % 7 == 0 and last and last.token_times and last.num_output_tokens + 1 < last.output:
            engine.preempt()
            last.num_output_tokens += 1
            last.token_times.append(engine.now)
            preempted += 1
    assert preempted > 0


def started(engine: Engine) -> Request:
    """Step until a prompt is being prefilled."""
    while not engine.prefilling:
        engine.advance()
    return next(iter(engine.prefilling.values()))


def test_a_request_without_a_first_token_that_the_planner_does_not_know_goes_before_nobody():
    """Unlike one that was preempted after its first token, whose stream waits."""
    requests = [Request("long", 0.0, 60_000, 2)] + [Request(f"s{k}", 0.5 + 0.1 * k, 200, 5) for k in range(20)]
    engine = Engine(requests, blocks=8000)
    engine.planner.departed(engine.tracks[started(engine).request_id])
    engine.run()
    assert all(ttft(one) <= 2.0 for one in requests[1:])


def test_a_request_that_is_tracked_by_nobody_is_computed_too():
    engine = Engine(load(30, 20.0, 1))
    forgotten = started(engine)
    engine.planner.departed(engine.tracks[forgotten.request_id])
    engine.step += 1
    plan = engine.planner.plan(dataclasses.replace(engine.view(), tracks={}))
    assert plan.token_budget >= forgotten.num_tokens - forgotten.num_computed_tokens
    assert forgotten.request_id not in plan.parked


def preempt_with_its_first_token_under_way(engine: Engine) -> Request:
    """With asynchronous scheduling the youngest is preempted before its first token has come; then the token comes."""
    youngest = engine.running[-1]
    track = engine.tracks[youngest.request_id]
    first_token_ns, track.first_token_ns, youngest.num_output_tokens = track.first_token_ns, 0, 0
    assert engine.preempt() is youngest
    track.first_token_ns, youngest.num_output_tokens = first_token_ns, 1
    return youngest


def test_a_request_preempted_with_its_first_token_under_way_leaves_no_backlog_behind():
    """It has one token more to compute when it comes back than when it was put back."""
    engine = Engine([Request("late", 0.0, 3000, 20)])
    engine.now = 10.0  # its deadline has passed
    engine.arrive()
    while not engine.running or engine.prefilling:
        engine.advance()
    preempt_with_its_first_token_under_way(engine)
    assert len(engine.run()) == 1
    order = engine.planner._order
    assert (order.missed_count, order.missed_tokens) == (0, 0)


def test_a_stream_whose_first_token_came_after_it_was_preempted_waits_for_no_other_prompt():
    engine = Engine([Request("stream", 0.0, 6000, 20)] + [Request(f"s{k}", 10.3, 900, 2) for k in range(60)])
    engine.now = 10.0  # its deadline has passed, those of the others have not
    while not engine.running or engine.prefilling:
        engine.advance()
    stream = preempt_with_its_first_token_under_way(engine)
    before = engine.now
    engine.now = max(engine.now, 10.31)
    engine.run()
    assert stream.token_times[1] - before < 0.5


def test_a_request_being_prefilled_that_the_planner_does_not_know_is_not_left_out():
    engine = Engine(load(30, 20.0, 1))
    engine.planner.departed(engine.tracks[started(engine).request_id])
    assert len(engine.run(20_000)) == 30


def steps_until_sorted(engine: Engine, count: int) -> int:
    engine.arrive()
    order = engine.planner._order
    for steps in range(count):
        if not order._incoming:
            return steps
        engine.advance()
    raise AssertionError("they are never sorted in")


def test_a_burst_is_sorted_in_while_the_device_computes():
    burst = [Request(f"r{k}", 0.0, 50, 2) for k in range(1000)]
    assert steps_until_sorted(Engine(burst), 1000) <= 1000 // SORTED_ON_DEVICE + 1
    assert steps_until_sorted(SilentEngine(burst), 1000) == 1000 // SORTED_PER_STEP + 1


def test_lengths_are_learned_where_the_engine_does_not_say_when_the_device_computes():
    engine = SilentEngine(load(300, 12.0, 3, output=40))
    prior = engine.planner._lengths.survival(400)
    engine.run()
    assert engine.planner._lengths.survival(400) < 0.2 * prior
