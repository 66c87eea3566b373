"""The telemetry ring: a memory-mapped file the plug-in writes once per engine step and the agent reads.

Layout: one header, then ``capacity`` records of ``RECORD_SIZE`` bytes, little endian. The writer clears the slot's
sequence number, fills the body, then sets the sequence number and last the header's ``written``; record ``n`` (from 1)
lies in slot ``(n - 1) % capacity``. A restarted engine moves a new file into place: a reader sees it by its inode.
A reader copies a record and accepts it only when its sequence number is the expected one before and after the copy;
when the writer has lapped it, the difference is counted as dropped. The engine writes this format without importing
this package; a contract test holds the two together.
"""

import struct
from dataclasses import dataclass
from enum import IntEnum, IntFlag
from typing import Any, Final

MAGIC: Final = b"LLMSRING"
RING_VERSION: Final = 1
HEADER: Final = struct.Struct("<8sIIIIQQ")
"""magic, version, header size, record size, capacity (records), start (monotonic ns), written (records so far)."""
HEADER_SIZE: Final = 64
RECORD_SIZE: Final = 384
PAIR: Final = struct.Struct("<HH")
"""(latency bucket, count); see ``llmserving_api.latency``."""
MAX_PAIRS: Final = 40
"""Pairs in one step record, inter-token gaps first, then first tokens. More distinct buckets than fit: a
``STEP_MORE`` record with the same step number carries the rest. Latencies of batch requests are always in one."""


class Kind(IntEnum):
    """What a record holds."""

    STEP = 1
    STEP_MORE = 2
    REQUEST = 3


class StepFlag(IntFlag):
    """Facts about a step."""

    PREFILL_OPENED = 1  # no prefill progress for too long: the budget was opened for this step
    LEASE_EXPIRED = 2  # bounds are moving to the fallback
    DRAINING = 4  # more running than the cap allows
    OBSERVE_ONLY = 8  # the contract check failed; nothing is enforced
    PREFILL_HELD = 16  # prefill was available but not granted in this step


class Outcome(IntEnum):
    """How a request ended."""

    FINISHED = 0
    ABORTED = 1
    FAILED = 2


class RequestClass(IntEnum):
    """What a client said of a request (``vllm_xargs``, key ``llmserving_class``). All but ``BATCH`` have the targets."""

    INTERACTIVE = 0  # also when nothing was said
    BATCH = 1  # no latency target: served behind the others, measured apart
    UNKNOWN = 2  # a class that the plug-in does not know: treated as interactive


PREFIX: Final = struct.Struct("<QII")
"""Start of every record: sequence number, kind, flags (``StepFlag``), outcome (``Outcome``) or, of the latencies in a
``STEP_MORE`` record, class (``RequestClass``; 0 from plug-ins that know no classes)."""

STEP_BODY: Final = struct.Struct("<QQQQ IIII QQ IIIIIIIIIIII QQ Q d HH")
"""See ``StepRecord`` for the order of the fields."""

REQUEST_BODY: Final = struct.Struct("<QQ IIIIII i HH dddd")
"""See ``RequestRecord`` for the order of the fields. Plug-ins that know no classes wrote ``relegated`` in four bytes, of
which the upper two, the class now, were 0."""


@dataclass(frozen=True, slots=True)
class StepRecord:
    """One engine step. Times are CLOCK_MONOTONIC nanoseconds of the machine."""

    flags: int
    step: int
    scheduled_ns: int  # schedule() returned
    completed_ns: int  # update_from_output() began
    duration_ns: int  # time attributed to the device for this step; 0 when unknown (first step after idling)
    prefill_tokens: int
    decode_tokens: int
    prefill_requests: int
    decode_requests: int
    decode_context_tokens: int  # sum over decodes of the tokens they attend to
    prefill_attention_tokens: int  # sum over chunks of chunk x (cached context + chunk / 2)
    padded_tokens: int  # tokens the device computed, with graph padding; 0 when unknown
    running: int  # these two: right after schedule()
    waiting: int
    overdue_waiting: int  # without a first token for longer than the TTFT target, batch not counted
    finished: int
    preempted: int
    kv_blocks_used: int
    kv_blocks_total: int
    max_num_seqs: int  # applied
    max_num_batched_tokens: int  # applied
    token_budget: int  # granted for this step
    held: int  # requests held back or parked by a law
    oldest_waiting_ns: int  # age of the oldest request without a first token, batch not counted; 0: there is none
    predicted_ns: int  # by the step-time model in force; 0 without one
    operation_id: int
    trim: float  # observed over predicted step time, smoothed; 1.0 without a model
    gaps: tuple[tuple[int, int], ...]  # (bucket, count) of inter-token gaps that ended in this step, without batch
    first_tokens: tuple[tuple[int, int], ...]  # (bucket, count) of times to first token, without batch


@dataclass(frozen=True, slots=True)
class RequestRecord:
    """One request that left the engine."""

    outcome: Outcome
    arrival_ns: int
    finished_ns: int
    prompt_tokens: int
    cached_tokens: int
    output_tokens: int
    gaps: int
    gaps_over_target: int
    preemptions: int
    priority: int
    relegated: int  # 1: it was put behind others because its TTFT could not be met
    request_class: int  # ``RequestClass``
    ttft_seconds: float  # 0 when no token came
    e2e_seconds: float
    queue_seconds: float
    max_gap_seconds: float


@dataclass(frozen=True, slots=True)
class MoreRecord:
    """Further latency pairs of a step: those that did not fit, or those of another class."""

    step: int
    gaps: tuple[tuple[int, int], ...]
    first_tokens: tuple[tuple[int, int], ...]
    request_class: int = RequestClass.INTERACTIVE


_MORE_BODY: Final = struct.Struct("<QHH")


Pairs = tuple[tuple[int, int], ...]


def _pairs(data: bytes, offset: int, gaps: int, firsts: int) -> tuple[Pairs, Pairs]:
    end = offset + (gaps + firsts) * PAIR.size
    if gaps + firsts > MAX_PAIRS or end > RECORD_SIZE:
        raise ValueError(f"telemetry record: {gaps} + {firsts} latency pairs, at most {MAX_PAIRS} fit")
    pairs = tuple((int(b), int(c)) for b, c in PAIR.iter_unpack(data[offset:end]))
    return pairs[:gaps], pairs[gaps:]


def sequence_of(data: bytes) -> int:
    """Sequence number of a record's bytes."""
    return int(PREFIX.unpack_from(data)[0])


def decode_record(data: bytes) -> StepRecord | MoreRecord | RequestRecord:
    """Decode the ``RECORD_SIZE`` bytes of one record.

    Raises:
        ValueError: the kind is unknown or the pairs do not fit (a torn or foreign record).
    """
    _, kind, flags = PREFIX.unpack_from(data)
    if kind == Kind.STEP:
        *fields, gaps, firsts = STEP_BODY.unpack_from(data, PREFIX.size)
        gap_pairs, first_pairs = _pairs(data, PREFIX.size + STEP_BODY.size, gaps, firsts)
        values: tuple[Any, ...] = (flags, *fields, gap_pairs, first_pairs)
        return StepRecord(*values)
    if kind == Kind.STEP_MORE:
        step, gaps, firsts = _MORE_BODY.unpack_from(data, PREFIX.size)
        gap_pairs, first_pairs = _pairs(data, PREFIX.size + _MORE_BODY.size, gaps, firsts)
        return MoreRecord(step, gap_pairs, first_pairs, flags)
    if kind == Kind.REQUEST:
        return RequestRecord(Outcome(flags), *REQUEST_BODY.unpack_from(data, PREFIX.size))
    raise ValueError(f"telemetry record: kind {kind}, known are {[k.value for k in Kind]}")
