"""Records of the telemetry ring: layout, decoding, foreign bytes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmserving_api.telemetry import (
    HEADER,
    HEADER_SIZE,
    MAX_PAIRS,
    PAIR,
    PREFIX,
    RECORD_SIZE,
    REQUEST_BODY,
    STEP_BODY,
    Kind,
    MoreRecord,
    Outcome,
    RequestRecord,
    StepRecord,
    decode_record,
    sequence_of,
)

NUMBERS = 26
"""Fields of a step's body before its pair counts."""


def padded(data: bytes) -> bytes:
    return data.ljust(RECORD_SIZE, b"\0")


def step_bytes(gaps: list[tuple[int, int]], firsts: list[tuple[int, int]]) -> bytes:
    numbers = [*range(1, NUMBERS), 1.5]
    body = STEP_BODY.pack(*numbers, len(gaps), len(firsts))
    pairs = b"".join(PAIR.pack(*pair) for pair in (*gaps, *firsts))
    return padded(PREFIX.pack(9, Kind.STEP, 5) + body + pairs)


def test_header_and_the_fullest_record_fit_their_sizes() -> None:
    assert HEADER.size <= HEADER_SIZE
    assert PREFIX.size + STEP_BODY.size + MAX_PAIRS * PAIR.size <= RECORD_SIZE
    assert PREFIX.size + REQUEST_BODY.size <= RECORD_SIZE


def test_fields_of_a_step_are_in_order() -> None:
    record = decode_record(step_bytes([(10, 1), (20, 2)], [(30, 3)]))
    assert isinstance(record, StepRecord)
    assert (record.flags, record.step, record.scheduled_ns) == (5, 1, 2)
    assert (record.operation_id, record.trim) == (25, 1.5)
    assert record.gaps == ((10, 1), (20, 2))
    assert record.first_tokens == ((30, 3),)


def test_a_request_is_decoded_with_its_outcome() -> None:
    body = REQUEST_BODY.pack(*range(1, 9), -4, 1, 2, 0.5, 1.5, 0.25, 0.1)
    record = decode_record(padded(PREFIX.pack(3, Kind.REQUEST, Outcome.FAILED) + body))
    assert isinstance(record, RequestRecord)
    assert (record.outcome, record.priority, record.max_gap_seconds) == (Outcome.FAILED, -4, 0.1)


def test_further_pairs_name_their_step() -> None:
    more = (
        PREFIX.pack(4, Kind.STEP_MORE, 0)
        + (77).to_bytes(8, "little")
        + PAIR.pack(1, 1)
        + PAIR.pack(8, 2)
        + PAIR.pack(9, 3)
    )
    assert decode_record(padded(more)) == MoreRecord(77, ((8, 2),), ((9, 3),))


def test_the_sequence_number_comes_first() -> None:
    assert sequence_of(step_bytes([], [])) == 9


@pytest.mark.parametrize("kind", [0, 4, 2**32 - 1])
def test_an_unknown_kind_is_refused(kind: int) -> None:
    with pytest.raises(ValueError, match=f"kind {kind}"):
        decode_record(padded(PREFIX.pack(1, kind, 0)))


def test_more_pairs_than_fit_are_refused() -> None:
    body = STEP_BODY.pack(*range(1, NUMBERS), 1.0, MAX_PAIRS, 1)
    with pytest.raises(ValueError, match="latency pairs"):
        decode_record(padded(PREFIX.pack(1, Kind.STEP, 0) + body))


@given(st.binary(min_size=RECORD_SIZE, max_size=RECORD_SIZE))
def test_foreign_bytes_are_refused_or_decoded_and_nothing_else(data: bytes) -> None:
    try:
        record = decode_record(data)
    except ValueError:
        return
    assert isinstance(record, StepRecord | MoreRecord | RequestRecord)
