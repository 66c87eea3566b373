"""Requests counted in slots of their arrival are counted as one by one."""

from hypothesis import given
from hypothesis import strategies as st

from llmserving_engine.waiting_ages import SLOT_NS, WaitingAges

EVENTS = st.one_of(
    st.tuples(st.just("arrives"), st.integers(-20, 100)),
    st.tuples(st.just("leaves"), st.integers(0, 1000)),
    st.tuples(st.just("asks"), st.integers(-30, 130)),
)


@given(st.lists(EVENTS, max_size=80))
def test_those_that_arrived_before_a_time_are_those_of_a_slow_count(events):
    ages = WaitingAges()
    waiting: list[int] = []
    for event, value in events:
        if event == "arrives":
            waiting.append(value * SLOT_NS)
            ages.add(value * SLOT_NS)
        elif event == "leaves" and waiting:
            ages.gone.append(waiting.pop(value % len(waiting)))
        elif event == "asks":
            assert ages.look(value * SLOT_NS)[0] == sum(arrival < value * SLOT_NS for arrival in waiting)


def test_thousands_pass_the_boundary_in_one_step_and_come_back_with_a_longer_target():
    ages = WaitingAges()
    for index in range(10_000):
        ages.add(index * SLOT_NS // 10)
    assert ages.look(0)[0] == 0
    assert ages.look(999 * SLOT_NS)[0] == 9_990
    assert ages.look(10**15)[0] == 10_000
    assert ages.look(1)[0] == 0


def test_the_first_arrival_is_that_of_the_first_who_still_waits():
    ages = WaitingAges()
    assert ages.look(0) == (0, None)
    for arrival in (5, 5, 7):
        ages.add(arrival * SLOT_NS)
    ages.gone.append(5 * SLOT_NS)
    assert ages.look(0)[1] == 5 * SLOT_NS
    ages.gone.append(5 * SLOT_NS)
    assert ages.look(0)[1] == 7 * SLOT_NS
