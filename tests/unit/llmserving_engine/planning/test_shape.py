from dataclasses import dataclass
from math import inf

import pytest

from llmserving_engine.planning.job import Job
from llmserving_engine.planning.lengths import OutputLengths
from llmserving_engine.planning.pace import Pace
from llmserving_engine.planning.settings import PredictiveSettings
from llmserving_engine.planning.shape import UNDISTURBED_LEAST, UNDISTURBED_SHARE, Choice, Decodes, Shaper
from llmserving_engine.planning.sizing import Work
from llmserving_engine.planning.slack import Stream
from llmserving_engine.planning.step_model import StepModel

ITL = 0.05
TTFT = 2.0
DECODES = Decodes(32, 32_000)
WEIGHTS_READ = 0.010
MODEL = StepModel([WEIGHTS_READ, 0.0, 0.0, 1e-5, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0], error=0.03)
"""Up to 384 tokens a step waits for the weights, whatever is in it; beyond, more tokens a second are computed the larger it is."""


@dataclass
class Request:
    request_id: str = ""
    num_computed_tokens: int = 0
    relegated: bool = False


def choose(
    thrift: float,
    *prompts: int,
    decodes: Decodes = DECODES,
    is_behind: bool = False,
    is_blocked: bool = False,
    is_refused: bool = False,
    model: StepModel = MODEL,
) -> Choice:
    shaper = Shaper(PredictiveSettings(model=model), Pace(thrift=thrift), Stream(), OutputLengths())
    work = Work(is_blocked=is_blocked)
    for tokens in prompts or (4000,):
        request = Request()
        job = Job(request, 0, 0.0, tokens, request)
        job.refused = is_refused
        work.add(job, tokens)
    work.put_refused_last()
    return shaper.choose(work, 8192, decodes, ITL, TTFT, 0.0, is_behind=is_behind)


def test_where_time_is_short_a_step_computes_as_many_prompt_tokens_as_the_target_leaves_time_for():
    choice = choose(0.0)
    assert choice.tokens > 2 * 384
    assert choice.seconds > 0.6 * ITL


def test_where_memory_is_scarce_and_no_work_is_left_a_step_computes_what_costs_next_to_nothing():
    choice = choose(1.0)
    assert choice.beside_decodes
    assert choice.tokens == 384 - DECODES.count
    assert choice.seconds == pytest.approx(WEIGHTS_READ, rel=0.1)


def test_decodes_do_not_pause_for_those_whom_the_engine_passed_over():
    apart = StepModel([0.0, 1e-5, 0.0, 0.0, 0.0, 0.0, 0.0, 1e-4, 1e-7, 0.0], error=0.03)
    assert not choose(0.0, model=apart).beside_decodes
    for behind in (False, True):
        choice = choose(0.0, model=apart, is_refused=True, is_behind=behind)
        assert choice.beside_decodes
        assert choice.tokens


def test_with_more_work_than_such_steps_can_do_they_become_longer():
    seconds = [choose(thrift).seconds for thrift in (1.0, 0.6, 0.3, 0.0)]
    assert seconds == sorted(seconds)
    assert seconds[0] < seconds[-1]


def test_without_decodes_there_is_nothing_to_save():
    assert choose(1.0, decodes=Decodes(0, 0)).tokens > 1000


@pytest.mark.parametrize("tokens", [1, 31, 200])
def test_a_prompt_that_costs_nothing_is_computed_whole(tokens: int):
    choice = choose(1.0, tokens)
    assert choice.tokens == tokens
    assert choice.beside_decodes


def test_somebody_who_is_late_for_want_of_time_and_not_of_memory_ends_the_saving():
    assert choose(1.0, is_behind=True).tokens == choose(0.0).tokens
    assert choose(1.0, is_behind=True, is_blocked=True).tokens == choose(1.0).tokens


def test_what_steps_can_compute_is_not_learned_from_those_that_save():
    def rate(thrift: float) -> float:
        pace = Pace(rate=50_000.0, thrift=thrift)
        shaper = Shaper(PredictiveSettings(model=MODEL), pace, Stream(), OutputLengths())
        request = Request()
        for _ in range(500):
            work = Work()
            work.add(Job(request, 0, 0.0, 4000, request), 4000)
            shaper.choose(work, 8192, DECODES, ITL, TTFT, 0.0, is_behind=False)
        return pace.rate

    assert rate(0.0) > 60_000
    assert rate(1.0) == 50_000


ALONE = Decodes(0, 0)
SLOW_PROMPTS = StepModel([WEIGHTS_READ, 1e-4, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0], error=0.03)


def test_a_long_prompt_beside_which_nobody_decodes_is_not_held_to_the_time_between_tokens():
    choice = choose(0.0, 50_000, decodes=ALONE, model=SLOW_PROMPTS)
    assert 2 * ITL < choice.seconds <= UNDISTURBED_SHARE * TTFT
    assert choose(0.0, 50_000, decodes=Decodes(1, 100), model=SLOW_PROMPTS).seconds <= ITL


def test_prompts_that_fit_into_a_usual_step_do_not_wait_for_others_in_a_longer_one():
    assert choose(0.0, *[300] * 100, decodes=ALONE, model=SLOW_PROMPTS).seconds <= ITL


def test_a_step_is_no_longer_than_the_longest_prompt_before_others_needs():
    choice = choose(0.0, 900, *[300] * 100, decodes=ALONE, model=SLOW_PROMPTS)
    assert choice.tokens == 900
    assert choice.seconds == pytest.approx(0.1)


def test_where_even_the_smallest_chunk_takes_too_long_a_useful_one_is_computed():
    far_down = StepModel([0.5, 1e-4, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0], error=0.03)
    assert choose(0.0, 4000, decodes=ALONE, model=far_down).tokens == UNDISTURBED_LEAST
    assert choose(0.0, 40, decodes=ALONE, model=far_down).tokens == 40


ATTENDING = StepModel([WEIGHTS_READ, 0.0, 0.0, 0.0, 0.0, 1e-7, 0.0, 0.0, 0.0, 0.0], error=0.03)
"""A hundred thousand tokens of context take as long as the weights."""


def bearable(decodes: Decodes, itl: float) -> float:
    shaper = Shaper(PredictiveSettings(model=ATTENDING), Pace(), Stream(), OutputLengths())
    return shaper.bearable(decodes, itl)


def test_decodes_can_attend_to_as_many_tokens_as_the_target_leaves_time_for():
    assert 0.85 * 400_000 < bearable(Decodes(40, 200_000), 0.05) < 400_000
    assert bearable(Decodes(40, 200_000), 0.03) < 0.6 * bearable(Decodes(40, 200_000), 0.05)


def test_no_limit_is_foreseen_where_few_requests_would_reach_it():
    assert bearable(Decodes(2, 4000), 0.012) == inf  # a target that is hardly met with one
    assert bearable(Decodes(2, 128_000), 0.05) == inf
    assert bearable(Decodes(0, 0), 0.05) == inf


CRAMPING = StepModel([WEIGHTS_READ, 1e-4, 0.0, 0.0, 1e-3, 0.0, 0.0, 0.0, 0.0, 0.0], error=0.03)
"""A decode takes 1.1 ms, and so do eleven prompt tokens."""


def cramped(decodes: int, *, steps: int = 100) -> Choice:
    stream = Stream(decode_steps=steps)
    shaper = Shaper(PredictiveSettings(model=CRAMPING), Pace(), stream, OutputLengths())
    work = Work()
    request = Request()
    work.add(Job(request, 0, 0.0, 200, request), 200)
    return shaper.choose(work, 8192, Decodes(decodes, 1000 * decodes), ITL, TTFT, 0.0, is_behind=False)


def test_where_decodes_leave_no_time_for_the_smallest_chunk_a_prompt_gets_a_long_gap():
    assert cramped(20).beside_decodes
    choice = cramped(33)
    assert (choice.tokens, choice.beside_decodes) == (200, False)


def test_not_where_the_decodes_by_themselves_hardly_keep_the_target():
    assert cramped(34).tokens == 0


def test_nor_sooner_than_every_so_many_decode_steps():
    assert cramped(33, steps=10).tokens == 0
