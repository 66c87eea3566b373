"""Changes are taken whole or not at all, and every refusal says what would be right."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmserving_engine.bounds import Bounds
from llmserving_engine.changes import ControlError
from llmserving_engine.control import MODE_CAPS, MODE_FULL, MODE_OBSERVE, Contract, ControlState


class Clock:
    def __init__(self) -> None:
        self.now_ns = 0

    def monotonic_ns(self) -> int:
        return self.now_ns

    def wall_ns(self) -> int:
        return self.now_ns


def state(mode: str = MODE_FULL, **contract: Any) -> ControlState:
    made = Contract(mode, ok=mode != MODE_OBSERVE, **contract)
    return ControlState.create(Clock(), {"rank": 0}, made, Bounds(512, 8192), Bounds(256, 2048))


def refused(control: ControlState, body: object) -> ControlError:
    before = (control.desired, control.planner)
    with pytest.raises(ControlError) as caught:
        control.patch(body)
    assert (control.desired, control.planner) == before, "half of it was applied"
    return caught.value


@pytest.mark.parametrize(
    ("field", "value", "allowed"),
    [
        ("max_num_seqs", 0, "1..512"),
        ("max_num_seqs", 513, "1..512"),
        ("max_num_seqs", 8.5, "1..512"),
        ("max_num_seqs", True, "1..512"),
        ("max_num_seqs", "8", "1..512"),
        ("max_num_batched_tokens", 8193, "1..8192"),
        ("lease_seconds", 0, "> 0, <= 3600"),
        ("lease_seconds", 4000, "> 0, <= 3600"),
        ("shed_to", -1, "0..512"),
        ("targets.itl_seconds", -0.5, "> 0, <= 86400"),
        ("fallback.max_num_seqs", 1000, "1..512"),
        ("fallback.max_num_batched_tokens", None, "1..8192"),
        ("operation_id", 0, f"1..{2**63 - 1}"),
        ("planner.name", "guess", "bounds"),
        ("unheard_of", 1, "operation_id"),
    ],
)
def test_a_bad_value_is_refused_by_field_value_and_range(field, value, allowed):
    control = state()
    body: dict[str, Any] = {"operation_id": 1, "max_num_batched_tokens": 4096}
    outer, _, inner = field.partition(".")
    pair = {"max_num_seqs": 8, "max_num_batched_tokens": 512} if outer == "fallback" else {}
    body[outer] = {**pair, inner: value} if inner else value
    error = refused(control, body)
    assert error.status == 400
    assert error.body["field"] == field
    assert error.body["value"] == ("absent" if value is None else str(value))
    assert allowed in str(error.body["allowed"])


@pytest.mark.parametrize("body", [None, [], 7, "x"])
def test_a_body_that_is_no_object_is_refused(body):
    assert refused(state(), body).body["field"] == "body"


def test_absent_fields_stay_as_they_are():
    control = state()
    control.patch({"operation_id": 1, "max_num_seqs": 8, "targets": {"itl_seconds": 0.05}})
    control.patch({"operation_id": 2, "max_num_batched_tokens": 512})
    document = control.document()
    assert document["requested"] == {"max_num_seqs": 8, "max_num_batched_tokens": 512}
    assert document["targets"] == {"ttft_seconds": None, "itl_seconds": 0.05, "e2e_seconds": None}


def test_an_older_operation_is_refused_and_a_repeated_one_changes_nothing():
    control = state()
    control.patch({"operation_id": 5, "max_num_seqs": 8})
    error = refused(control, {"operation_id": 4, "max_num_seqs": 100})
    assert error.status == 409
    assert error.body["allowed"] == ">= 5"
    control.patch({"operation_id": 5, "max_num_seqs": 8})
    other = refused(control, {"operation_id": 5, "max_num_seqs": 100})
    assert other.status == 409
    assert control.document()["requested"]["max_num_seqs"] == 8


def test_any_change_renews_the_lease_and_a_refused_one_does_not():
    control = state()
    control.patch({"operation_id": 1, "lease_seconds": 10})
    control.clock.now_ns = 8 * 10**9
    control.patch({"operation_id": 1, "lease_seconds": 10})
    assert control.document()["lease"]["remaining_seconds"] == 10
    control.clock.now_ns = 16 * 10**9
    refused(control, {"operation_id": 2, "max_num_seqs": 0})
    assert control.document()["lease"]["remaining_seconds"] == 2


def test_where_nothing_can_be_controlled_the_answer_is_501_with_the_reason():
    control = state(MODE_OBSERVE, reason="vLLM 0.99 is not known")
    error = refused(control, {"operation_id": 1, "max_num_seqs": 8})
    assert error.status == 501
    assert "vLLM 0.99 is not known" in error.body["error"]


def test_where_only_caps_are_possible_a_planner_is_refused():
    control = state(MODE_CAPS, reason="old")
    assert refused(control, {"operation_id": 1, "planner": {"name": "predictive"}}).body["field"] == "planner.name"
    control.patch({"operation_id": 1, "max_num_seqs": 8, "planner": {"name": "bounds"}})
    assert control.document()["requested"]["max_num_seqs"] == 8


def test_shedding_needs_the_cap_in_the_same_change_and_is_refused_where_unsafe():
    assert refused(state(), {"operation_id": 1, "shed_to": 8}).body["field"] == "shed_to"
    hazard = state(shed_forbidden="a KV connector may still be moving the blocks")
    error = refused(hazard, {"operation_id": 1, "max_num_seqs": 8, "shed_to": 8})
    assert "KV connector" in error.body["error"]
    control = state()
    control.patch({"operation_id": 1, "max_num_seqs": 8, "shed_to": 8})
    assert control.desired.shed is not None
    control.patch({"operation_id": 2})  # a renewal before the engine's next step
    assert control.desired.shed is not None
    control.patch({"operation_id": 3, "max_num_seqs": 9})
    assert control.desired.shed is None


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
fields = st.sampled_from(
    [
        "operation_id",
        "max_num_seqs",
        "max_num_batched_tokens",
        "fallback",
        "lease_seconds",
        "targets",
        "shed_to",
        "planner",
    ]
)


@given(st.dictionaries(fields, json_values), json_values)
def test_no_json_breaks_it_and_bounds_stay_inside_the_ceilings(body, other):
    control = state()
    refusals = []
    for document in (body, other):
        try:
            control.patch(document)
        except ControlError as error:
            refusals.append(error)
    assert all(error.status in (400, 409) and error.body["error"] for error in refusals)
    requested = control.document()["requested"]
    assert 1 <= requested["max_num_seqs"] <= 512
    assert 1 <= requested["max_num_batched_tokens"] <= 8192
