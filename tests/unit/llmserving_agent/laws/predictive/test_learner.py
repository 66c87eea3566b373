import random
from collections.abc import Callable
from dataclasses import replace

import pytest

from llmserving_agent.laws.predictive.learner import ENOUGH_STEPS, ERRORS, SETTLED, Learner, sample_of
from llmserving_agent.laws.predictive.memory import RECENT, Sample, StepMemory
from llmserving_api.telemetry import StepRecord


def device(prefill: int, pairs: float, decodes: int, context: int) -> float:
    """Weights, bent dense time with tiles of 128 tokens, attention, and a price for mixing."""
    tokens = prefill + decodes
    tiles = -(-tokens // 128) * 128
    time = 9e-3 + 3e-5 * max(tiles - 128, 0) + 5e-5 * decodes + 1e-7 * context + 2e-9 * pairs
    return time + (7e-5 * decodes if prefill and decodes else 0.0)


def steps(count: int, seed: int, noise: float = 0.0, pace: float = 1.0) -> list[Sample]:
    rng = random.Random(seed)
    samples = []
    for _ in range(count):
        prefill = rng.choice([0, 0, rng.randrange(32, 1024), rng.randrange(32, 600)])
        decodes = rng.choice([0, rng.randrange(1, 128)]) if prefill else rng.randrange(1, 128)
        pairs = prefill * (rng.randrange(0, 1000) + prefill / 2)
        context = decodes * rng.randrange(500, 1500)
        seconds = pace * device(prefill, pairs, decodes, context) * rng.gauss(1.0, noise)
        samples.append(Sample(prefill, pairs, decodes, context, seconds))
    return samples


def trained(noise: float = 0.0, count: int = 3000) -> Learner:
    learner = Learner()
    samples = steps(count, 1, noise)
    for start in range(0, count, 50):
        learner = learner.with_samples(samples[start : start + 50]).refitted()
    return learner


def worst(learner: Learner, samples: list[Sample], share: float = 0.95) -> float:
    assert learner.model is not None
    errors = sorted(abs(learner.model.seconds(one) / one.seconds - 1.0) for one in samples)
    return errors[int(share * (len(errors) - 1))]


def test_too_few_steps_make_no_model():
    assert Learner().with_samples(steps(ENOUGH_STEPS - 1, 1)).refitted().model is None


def test_step_times_are_learned_tiles_and_mixed_steps_included():
    assert worst(trained(), steps(500, 2)) < 0.15


def test_noise_does_not_lead_the_model_astray():
    learner = trained(noise=0.05)
    assert worst(learner, steps(500, 2)) < 0.17
    assert learner.model is not None
    assert 0.03 < learner.model.error < 0.2


def test_a_slower_device_is_noticed_within_three_rounds_also_for_steps_not_seen_since():
    learner = trained()
    slower = [one for one in steps(800, 3, pace=1.3) if not one.prefill]
    for start in (0, 60, 120):
        learner = learner.with_samples(slower[start : start + 60]).refitted()
    mixed = [one for one in steps(400, 4, pace=1.3) if one.prefill and one.decodes]
    assert worst(learner, mixed) < 0.12


def test_a_disturbance_of_a_second_is_not_learned():
    learner = trained()
    disturbed = learner.with_samples(steps(100, 3, pace=1.5)).refitted()
    assert worst(disturbed, steps(300, 4)) == worst(learner, steps(300, 4))


def test_slowdowns_that_come_and_go_do_not_add_up_in_what_is_seldom_run():
    learner = trained()
    decodes = [one for one in steps(3000, 3) if not one.prefill]
    for second in range(13 * 20):
        slow = {0: 40, 1: 40, 2: 24}.get(second % 13, 0)  # of 40 steps
        batch = decodes[second % 30 * 40 :][:40]
        batch = [replace(one, seconds=1.5 * one.seconds) for one in batch[:slow]] + batch[slow:]
        learner = learner.with_samples(batch).refitted()
    mixed = [one for one in steps(400, 4) if one.prefill and one.decodes]
    assert worst(learner, mixed) < 0.17


def test_the_edge_of_a_slowdown_hardly_moves_what_is_known_since_a_short_while():
    learner = trained()
    young = Sample(1500, 1.5e6, 3, 3000, device(1500, 1.5e6, 3, 3000))
    plain = steps(60, 3)
    known = learner.with_samples([*plain, *[young] * 10]).refitted()
    edge = known.with_samples([*plain, *[replace(young, seconds=1.5 * young.seconds)] * 5]).refitted()
    assert known.model is not None
    assert edge.model is not None
    assert edge.model.seconds(young) == pytest.approx(known.model.seconds(young), rel=0.05)


def test_a_slower_device_is_noticed_though_its_steps_are_of_sizes_seldom_seen():
    learner = Learner()
    every = [(number % 8 == 0, one) for number, one in enumerate(steps(3000, 1))]
    batches = [one for seldom, one in every if seldom or one.prefill + one.decodes > 200 or not one.prefill]
    for start in range(0, len(batches), 50):
        learner = learner.with_samples(batches[start : start + 50]).refitted()
    smaller = [one for one in steps(6000, 2, pace=1.4) if one.prefill and one.prefill + one.decodes < 200]
    for start in (0, 40, 80):
        learner = learner.with_samples(smaller[start : start + 40]).refitted()
    assert learner.pace == pytest.approx(1.4, abs=0.15)


def test_slowdowns_that_last_do_not_add_up_in_what_is_seldom_run():
    learner = trained()
    decodes = [one for one in steps(3000, 3, noise=0.01) if not one.prefill]
    for second in range(30 * 2 * (SETTLED + 10)):
        pace = 1.0 if second // (SETTLED + 10) % 2 else 1.3 + 0.04 * (second % 2)
        batch = [replace(one, seconds=pace * one.seconds) for one in decodes[second % 30 * 40 :][:40]]
        learner = learner.with_samples(batch).refitted()
    mixed = [one for one in steps(400, 4) if one.prefill and one.decodes]
    assert learner.model is not None
    ratios = sorted(learner.model.seconds(one) / one.seconds for one in mixed)
    assert ratios[len(ratios) // 2] == pytest.approx(1.0, abs=0.05)


def test_steps_of_a_known_size_with_quite_another_content_are_no_change_of_the_device():
    rng = random.Random(1)

    def served(least: int, most: int) -> Sample:
        prefill, decodes = rng.choice([0] * 6 + [rng.randrange(16, 600)]), rng.randrange(40, 100)
        pairs, context = prefill * (rng.randrange(0, 1000) + prefill / 2), decodes * rng.randrange(least, most)
        seconds = device(prefill, pairs, decodes, context) * rng.gauss(1.0, 0.01)
        return Sample(prefill, pairs, decodes, context, seconds)

    learner = Learner()
    for contexts in ((7000, 9000), (100, 300)):
        for _ in range(100):
            learner = learner.with_samples([served(*contexts) for _ in range(40)]).refitted()
    assert worst(learner, [served(100, 300) for _ in range(300)]) < 0.06


def test_a_slower_device_is_noticed_though_its_steps_are_so_long_that_a_round_holds_few():
    rng = random.Random(1)
    sizes = [rng.choice(range(1500, 8000, 500)) for _ in range(1000)]
    long = [Sample(size, size * size / 2, 8, 8000, device(size, size * size / 2, 8, 8000)) for size in sizes]
    learner = Learner()
    for start in range(0, 900, 9):
        learner = learner.with_samples(long[start : start + 9]).refitted()
    slower = [replace(one, seconds=1.5 * one.seconds) for one in long[900:]]
    for start in range(0, 90, 9):
        learner = learner.with_samples(slower[start : start + 9]).refitted()
    assert worst(learner, slower) < 0.05


def test_steps_of_sizes_never_seen_are_no_change_of_the_device_however_wrong_the_model_is_of_them():
    small = [one for one in steps(6000, 1) if one.prefill + one.decodes < 100]
    learner = Learner()
    for start in range(0, 2000, 50):
        learner = learner.with_samples(small[start : start + 50]).refitted()
    long = [Sample(size, size * size / 2, 0, 0, device(size, size * size / 2, 0, 0)) for size in range(600, 3000, 7)]
    assert learner.model is not None
    assert learner.model.seconds(long[0]) < 0.8 * long[0].seconds
    for start in range(20):
        learner = learner.with_samples(long[start::20]).refitted()
        assert learner.pace == 1.0
    assert worst(learner, small) < 0.15
    assert worst(learner, long) < 0.15


def test_a_pace_that_stays_becomes_the_devices_own_for_steps_not_seen_meanwhile_too():
    learner = trained()
    slower = [one for one in steps(6000, 3, pace=1.3) if not one.prefill]
    for start in range(0, 40 * (SETTLED + 5), 40):
        learner = learner.with_samples(slower[start % 1000 : start % 1000 + 40]).refitted()
    assert learner.pace == 1.0
    mixed = [one for one in steps(400, 4, pace=1.3) if one.prefill and one.decodes]
    assert worst(learner, mixed) < 0.12


def test_the_stated_error_is_that_of_the_planner_where_it_foresaw_more_than_the_model():
    learner = trained()
    seen = [replace(one, foreseen=one.seconds / 1.02) for one in steps(ERRORS, 3, pace=1.05)]
    for start in range(0, ERRORS, 50):
        learner = learner.with_samples(seen[start : start + 50]).refitted()
    assert learner.model is not None
    assert learner.model.error == pytest.approx(0.02, abs=1e-6)


def test_steps_that_all_look_alike_do_not_make_it_forget_the_others():
    learner = trained()
    alike = [Sample(512, 131_072.0, 64, 64_000, device(512, 131_072.0, 64, 64_000))] * 5000
    for start in range(0, 5000, 50):
        learner = learner.with_samples(alike[start : start + 50]).refitted()
    assert worst(learner, steps(500, 2)) < 0.15
    assert learner.model is not None
    assert learner.model.seconds(alike[0]) == pytest.approx(alike[0].seconds, rel=0.02)


def test_steps_of_a_kind_not_seen_yet_are_not_predicted_too_short_by_much():
    learner = Learner().with_samples([one for one in steps(1000, 5) if one.prefill and one.decodes]).refitted()
    assert learner.model is not None
    for one in steps(300, 6):
        if not one.prefill:
            assert learner.model.seconds(one) > 0.7 * one.seconds


def test_memory_is_bounded():
    memory = StepMemory().with_steps(steps(20_000, 7))
    assert len(memory.cells) < 1600
    assert all(cell.steps <= RECENT for cell in memory.cells.values())


def test_learning_leaves_the_old_learner_as_it_was():
    before = trained(count=500)
    cells = dict(before.memory.cells)
    before.with_samples(steps(200, 8)).refitted()
    assert before.memory.cells == cells


@pytest.mark.parametrize(("duration_ns", "known"), [(0, False), (20_000_000, True), (60_000_000_000, False)])
def test_steps_of_unknown_duration_and_pauses_are_passed_over(
    duration_ns: int, known: bool, step_record: Callable[..., StepRecord]
):
    record = step_record(duration_ns=duration_ns, prefill_tokens=10, decode_requests=5)
    assert (sample_of(record) is not None) is known


def long_prompt(chunk: int, tokens: int = 100_000) -> list[Sample]:
    """The steps of a long prompt by itself: far down, up to 256 tokens read the KV cache no faster than 256 do."""
    samples = []
    for cached in range(0, tokens, chunk):
        pairs = chunk * (cached + chunk / 2)
        seconds = device(chunk, pairs, 0, 0) + 1.2e-9 * cached * max(chunk, 256)
        samples.append(Sample(chunk, pairs, 0, 0, seconds))
    return samples


def test_long_prompts_are_learned_where_small_chunks_cost_as_much_as_larger_ones():
    learner = trained()
    for chunk in (256, 1024, 64):
        samples = long_prompt(chunk)
        for start in range(0, len(samples), 20):
            learner = learner.with_samples(samples[start : start + 20]).refitted()
    assert learner.pace == 1.0
    for chunk in (32, 64, 128, 256, 512, 1024, 2048):
        assert worst(learner, long_prompt(chunk), 0.9) < 0.25, chunk
    assert worst(learner, steps(500, 2)) < 0.2
