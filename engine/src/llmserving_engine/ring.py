"""Writer of the telemetry ring: a memory-mapped file of fixed records that the agent reads beside the running engine.

One header, then ``capacity`` records, little endian. Record ``n`` (from 1) lies in slot ``(n - 1) % capacity``. The
writer clears the slot's sequence number, fills the body, writes the sequence number and last the header's count, so a
reader that finds the expected number before and after its copy has a whole record. The file is made under another name
and moved into place: a reader of an earlier file keeps its mapping and sees the new one by its inode.
"""

import contextlib
import mmap
import os
import struct
from pathlib import Path
from typing import Final

from llmserving_engine.telemetry import Pairs, RequestClass, RequestRow, StepRow

MAGIC: Final = b"LLMSRING"
RING_VERSION: Final = 1
HEADER: Final = struct.Struct("<8sIIIIQQ")
HEADER_SIZE: Final = 64
RECORD_SIZE: Final = 384
DEFAULT_CAPACITY: Final = 8192
MAX_PAIRS: Final = 40
FILE_MODE: Final = 0o660

KIND_STEP: Final = 1
KIND_STEP_MORE: Final = 2
KIND_REQUEST: Final = 3

_U16: Final = 0xFFFF
_I32_MIN: Final = -(2**31)
_I32_MAX: Final = 2**31 - 1
_INTERACTIVE: Final = int(RequestClass.INTERACTIVE)
_BATCH: Final = int(RequestClass.BATCH)
_WORD: Final = 8
"""Size of a record's sequence number, which stands before its body, and of the header's count."""
_WRITTEN: Final = (HEADER.size - _WORD) // _WORD
"""The word of the file that holds the header's count."""
_FIRST_BODY: Final = HEADER_SIZE + _WORD


def _with_pairs(body: str) -> tuple[struct.Struct, ...]:
    """Formats of a body that ends in numbers of pairs and the pairs: one for each number of pairs."""
    return tuple(struct.Struct(f"<{body.replace(' ', '')}{2 * pairs}H") for pairs in range(MAX_PAIRS + 1))


_STEP: Final = _with_pairs("II QQQQ IIII QQ IIIIIIIIIIII QQ Q d HH")
_STEP_FIELDS: Final = StepRow._fields.index("gaps")
"""So many fields of a ``StepRow`` stand in the record as they are, between its kind and the numbers of pairs."""
_MORE: Final = _with_pairs("II Q HH")
_REQUEST: Final = struct.Struct("<II QQ IIIIII i HH dddd".replace(" ", ""))


class RingWriter:
    """Telemetry sink that writes to the ring. Single writer; calls come from the engine's thread."""

    def __init__(self, path: Path, start_ns: int, capacity: int = DEFAULT_CAPACITY) -> None:
        """Make the file (mode 0660) and map it.

        Raises:
            OSError: the folder is missing, not writable or full.
        """
        self.path = path
        self._capacity = capacity
        self._written = 0
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        size = HEADER_SIZE + capacity * RECORD_SIZE
        descriptor = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_TRUNC, FILE_MODE)
        try:
            os.fchmod(descriptor, FILE_MODE)
            os.posix_fallocate(descriptor, 0, size)
            # mapped at once: no page fault in a step
            self._map = mmap.mmap(descriptor, size, mmap.MAP_SHARED | mmap.MAP_POPULATE)
            header = (MAGIC, RING_VERSION, HEADER_SIZE, RECORD_SIZE, capacity, start_ns, 0)
            HEADER.pack_into(self._map, 0, *header)
            self._words = memoryview(self._map).cast("Q")  # one store writes one: no reader sees half a number
            temporary.replace(path)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise
        finally:
            os.close(descriptor)

    def step(self, row: StepRow) -> None:
        """Write a step, with further records when it has more distinct latencies than fit in one."""
        # In a busy engine the caches hold nothing of this code: one frame and one format cost half of several.
        *fields, gaps, firsts, batch_gaps, batch_firsts = row
        is_much = len(gaps) + len(firsts) > MAX_PAIRS
        if is_much:
            gaps, more_gaps = gaps[:MAX_PAIRS], gaps[MAX_PAIRS:]
            room = MAX_PAIRS - len(gaps)
            firsts, more_firsts = firsts[:room], firsts[room:]
        numbers: list[int] = []
        for bucket, count in gaps:
            numbers += bucket, min(_U16, count)
        for bucket, count in firsts:
            numbers += bucket, min(_U16, count)
        body = _FIRST_BODY + self._written % self._capacity * RECORD_SIZE
        self._words[body // _WORD - 1] = 0  # until the record is whole
        _STEP[len(numbers) // 2].pack_into(self._map, body, KIND_STEP, *fields, len(gaps), len(firsts), *numbers)
        self._commit(body)
        if is_much:
            self._more(row.step, more_gaps, more_firsts, _INTERACTIVE)
        if batch_gaps or batch_firsts:
            self._more(row.step, batch_gaps, batch_firsts, _BATCH)

    def request(self, row: RequestRow) -> None:
        """Write a request that left."""
        body = _FIRST_BODY + self._written % self._capacity * RECORD_SIZE
        self._words[body // _WORD - 1] = 0
        try:
            _REQUEST.pack_into(self._map, body, KIND_REQUEST, *row)
        except struct.error:  # a priority as no client should send it
            row = row._replace(priority=min(max(_I32_MIN, row.priority), _I32_MAX))
            _REQUEST.pack_into(self._map, body, KIND_REQUEST, *row)
        self._commit(body)

    def close(self) -> None:
        """Unmap; the file stays for a reader."""
        self._words.release()
        self._map.close()

    def _more(self, step: int, gaps: Pairs, firsts: Pairs, request_class: int) -> None:
        while gaps or firsts:
            now_gaps = gaps[:MAX_PAIRS]
            now_firsts = firsts[: MAX_PAIRS - len(now_gaps)]
            body = _FIRST_BODY + self._written % self._capacity * RECORD_SIZE
            self._words[body // _WORD - 1] = 0
            numbers = [min(_U16, number) for pair in (*now_gaps, *now_firsts) for number in pair]
            counts = len(now_gaps), len(now_firsts)
            _MORE[sum(counts)].pack_into(self._map, body, KIND_STEP_MORE, request_class, step, *counts, *numbers)
            self._commit(body)
            gaps, firsts = gaps[len(now_gaps) :], firsts[len(now_firsts) :]

    def _commit(self, body: int) -> None:
        """The record with this body is whole."""
        self._written += 1
        self._words[body // _WORD - 1] = self._written
        self._words[_WRITTEN] = self._written
