"""The ring that the plug-in writes is the one that the API package describes, under overrun, truncation and restarts."""

import mmap
import os
import stat
import threading
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llmserving_api import telemetry as api
from llmserving_engine import ring as engine_ring
from llmserving_engine.ring import RingWriter
from llmserving_engine.telemetry import Outcome, RequestClass, RequestRow, StepFlag, StepRow

u32 = st.integers(0, 2**32 - 1)
u64 = st.integers(0, 2**64 - 1)
pairs = st.lists(st.tuples(st.integers(0, 411), st.integers(1, 65_535)), max_size=100, unique_by=lambda pair: pair[0])
finite = st.floats(allow_nan=False, allow_infinity=False)
step_rows = st.builds(
    StepRow,
    st.integers(0, 31), u64, u64, u64, u64, u32, u32, u32, u32, u64, u64, *[u32] * 12, u64, u64, u64, finite, *[pairs] * 4,
)  # fmt: skip
request_rows = st.builds(
    RequestRow,
    st.sampled_from([0, 1, 2]), u64, u64, *[u32] * 6, st.integers(-(2**31), 2**31 - 1), st.integers(0, 1), st.integers(0, 2), *[finite] * 4,
)  # fmt: skip


def step_row(step: int = 1, **fields: object) -> StepRow:
    return StepRow(*[0] * 26, 1.0, [], [])._replace(step=step, **fields)


def header(data: bytes) -> tuple:
    return api.HEADER.unpack_from(data)


def records(data: bytes, first: int = 1) -> dict[int, object]:
    """What a reader accepts: decoded records by sequence number."""
    capacity, written = header(data)[4], header(data)[6]
    found = {}
    for number in range(max(first, written - capacity + 1), written + 1):
        offset = api.HEADER_SIZE + (number - 1) % capacity * api.RECORD_SIZE
        record = data[offset : offset + api.RECORD_SIZE]
        if api.sequence_of(record) == number:
            found[number] = api.decode_record(record)
    return found


def test_formats_are_the_same():
    assert (engine_ring.MAGIC, engine_ring.RING_VERSION) == (api.MAGIC, api.RING_VERSION)
    assert (engine_ring.HEADER_SIZE, engine_ring.RECORD_SIZE) == (api.HEADER_SIZE, api.RECORD_SIZE)
    assert engine_ring.HEADER.format == api.HEADER.format
    assert engine_ring.MAX_PAIRS == api.MAX_PAIRS
    assert {flag.name: flag.value for flag in StepFlag} == {flag.name: flag.value for flag in api.StepFlag}
    assert {kind.name: kind.value for kind in Outcome} == {kind.name: kind.value for kind in api.Outcome}
    assert {kind.name: kind.value for kind in RequestClass} == {kind.name: kind.value for kind in api.RequestClass}


@given(step_rows)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
def test_a_step_comes_back_as_written_with_all_its_latencies(tmp_path, row):
    writer = RingWriter(tmp_path / "ring", 1, capacity=16)
    writer.step(row)
    read = list(records((tmp_path / "ring").read_bytes()).values())
    writer.close()
    first, *more = read
    assert isinstance(first, api.StepRecord)
    assert all(isinstance(record, api.MoreRecord) and record.step == row.step for record in more)
    for name in StepRow._fields[:-4]:
        assert getattr(first, name) == getattr(row, name), name
    batch = [record for record in more if record.request_class == RequestClass.BATCH]
    others = [record for record in read if record not in batch]
    assert [pair for record in others for pair in record.gaps] == row.gaps
    assert [pair for record in others for pair in record.first_tokens] == row.first_tokens
    assert [pair for record in batch for pair in record.gaps] == row.batch_gaps
    assert [pair for record in batch for pair in record.first_tokens] == row.batch_first_tokens


@pytest.mark.parametrize("field", ["gaps", "first_tokens", "batch_gaps", "batch_first_tokens"])
def test_more_latencies_of_one_bucket_than_a_pair_can_count_are_written_as_far_as_it_can(tmp_path, field):
    writer = RingWriter(tmp_path / "ring", 1, capacity=16)
    writer.step(step_row(**{field: [(7, 70_000)]}))
    *_, last = records((tmp_path / "ring").read_bytes()).values()
    writer.close()
    assert getattr(last, field.removeprefix("batch_")) == ((7, 65_535),)


@given(request_rows)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
def test_a_request_comes_back_as_written(tmp_path, row):
    writer = RingWriter(tmp_path / "ring", 1, capacity=16)
    writer.request(row)
    (record,) = records((tmp_path / "ring").read_bytes()).values()
    writer.close()
    assert all(getattr(record, name) == getattr(row, name) for name in RequestRow._fields)


def test_a_reader_that_was_lapped_finds_the_newest_records_and_the_number_lost(tmp_path):
    writer = RingWriter(tmp_path / "ring", 1, capacity=8)
    for step in range(1, 101):
        writer.step(step_row(step))
    data = (tmp_path / "ring").read_bytes()
    assert header(data)[6] == 100
    found = records(data)
    assert [record.step for record in found.values()] == list(range(93, 101))
    assert min(found) - 1 == 92  # dropped, from the numbers alone


def test_a_record_being_rewritten_is_not_accepted(tmp_path, monkeypatch):
    """The writer stops in the middle of a record, as a reader may find it at any time."""
    writer = RingWriter(tmp_path / "ring", 1, capacity=4)
    for step in range(1, 5):
        writer.step(step_row(step))
    monkeypatch.setattr(RingWriter, "_commit", lambda self, body: None)
    writer.step(step_row(5))
    found = records((tmp_path / "ring").read_bytes())
    assert [record.step for record in found.values()] == [2, 3, 4]


def test_a_reader_beside_the_writer_never_sees_a_torn_record(tmp_path):
    writer = RingWriter(tmp_path / "ring", 1, capacity=4)
    done = threading.Event()

    def write() -> None:
        for step in range(1, 20_000):
            writer.step(step_row(step, scheduled_ns=step, completed_ns=step, operation_id=step))
        done.set()

    thread = threading.Thread(target=write)
    with (tmp_path / "ring").open("rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as view:
        thread.start()
        seen = 0
        while not done.is_set():
            written = header(view[: api.HEADER_SIZE])[6]
            offset = api.HEADER_SIZE + (written - 1) % 4 * api.RECORD_SIZE if written else 0
            before = view[offset : offset + api.RECORD_SIZE]
            after = view[offset : offset + 8]
            if written and api.sequence_of(before) == written and int.from_bytes(after, "little") == written:
                record = api.decode_record(before)
                assert record.step == record.scheduled_ns == record.completed_ns == record.operation_id
                seen += 1
        thread.join()
    assert seen


def test_a_new_engine_puts_a_new_file_in_place_and_the_old_mapping_stays_whole(tmp_path):
    path = tmp_path / "ring"
    first = RingWriter(path, 1, capacity=4)
    first.step(step_row(1))
    inode = path.stat().st_ino
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as view:
        second = RingWriter(path, 2, capacity=4)
        assert records(view[:])[1].step == 1
    assert path.stat().st_ino != inode
    assert header(path.read_bytes())[5:] == (2, 0)
    assert os.listdir(tmp_path) == ["ring"]
    second.close()


def test_a_truncated_or_foreign_record_is_refused_by_the_decoder(tmp_path):
    writer = RingWriter(tmp_path / "ring", 1, capacity=4)
    writer.step(step_row(1, gaps=[(1, 1)]))
    data = bytearray((tmp_path / "ring").read_bytes()[api.HEADER_SIZE : api.HEADER_SIZE + api.RECORD_SIZE])
    with pytest.raises(Exception, match=r"unpack|buffer"):
        api.decode_record(bytes(data[:20]))
    data[8] = 99
    with pytest.raises(ValueError, match="kind 99"):
        api.decode_record(bytes(data))


def test_the_file_is_for_its_owner_and_group_whatever_the_umask(tmp_path):
    old = os.umask(0o077)
    try:
        RingWriter(tmp_path / "ring", 1, capacity=4).close()
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "ring").stat().st_mode) == 0o660


def test_a_folder_that_is_missing_is_an_error_that_leaves_nothing_behind(tmp_path: Path):
    with pytest.raises(OSError, match="missing"):
        RingWriter(tmp_path / "missing" / "ring", 1)


def test_latencies_of_batch_requests_come_in_records_of_their_own(tmp_path):
    writer = RingWriter(tmp_path / "ring", 1, capacity=16)
    many = [(bucket, 1) for bucket in range(60)]
    writer.step(step_row(7, gaps=[(3, 2)], batch_gaps=many, batch_first_tokens=[(9, 4)]))
    step, *more = records((tmp_path / "ring").read_bytes()).values()
    writer.close()
    assert step.gaps == ((3, 2),)
    assert {(record.step, record.request_class) for record in more} == {(7, api.RequestClass.BATCH)}
    assert [pair for record in more for pair in record.gaps] == many
    assert [pair for record in more for pair in record.first_tokens] == [(9, 4)]


@pytest.mark.parametrize(("sent", "written"), [(2**40, 2**31 - 1), (-(2**40), -(2**31)), (7, 7)])
def test_a_priority_of_any_size_is_written_as_far_as_it_fits(tmp_path, sent, written):
    writer = RingWriter(tmp_path / "ring", 1, capacity=4)
    writer.request(RequestRow(*[0] * 12, 0.0, 0.0, 0.0, 0.0)._replace(priority=sent, arrival_ns=3))
    (record,) = records((tmp_path / "ring").read_bytes()).values()
    writer.close()
    assert (record.priority, record.arrival_ns) == (written, 3)
