"""The requests a step passed over are found without looking at all of them."""

from types import SimpleNamespace

from hypothesis import given
from hypothesis import strategies as st

from llmserving_engine.batch_ledger import passed_over


@given(st.lists(st.booleans(), max_size=200))
def test_those_left_out_are_found_in_any_pattern(is_scheduled):
    running = [SimpleNamespace(request_id=f"r{index}") for index in range(len(is_scheduled))]
    scheduled = {r.request_id: 1 for r, taken in zip(running, is_scheduled, strict=True) if taken}
    wanted = [r for r, taken in zip(running, is_scheduled, strict=True) if not taken]
    assert passed_over(running, scheduled) == wanted


def test_an_unexpected_order_is_handled_too():
    running = [SimpleNamespace(request_id=name) for name in "abcdef"]
    assert [r.request_id for r in passed_over(running, {"f": 1, "a": 1, "c": 1, "b": 1})] == ["d", "e"]
