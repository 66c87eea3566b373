"""The requests a step passed over are found without looking at all of them."""

from types import SimpleNamespace

from hypothesis import given
from hypothesis import strategies as st

from llmserving_engine.batch_ledger import BatchLedger, passed_over
from llmserving_engine.planning.protocol import Track


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


def decoding(names):
    """A ledger with these decoding, ten tokens computed by each, and the requests."""
    running = [SimpleNamespace(request_id=n, num_computed_tokens=10, is_prefill_chunk=False) for n in names]
    tracks = {r.request_id: Track(r, 0, first_scheduled_ns=1) for r in running}
    ledger = BatchLedger(tracks, is_speculative=False)
    step = output("", new=names)
    step.total_num_scheduled_tokens = 10 * len(running)
    requests_by_id = {r.request_id: r for r in running}
    for new in step.scheduled_new_reqs:
        step.num_scheduled_tokens[new.req_id] = 10
    ledger.scheduled(step, running, requests_by_id, 1, await_departures=False)
    return ledger, tracks, running


def step_without(left_out, ledger, running):
    """A step in which all others decode, scheduled while an earlier one is in flight."""
    step = output([r.request_id for r in running if r.request_id not in left_out])
    step.total_num_scheduled_tokens = len(step.num_scheduled_tokens)
    for request in running:
        request.num_computed_tokens += request.request_id not in left_out
    return ledger.scheduled(step, running, {}, 2, await_departures=True)


def test_a_departure_names_whom_the_step_in_flight_passed_over():
    ledger, tracks, running = decoding("abcd")
    changes = step_without("b", ledger, running)
    assert changes.unnamed == 1
    ledger.ceased(tracks["b"], 10, comes_back=False)
    assert changes.unnamed == 0
    assert changes.composition.decode_context_tokens == 33
    ledger.name_absent([r for r in running if r.request_id != "b"])
    assert changes.left == ["b"]


def test_those_passed_over_who_stay_are_found_before_the_next_step_and_join_again_later():
    ledger, tracks, running = decoding("abcd")
    changes = step_without("bd", ledger, running)
    ledger.ceased(tracks["d"], 10, comes_back=False)
    del running[3]
    ledger.name_absent(running)
    assert sorted(changes.left) == ["b", "d"]
    assert changes.composition.decode_context_tokens == 22
    again = step_without("", ledger, running)
    assert again.joined == ["b"]
    assert again.composition.decode_context_tokens == 12 + 11 + 12


def test_a_step_of_prefill_alone_pauses_the_stream_as_a_whole():
    ledger, tracks, running = decoding("abcd")
    new = SimpleNamespace(request_id="n", num_computed_tokens=5, is_prefill_chunk=False)
    tracks["n"] = Track(new, 0)
    step = output("", new="n")
    step.num_scheduled_tokens["n"] = step.total_num_scheduled_tokens = 5
    step.scheduled_new_reqs[0].num_computed_tokens = 0
    new.num_prompt_tokens = 5
    pause = ledger.scheduled(step, [*running, new], {"n": new}, 2, await_departures=False)
    assert (pause.is_pause, pause.joined, pause.left, pause.count) == (True, ["n"], [], 1)
    assert (pause.composition.decode_requests, pause.composition.decode_context_tokens) == (0, 0)
    assert ledger.context_tokens == 45

    went_on = step_without("", ledger, [*running, new])
    assert (went_on.is_pause, went_on.joined, went_on.left, went_on.count) == (False, ["n"], [], 5)
    assert went_on.composition.decode_context_tokens == 50
