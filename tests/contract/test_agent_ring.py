"""The agent's ring reader against the plug-in's ring writer."""

from pathlib import Path

import pytest

from llmserving_agent.loop import AgentLoop
from llmserving_agent.sensors.none import NoFrontEnd, NoGPU
from llmserving_agent.sensors.ports import PolicyReading
from llmserving_agent.sensors.ring import MAX_RECORDS, RingDirectory, RingReader
from llmserving_api.latency import bucket_of
from llmserving_api.names import ring_name
from llmserving_api.telemetry import HEADER, HEADER_SIZE, RECORD_SIZE, MoreRecord, StepRecord
from llmserving_engine.ring import RingWriter
from llmserving_engine.telemetry import StepRow


def row(step: int, **changes: object) -> StepRow:
    return StepRow(*[0] * 26, trim=1.0, gaps=[], first_tokens=[])._replace(step=step, **changes)


def steps(records: object) -> list[int]:
    return [record.step for record in records if isinstance(record, StepRecord)]  # type: ignore[attr-defined]


class NoPolicy:
    def read(self, now: float) -> PolicyReading:
        return PolicyReading()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / ring_name(0)


def test_records_are_read_once_and_in_order(path: Path) -> None:
    writer, reader = RingWriter(path, 1, capacity=16), RingReader(path)
    for step in (1, 2, 3):
        writer.step(row(step))
    assert steps(reader.read().records) == [1, 2, 3]
    writer.step(row(4))
    assert steps(reader.read().records) == [4]
    assert reader.read().records == ()


def test_a_lapped_reader_counts_what_it_lost_and_goes_on_with_the_oldest_whole_record(path: Path) -> None:
    writer, reader = RingWriter(path, 1, capacity=8), RingReader(path)
    reader.read()
    for step in range(1, 21):
        writer.step(row(step))
    reading = reader.read()
    assert reading.dropped == 12
    assert steps(reading.records) == list(range(13, 21))


def test_a_reader_that_comes_later_lost_nothing_of_what_was_before_it(path: Path) -> None:
    writer = RingWriter(path, 1, capacity=8)
    for step in range(1, 21):
        writer.step(row(step))
    reader = RingReader(path)
    reading = reader.read()
    assert steps(reading.records) == list(range(13, 21))
    assert reading.dropped == 0
    for step in range(21, 33):
        writer.step(row(step))
    assert reader.read().dropped == 4


def test_what_a_later_engine_lost_to_its_reader_is_counted(path: Path) -> None:
    RingWriter(path, 1, capacity=8).step(row(1))
    reader = RingReader(path)
    reader.read()
    writer = RingWriter(path, 2, capacity=8)
    for step in range(1, 11):
        writer.step(row(step))
    assert reader.read().dropped == 2


def test_a_restarted_agent_measures_what_the_ring_holds_and_counts_what_is_new(path: Path) -> None:
    writer = RingWriter(path, 1, capacity=8)
    gaps = [(bucket_of(0.02), 10)]
    for second in range(1, 21):
        writer.step(row(second, completed_ns=second * 10**9, gaps=gaps))

    loop = AgentLoop(
        telemetry=RingDirectory(path.parent),
        policy=NoPolicy(),
        gpu=NoGPU("none here"),
        front_end=NoFrontEnd(),
        wall_clock=float,
        started=20.5,
    )
    loop.sense(20.6)
    engine = loop.engine(0)
    assert engine.totals.steps == 0
    assert engine.totals.dropped == 0
    assert sum(engine.measured.sla.total.itl.values()) == 80
    writer.step(row(21, completed_ns=21 * 10**9, gaps=gaps))
    loop.sense(21.1)
    assert engine.totals.steps == 1
    assert sum(engine.measured.sla.total.itl.values()) == 90


def test_a_record_that_is_being_overwritten_is_dropped(path: Path) -> None:
    writer, reader = RingWriter(path, 1, capacity=8), RingReader(path)
    for step in range(1, 4):
        writer.step(row(step))
    with path.open("r+b") as file:
        file.seek(HEADER_SIZE + RECORD_SIZE)
        file.write(bytes(8))
    reading = reader.read()
    assert steps(reading.records) == [1, 3]
    assert reading.dropped == 1


def test_an_unknown_kind_is_dropped(path: Path) -> None:
    writer, reader = RingWriter(path, 1, capacity=8), RingReader(path)
    writer.step(row(1))
    with path.open("r+b") as file:
        file.seek(HEADER_SIZE + 8)
        file.write(b"\xff")
    assert reader.read().dropped == 1


def test_a_new_engine_is_a_new_file(path: Path) -> None:
    reader = RingReader(path)
    RingWriter(path, 1, capacity=8).step(row(1))
    assert reader.read().restarted
    assert not reader.read().restarted
    RingWriter(path, 2, capacity=8).step(row(70))
    reading = reader.read()
    assert reading.restarted
    assert steps(reading.records) == [70]


def test_a_missing_ring_is_a_problem_and_no_error(path: Path) -> None:
    reading = RingReader(path).read()
    assert reading.records == ()
    assert "telemetry-0.ring" in reading.problem


@pytest.mark.parametrize(
    ("header", "problem"),
    [
        ((b"OTHERFIL", 1, HEADER_SIZE, RECORD_SIZE, 8, 1, 0), "not a telemetry ring"),
        ((b"LLMSRING", 2, HEADER_SIZE, RECORD_SIZE, 8, 1, 0), "version 2, this agent reads 1"),
        ((b"LLMSRING", 1, HEADER_SIZE, 512, 8, 1, 0), "record 512"),
        ((b"LLMSRING", 1, HEADER_SIZE, RECORD_SIZE, 9, 1, 0), "for 9 records"),
    ],
)
def test_a_foreign_header_is_named(path: Path, header: tuple[object, ...], problem: str) -> None:
    RingWriter(path, 1, capacity=8).close()
    with path.open("r+b") as file:
        file.write(HEADER.pack(*header))
    reading = RingReader(path).read()
    assert problem in reading.problem
    assert reading.records == ()


def test_a_truncated_ring_is_a_problem_and_kills_nobody(path: Path) -> None:
    writer, reader = RingWriter(path, 1, capacity=64), RingReader(path)
    writer.step(row(1))
    assert steps(reader.read().records) == [1]
    with path.open("r+b") as file:
        file.truncate(HEADER_SIZE + RECORD_SIZE)
    assert "truncated" in reader.read().problem
    with path.open("r+b") as file:
        file.truncate(10)
    assert "10 bytes" in reader.read().problem


def test_more_latencies_than_fit_one_record_arrive_in_further_ones(path: Path) -> None:
    writer, reader = RingWriter(path, 1, capacity=8), RingReader(path)
    gaps = [(bucket, 1) for bucket in range(100)]
    writer.step(row(5, gaps=gaps))
    first, *more = reader.read().records
    assert isinstance(first, StepRecord)
    assert all(isinstance(record, MoreRecord) and record.step == 5 for record in more)
    assert [pair for record in (first, *more) for pair in record.gaps] == gaps  # type: ignore[union-attr]


def test_one_reading_is_bounded_and_the_rest_comes_next(path: Path) -> None:
    writer, reader = RingWriter(path, 1, capacity=2 * MAX_RECORDS), RingReader(path)
    for step in range(1, MAX_RECORDS + 11):
        writer.step(row(step))
    assert len(reader.read().records) == MAX_RECORDS
    assert len(reader.read().records) == 10


def test_every_rank_has_its_ring(tmp_path: Path) -> None:
    rings = RingDirectory(tmp_path)
    assert rings.read() == {}
    for rank in (0, 3):
        RingWriter(tmp_path / ring_name(rank), 1, capacity=8).step(row(rank + 1))
    (tmp_path / "unrelated").touch()
    readings = rings.read()
    assert {rank: steps(reading.records) for rank, reading in readings.items()} == {0: [1], 3: [4]}
