"""Documents that agent and engine exchange; what a test does not name has a plain value."""

from collections.abc import Mapping
from typing import Any

from llmserving_api.control import (
    Bounds,
    Contract,
    ContractMode,
    Drain,
    EngineFacts,
    Lease,
    RuntimeConfig,
    RuntimePatch,
    SLATargets,
)
from llmserving_api.policy import AskedLimits, LawName, Policy
from llmserving_api.telemetry import StepRecord

STOCK = Bounds(max_num_seqs=256, max_num_batched_tokens=8192)
CEILINGS = Bounds(max_num_seqs=512, max_num_batched_tokens=8192)


def engine_facts(**changes: Any) -> EngineFacts:
    fields: dict[str, Any] = {
        "vllm_version": "0.32.0",
        "scheduler_class": "S",
        "rank": 0,
        "pid": 1,
        "model": "m",
        "max_model_len": 8192,
        "block_size": 16,
        "num_gpu_blocks": 30000,
        "async_scheduling": True,
        "chunked_prefill": True,
        "prefix_caching": True,
        "tensor_parallel_size": 1,
        "pipeline_parallel_size": 1,
        "data_parallel_size": 1,
    }
    return EngineFacts(**{**fields, **changes})


def runtime_config(facts: Mapping[str, Any] | None = None, **changes: Any) -> RuntimeConfig:
    """An engine at stock bounds that nobody has asked for anything."""
    fields: dict[str, Any] = {
        "api_version": "v1",
        "engine": engine_facts(**(facts or {})),
        "contract": Contract(mode=ContractMode.FULL, ok=True),
        "ceilings": CEILINGS,
        "stock": STOCK,
        "fallback": STOCK,
        "requested": STOCK,
        "applied": STOCK,
        "effective": None,
        "applied_step": 0,
        "step": 0,
        "operation_id": 0,
        "drain": Drain(active=False, running=0, target=256),
        "lease": Lease(seconds=30, remaining_seconds=30, expired=False),
        "targets": SLATargets(),
    }
    return RuntimeConfig(**{**fields, **changes})


def asked_bounds(patch: RuntimePatch) -> Bounds:
    """The bounds of a change that names both."""
    assert patch.max_num_seqs is not None
    assert patch.max_num_batched_tokens is not None
    return Bounds(max_num_seqs=patch.max_num_seqs, max_num_batched_tokens=patch.max_num_batched_tokens)


def obeying(config: RuntimeConfig, patch: RuntimePatch) -> RuntimeConfig:
    """An engine's document once it has taken a change over."""
    bounds = asked_bounds(patch)
    seconds = patch.lease_seconds or config.lease.seconds
    taken = {
        "requested": bounds,
        "applied": bounds,
        "fallback": patch.fallback or config.fallback,
        "targets": patch.targets or config.targets,
        "operation_id": patch.operation_id,
        "lease": Lease(seconds=seconds, remaining_seconds=seconds, expired=False),
    }
    return config.model_copy(update=taken)


def make_policy(revision: int = 1, **changes: Any) -> Policy:
    fields: dict[str, Any] = {
        "revision": revision,
        "namespace": "default",
        "name": "chat",
        "law": LawName.MEMORY_SLA,
        "max_num_seqs": AskedLimits(min=8, max=512),
        "max_num_batched_tokens": AskedLimits(min=256, max=8192),
    }
    return Policy(**{**fields, **changes})


def step_record(at: float, **changes: Any) -> StepRecord:
    """A step of ten decodes that ended at ``at`` (seconds), twenty milliseconds long."""
    fields: dict[str, Any] = dict.fromkeys(StepRecord.__slots__, 0)
    fields |= {"completed_ns": round(at * 1e9), "trim": 1.0, "gaps": (), "first_tokens": ()}
    fields |= {"duration_ns": 20_000_000, "decode_requests": 10, "decode_tokens": 10, "running": 10}
    fields |= {"max_num_seqs": 256, "max_num_batched_tokens": 8192, "token_budget": 8192, "kv_blocks_total": 30000}
    return StepRecord(**{**fields, **changes})
