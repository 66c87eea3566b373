"""Reader of the telemetry ring (``llmserving_api.telemetry``): a memory-mapped file for each engine rank.

Reading touches neither the engine's process nor its interpreter lock. A new engine is a new file, or a new start time
in the header; a lapped reader counts what it lost and goes on with the oldest record that is still whole.
"""

import mmap
import os
import re
from collections.abc import Mapping
from pathlib import Path

from llmserving_agent.sensors.ports import Record, Telemetry
from llmserving_api.names import RING_PATTERN
from llmserving_api.telemetry import (
    HEADER,
    HEADER_SIZE,
    MAGIC,
    PREFIX,
    RECORD_SIZE,
    RING_VERSION,
    decode_record,
    sequence_of,
)

MAX_RECORDS = 4096
"""Records taken in one reading; the rest waits for the next, so that one tick stays short."""
_RING_NAME = re.compile(re.escape(RING_PATTERN).replace(re.escape("{rank}"), r"(\d+)"))


class RingReader:
    """Reads one rank's ring: the first one it finds from the oldest record there is, each later one from its beginning.

    What the first ring held before that was never this reader's to read, and is not among what it lost.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._map: mmap.mmap | None = None
        self._file_id: tuple[int, int] | None = None
        self._capacity = 0
        self._start_ns = 0
        self._next = 0  # no ring yet

    def read(self) -> Telemetry:
        """Records since the last call; a missing, short or foreign file is a problem in the answer, not an error."""
        try:
            stat = os.stat(self._path)
        except OSError as error:
            self.close()
            return Telemetry(problem=f"{self._path.name}: {error.strerror}")
        restarted = False
        if self._map is None or (stat.st_dev, stat.st_ino) != self._file_id:
            problem = self._open(stat)
            if problem:
                return Telemetry(problem=problem)
            restarted = True
        if self._map is None or stat.st_size < HEADER_SIZE + self._capacity * RECORD_SIZE:
            # Reading a page that is no longer in the file would kill the process.
            self.close()
            return Telemetry(problem=f"{self._path.name}: truncated to {stat.st_size} bytes")
        *_, start_ns, written = HEADER.unpack_from(self._map)
        if start_ns != self._start_ns or written < self._next - 1:
            self._start_ns, self._next, restarted = start_ns, 1, True
        records, dropped = self._take(self._map, written)
        return Telemetry(records=records, dropped=dropped, restarted=restarted)

    def close(self) -> None:
        """Let go of the file."""
        if self._map is not None:
            self._map.close()
        self._map, self._file_id = None, None

    def _open(self, stat: os.stat_result) -> str:
        self.close()
        if stat.st_size < HEADER_SIZE:
            return f"{self._path.name}: {stat.st_size} bytes, a header has {HEADER_SIZE}"
        try:
            with self._path.open("rb") as file:
                stat = os.fstat(file.fileno())
                mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except (OSError, ValueError) as error:
            return f"{self._path.name}: {error}"
        magic, version, header_size, record_size, capacity, start_ns, written = HEADER.unpack_from(mapped)
        problem = ""
        if magic != MAGIC:
            problem = f"{self._path.name}: not a telemetry ring"
        elif version != RING_VERSION:
            problem = f"{self._path.name}: version {version}, this agent reads {RING_VERSION}"
        elif (header_size, record_size) != (HEADER_SIZE, RECORD_SIZE) or capacity == 0:
            problem = f"{self._path.name}: header {header_size}, record {record_size}, capacity {capacity}"
        elif stat.st_size < HEADER_SIZE + capacity * RECORD_SIZE:
            problem = f"{self._path.name}: {stat.st_size} bytes for {capacity} records"
        if problem:
            mapped.close()
            return problem
        self._map, self._file_id = mapped, (stat.st_dev, stat.st_ino)
        self._capacity, self._start_ns = capacity, start_ns
        self._next = 1 if self._next else _oldest(written, capacity)
        return ""

    def _take(self, ring: mmap.mmap, written: int) -> tuple[tuple[Record, ...], int]:
        oldest = _oldest(written, self._capacity)
        dropped = max(0, oldest - self._next)
        self._next = max(self._next, oldest)
        records: list[Record] = []
        last = min(written, self._next + MAX_RECORDS - 1)
        while self._next <= last:
            at = HEADER_SIZE + (self._next - 1) % self._capacity * RECORD_SIZE
            data = ring[at : at + RECORD_SIZE]
            if sequence_of(data) != self._next or sequence_of(ring[at : at + PREFIX.size]) != self._next:
                dropped += 1  # overwritten while it was read
            else:
                try:
                    records.append(decode_record(data))
                except ValueError:
                    dropped += 1
            self._next += 1
        return tuple(records), dropped


def _oldest(written: int, capacity: int) -> int:
    """Number of the oldest record that is not overwritten."""
    return max(1, written - capacity + 1)


class RingDirectory:
    """The rings of all ranks in the control folder; ranks come and go."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._readers: dict[int, RingReader] = {}

    def read(self) -> Mapping[int, Telemetry]:
        """New records of every rank that has, or had, a ring."""
        try:
            names = os.listdir(self._folder)
        except OSError:
            names = []
        for name in names:
            match = _RING_NAME.fullmatch(name)
            if match and int(match[1]) not in self._readers:
                self._readers[int(match[1])] = RingReader(self._folder / name)
        return {rank: reader.read() for rank, reader in sorted(self._readers.items())}
