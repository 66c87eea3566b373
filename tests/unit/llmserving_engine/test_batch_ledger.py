"""The requests a step passed over are found without looking at all of them."""

from types import SimpleNamespace

from hypothesis import given
from hypothesis import strategies as st

from llmserving_engine.batch_ledger import passed_over


def requests(names):
    return [SimpleNamespace(request_id=name) for name in names]


def output(went_on, resumed=(), new=()):
    """A step's ``SchedulerOutput`` with these scheduled."""
    return SimpleNamespace(
        num_scheduled_tokens=dict.fromkeys([*went_on, *new, *resumed], 1),
        scheduled_new_reqs=[SimpleNamespace(req_id=name) for name in new],
        scheduled_cached_reqs=SimpleNamespace(req_ids=[*went_on, *resumed], resumed_req_ids=set(resumed)),
    )


@given(st.lists(st.booleans(), max_size=200), st.integers(0, 3), st.integers(0, 3))
def test_those_left_out_are_found_in_any_pattern(is_scheduled, resumed, new):
    before = requests(f"r{index}" for index in range(len(is_scheduled)))
    admitted = requests([*(f"n{index}" for index in range(new)), *(f"p{index}" for index in range(resumed))])
    step = output(
        [r.request_id for r, taken in zip(before, is_scheduled, strict=True) if taken],
        resumed=[r.request_id for r in admitted[new:]],
        new=[r.request_id for r in admitted[:new]],
    )
    wanted = [r for r, taken in zip(before, is_scheduled, strict=True) if not taken]
    assert passed_over([*before, *admitted], step) == wanted


def test_an_unexpected_order_is_handled_too():
    assert [r.request_id for r in passed_over(requests("abcdef"), output("facb"))] == ["d", "e"]
