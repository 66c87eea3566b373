import pytest

from llmserving_engine.planning.lengths import OutputLengths
from llmserving_engine.planning.slack import Stream


def test_a_step_starts_when_those_in_flight_are_done():
    stream = Stream()
    stream.launched(1, 10.0, 0.05, has_decodes=True)
    stream.launched(2, 10.05, 0.02, has_decodes=False)
    start, last_decode = stream.start(10.01, 2)
    assert start == pytest.approx(10.07)
    assert last_decode == pytest.approx(10.05)


def test_a_step_that_came_back_tells_the_true_time():
    stream = Stream()
    stream.launched(1, 10.0, 0.05, has_decodes=True)
    stream.landed(1, 10.2, has_decodes=True, target=0.05)
    assert stream.start(10.3, 0) == (10.3, 10.2)
    assert stream.decode_steps == 1


def test_before_the_first_decode_came_back_nobody_has_waited_for_a_token():
    stream = Stream()
    assert stream.start(500.0, 0) == (500.0, 500.0)
    stream.landed(1, 500.02, has_decodes=True, target=0.05)
    assert stream.long_gaps == 0


def test_steps_that_never_came_back_are_forgotten():
    stream = Stream()
    for step in range(1, 4):
        stream.launched(step, 10.0, 1.0, has_decodes=True)
    stream.landed(3, 11.0, has_decodes=True, target=5.0)
    assert stream.start(11.0, 3)[0] == 11.0


def test_steps_that_held_nothing_come_back_unannounced_and_do_not_pile_up():
    stream = Stream()
    for step in range(1000):
        stream.start(10.0 + step, 1)
        stream.launched(step, 10.0 + step, 5.0, has_decodes=True)
    assert len(stream.flights) <= 2
    assert stream.start(2000.0, 0) == (2000.0, 2000.0)


def test_predictions_that_are_always_too_long_do_not_add_up_while_a_step_is_always_in_flight():
    stream = Stream()
    now = 10.0
    stream.launched(0, now, 0.055, has_decodes=True)
    for step in range(1, 1000):
        start, last_decode = stream.start(now, 1)
        assert start == pytest.approx(now + 0.055, abs=1e-6)
        assert last_decode == pytest.approx(start)
        stream.launched(step, start, 0.055, has_decodes=True)
        now += 0.05  # what it really takes
        stream.landed(step - 1, now, has_decodes=True, target=0.06)


def test_long_gaps_are_counted_and_the_first_tokens_of_an_empty_engine_start_the_clock():
    stream = Stream()
    stream.landed(0, 1.0, has_decodes=True, target=0.05)
    stream.launched(1, 4.9, 0.1, has_decodes=False, none_before=True)
    stream.landed(1, 5.0, has_decodes=False, target=0.05)
    stream.landed(2, 5.04, has_decodes=True, target=0.05)
    stream.landed(3, 5.30, has_decodes=True, target=0.05)
    assert stream.long_gaps == 1


def test_a_long_gap_spoils_the_young_and_those_that_had_theirs_but_not_the_old():
    lengths = OutputLengths()
    for _ in range(200):
        lengths.end(25)
    lengths.refresh()
    stream = Stream()
    stream.decode_steps = 100
    stream.joins["old"] = (0, 0)
    assert stream.spoiled(0.05, lengths) == 0.0
    stream.joins["young"] = (95, 0)
    young = stream.spoiled(0.05, lengths)
    assert 0.0 < young < 1.0
    stream.long_gaps = 5
    assert stream.spoiled(0.05, lengths) > young
    stream.leave("young")
    stream.leave("old")
    assert stream.spoiled(0.05, lengths) == 0.0


def test_first_tokens_that_are_under_way_in_an_empty_engine_start_the_clock():
    stream = Stream(last_decode=3.0)
    stream.launched(1, 10.0, 0.05, has_decodes=False, none_before=True)
    assert stream.start(10.01, 1) == pytest.approx((10.05, 10.05))  # not since the last decodes before them
