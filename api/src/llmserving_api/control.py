"""Wire types of the control API: HTTP/1.1 + JSON over a Unix socket, one socket for each engine rank.

``GET /v1/runtime_config`` answers a ``RuntimeConfig``; ``PATCH /v1/runtime_config`` takes a ``RuntimePatch`` and answers
the resulting ``RuntimeConfig``. Field names follow vLLM's own proposal for the endpoint. The engine speaks this format
without importing this package; a contract test validates its JSON against these models.
"""

from enum import StrEnum
from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field

PATH_RUNTIME_CONFIG: Final = "/v1/runtime_config"
PATH_DEVICE: Final = "/v1/device"
PATH_HEALTH: Final = "/healthz"

Seqs = Annotated[int, Field(ge=1)]
Tokens = Annotated[int, Field(ge=1)]


class _Wire(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class _Answer(BaseModel):
    """Answers may grow fields; an older agent ignores what it does not know."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)


class Bounds(_Wire):
    """The pair the scheduler obeys."""

    max_num_seqs: Seqs
    max_num_batched_tokens: Tokens


class SLATargets(_Wire):
    """Targets the plug-in needs to count gaps, overdue requests and deadlines; null: no such target."""

    ttft_seconds: Annotated[float, Field(gt=0)] | None = None
    itl_seconds: Annotated[float, Field(gt=0)] | None = None
    e2e_seconds: Annotated[float, Field(gt=0)] | None = None


class PlannerChoice(_Wire):
    """A law inside the engine's step: its name and its parameters, which it checks itself."""

    name: Annotated[str, Field(min_length=1, max_length=63)] = "bounds"
    """``bounds``: the bounds alone."""
    parameters: dict[str, Any] = {}


class RuntimePatch(_Wire):
    """A change. Absent fields stay as they are; ``operation_id`` makes it idempotent and orders it.

    The same change under the same id is taken once; another change under it, or an older id, is answered 409.
    """

    operation_id: Annotated[int, Field(ge=1)]
    max_num_seqs: Seqs | None = None
    max_num_batched_tokens: Tokens | None = None
    fallback: Bounds | None = None
    lease_seconds: Annotated[float, Field(gt=0, le=3600)] | None = None
    targets: SLATargets | None = None
    shed_to: Annotated[int, Field(ge=0)] | None = None
    """Explicit request to preempt running requests down to this many, once; they are recomputed later, never lost.
    Needs ``max_num_seqs`` at most this many (or 1), and is refused where preemption is not safe."""
    planner: PlannerChoice | None = None


class ContractMode(StrEnum):
    """What the plug-in can do on this engine."""

    FULL = "full"  # bounds, budgets, ordering
    CAPS = "caps"  # bounds alone
    OBSERVE = "observe"  # nothing; PATCH answers 501


class Contract(_Answer):
    """Result of the check of vLLM's scheduler at start-up."""

    mode: ContractMode
    ok: bool
    reason: str = ""


class Drain(_Answer):
    """A lowered sequence bound under way: nothing is evicted, the count falls as requests finish."""

    active: bool
    running: int
    target: int


class Lease(_Answer):
    """How long the last confirmed parameters hold without a renewal (any PATCH renews)."""

    seconds: float
    remaining_seconds: float
    expired: bool


class EngineFacts(_Answer):
    """What the engine was started with."""

    vllm_version: str
    scheduler_class: str
    rank: int
    pid: int
    model: str
    max_model_len: int
    block_size: int
    num_gpu_blocks: int
    async_scheduling: bool
    chunked_prefill: bool
    prefix_caching: bool
    tensor_parallel_size: int
    pipeline_parallel_size: int
    data_parallel_size: int
    cudagraph_capture_sizes: tuple[int, ...] = ()
    unsupported: tuple[str, ...] = ()
    """Features under which only advice is given, as in condition reasons: ``PipelineParallel``, ``KVConnector``, ..."""


class RuntimeConfig(_Answer):
    """State of the control of one engine rank."""

    api_version: str
    engine: EngineFacts
    contract: Contract
    ceilings: Bounds
    stock: Bounds
    """What stock vLLM would choose for this device (``EngineArgs.get_batch_defaults``), clamped into the ceilings."""
    fallback: Bounds
    requested: Bounds
    applied: Bounds
    effective: Bounds | None
    """Bounds that a step has been seen to keep; null before the first step."""
    applied_step: int
    step: int
    operation_id: int
    drain: Drain
    lease: Lease
    targets: SLATargets
    planner: PlannerChoice = PlannerChoice()
    prefill_openings: int = 0
    """Times the budget was opened because prefill made no progress for some steps."""
    faults: int = 0
    """Exceptions of the plug-in's own code inside a step; after the first one ``contract`` says what is left."""


class ControlError(_Answer):
    """Body of a 4xx or 5xx answer."""

    error: str
    field: str | None = None
    value: str | None = None
    allowed: str | None = None


class DeviceMemory(_Answer):
    """NVML facts of one GPU; null with a reason where the device does not answer a query."""

    uuid: str
    name: str
    memory_total_bytes: int
    memory_free_bytes: int
    memory_used_bytes: int
    utilization_ratio: float | None = None
    throttle_reasons: tuple[str, ...] = ()
    ecc_uncorrected_errors: int | None = None


class DeviceReport(_Answer):
    """Answer of ``GET /v1/device``: the GPUs the engine's container sees."""

    devices: tuple[DeviceMemory, ...]
    reason: str = ""
    """Why there are none."""
