"""The runtime of a real engine process: ring, control server and facts for the scheduler that was just made."""

import logging
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

from llmserving_engine.bounds import Bounds
from llmserving_engine.budget import Quantum
from llmserving_engine.clock import SystemClock
from llmserving_engine.contract import check
from llmserving_engine.control import ControlState
from llmserving_engine.health import Heartbeat
from llmserving_engine.plugin import ENV_CONTROL_DIR
from llmserving_engine.ring import RingWriter
from llmserving_engine.runtime import Runtime
from llmserving_engine.server import ControlServer
from llmserving_engine.telemetry import NoTelemetry, TelemetrySink

logger = logging.getLogger(__name__)


def start_runtime(scheduler: Any) -> Runtime:
    """Build the runtime and start the control server's thread.

    A folder that cannot be written costs control and telemetry, never the engine.
    """
    runtime = describe(scheduler, NoTelemetry())
    rank = runtime.control.facts["rank"]
    folder = Path(os.environ.get(ENV_CONTROL_DIR, ""))
    try:
        ring = RingWriter(folder / f"telemetry-{rank}.ring", runtime.clock.monotonic_ns())
        server = ControlServer(
            folder / f"engine-{rank}.sock",
            runtime.control,
            runtime.heartbeat,
            lambda: scheduler.get_num_unfinished_requests() > 0,
        )
        server.start()
    except OSError:
        logger.exception("llmserving: no control over %s; the engine runs with its start-up bounds", folder)
        return runtime
    contract = runtime.control.contract
    logger.info(
        "llmserving: control %s%s on %s", contract.mode, f" ({contract.reason})" if contract.reason else "", server.path
    )
    return replace(runtime, sink=ring)


def describe(scheduler: Any, sink: TelemetrySink, clock: Any = None) -> Runtime:
    """The runtime of a scheduler without anything outside the process; also what a simulation builds.

    Args:
        scheduler: An instance of ``LiveScheduler`` whose vLLM part is constructed.
        sink: Where telemetry goes.
        clock: Source of time; the machine's when absent.
    """
    import vllm

    clock = clock or SystemClock()
    base = scheduler.vllm_base
    config = scheduler.scheduler_config
    unsupported = unsupported_features(scheduler)
    finding = check(scheduler, base, vllm.__version__, unsupported)
    ceilings = Bounds(config.max_num_seqs, config.max_num_scheduled_tokens or config.max_num_batched_tokens)
    control = ControlState.create(
        clock,
        _facts(scheduler, base, vllm.__version__, unsupported),
        finding.contract,
        ceilings,
        _stock(scheduler, ceilings),
    )
    decode_tokens = 1 + int(getattr(scheduler, "num_spec_tokens", 0) or 0)
    return Runtime(
        clock=clock,
        control=control,
        sink=sink,
        heartbeat=Heartbeat(clock.monotonic_ns()),
        gate=finding.gate,
        counts_sessions=finding.counts_sessions,
        by_priority=str(getattr(scheduler.policy, "value", "fcfs")) == "priority",
        quantum=Quantum(
            aligned_block=_aligned_block(scheduler),
            decode_tokens=decode_tokens,
            lookahead=int(getattr(scheduler, "num_prefill_lookahead", 0) or 0),
            whole_items=bool(getattr(config, "disable_chunked_mm_input", False)),
            whole_prompt=not config.enable_chunked_prefill,
        ),
        decode_tokens=decode_tokens,
    )


def unsupported_features(scheduler: Any) -> tuple[str, ...]:
    """Features under which the engine is only observed, as they appear in condition reasons."""
    config = scheduler.vllm_config
    parallel = config.parallel_config
    model = config.model_config
    found = {
        "PipelineParallel": parallel.pipeline_parallel_size > 1,
        "MoEDataParallel": parallel.data_parallel_size > 1 and bool(getattr(model, "is_moe", False)),
        "KVConnector": config.kv_transfer_config is not None,
        "ECConnector": getattr(config, "ec_transfer_config", None) is not None,
        "Pooling": model.runner_type == "pooling",
        "EncoderDecoder": bool(model.is_encoder_decoder),
    }
    return tuple(name for name, is_used in found.items() if is_used)


def _facts(scheduler: Any, base: type, version: str, unsupported: tuple[str, ...]) -> dict[str, Any]:
    config = scheduler.vllm_config
    parallel = config.parallel_config
    sizes = getattr(config.compilation_config, "cudagraph_capture_sizes", None) or ()
    return {
        "vllm_version": version,
        "scheduler_class": base.__name__,
        "rank": int(getattr(parallel, "data_parallel_index", 0) or 0),
        "pid": os.getpid(),
        "model": str(config.model_config.model),
        "max_model_len": scheduler.max_model_len,
        "block_size": scheduler.block_size,
        "num_gpu_blocks": scheduler.kv_cache_manager.block_pool.num_gpu_blocks,
        "async_scheduling": bool(scheduler.scheduler_config.async_scheduling),
        "chunked_prefill": bool(scheduler.scheduler_config.enable_chunked_prefill),
        "prefix_caching": bool(scheduler.cache_config.enable_prefix_caching),
        "tensor_parallel_size": parallel.tensor_parallel_size,
        "pipeline_parallel_size": parallel.pipeline_parallel_size,
        "data_parallel_size": parallel.data_parallel_size,
        "cudagraph_capture_sizes": [int(size) for size in sizes],
        "unsupported": list(unsupported),
    }


def _aligned_block(scheduler: Any) -> int:
    is_aligned = getattr(scheduler, "need_mamba_block_aligned_split", False)
    return int(scheduler.cache_config.block_size) if is_aligned else 0


def _stock(scheduler: Any, ceilings: Bounds) -> Bounds:
    """What stock vLLM would choose for this device as an API server; the ceilings where it cannot say."""
    seqs, tokens = ceilings.max_num_seqs, ceilings.max_num_batched_tokens
    try:
        from vllm.engine.arg_utils import EngineArgs
        from vllm.usage.usage_lib import UsageContext

        world_size = scheduler.vllm_config.parallel_config.world_size
        by_tokens, by_seqs = EngineArgs.get_batch_defaults(world_size)
        tokens = int(by_tokens.get(UsageContext.OPENAI_API_SERVER, tokens))
        seqs = int(by_seqs.get(UsageContext.OPENAI_API_SERVER, seqs))
    except Exception:
        logger.warning("llmserving: vLLM's default bounds are unknown here; the ceilings stand in", exc_info=True)
    active = getattr(scheduler.scheduler_config, "max_num_active_seqs", None)
    if active:
        seqs = min(seqs, int(active))
    if not scheduler.scheduler_config.enable_chunked_prefill:
        tokens = max(tokens, scheduler.max_model_len)
    return Bounds(seqs, tokens).clamped(ceilings)
