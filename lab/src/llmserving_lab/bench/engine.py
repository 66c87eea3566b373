"""vLLM's own scheduler and KV-cache manager in this process, without a model, a worker or a server.

This module and `simulation` are the only ones of the bench that import vLLM; they run in the engine's environment.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("VLLM_TARGET_DEVICE", "cpu")

import torch
from vllm.config import CacheConfig, DeviceConfig, ModelConfig, SchedulerConfig, VllmConfig
from vllm.sampling_params import SamplingParams
from vllm.utils.hashing import sha256
from vllm.v1.core.kv_cache_utils import get_request_block_hasher, init_none_hash
from vllm.v1.core.sched.async_scheduler import AsyncScheduler
from vllm.v1.core.sched.scheduler import Scheduler
from vllm.v1.kv_cache_interface import FullAttentionSpec, KVCacheConfig, KVCacheGroupSpec
from vllm.v1.request import Request, RequestStatus
from vllm.v1.structured_output import StructuredOutputManager

from llmserving_lab.traces.arrival import Arrival

STOP_TOKEN = 2
"""Token that ends an output. The engine learns an output's length only when this token comes."""

_OWN_CONTENT = 1_000_000
"""Token ids of prompts without shared content start here, so that they match no shared one."""


@dataclass(frozen=True, slots=True)
class EngineSettings:
    """Start-up settings of the engine.

    Attributes:
        max_num_seqs: Ceiling on running sequences.
        max_num_batched_tokens: Ceiling on tokens per step.
        kv_blocks: Blocks of KV cache.
        block_size: Tokens per block.
        max_model_len: Longest prompt and output together.
        asynchronous: vLLM's asynchronous scheduling: the next step is scheduled while one runs.
        prefix_caching: vLLM's prefix cache.
        priority: vLLM's priority scheduling policy instead of first come, first served.
    """

    max_num_seqs: int
    max_num_batched_tokens: int
    kv_blocks: int
    block_size: int = 16
    max_model_len: int = 131_072
    asynchronous: bool = True
    prefix_caching: bool = True
    priority: bool = False


class SchedulerEngine:
    """A scheduler ready to be stepped.

    Attributes:
        scheduler: The vLLM scheduler.
        settings: What it was started with.
    """

    def __init__(self, settings: EngineSettings, *, scheduler_class: Callable[[type], type] | None = None) -> None:
        """Build the scheduler as EngineCore would.

        Args:
            settings: Start-up settings.
            scheduler_class: Makes the class to run from vLLM's (the plug-in's class factory); None runs vLLM's own.
        """
        self.settings = settings
        config = _vllm_config(settings)
        base = AsyncScheduler if settings.asynchronous else Scheduler
        chosen = scheduler_class(base) if scheduler_class else base
        spec = FullAttentionSpec(block_size=settings.block_size, num_kv_heads=1, head_size=64, dtype=torch.float16)
        self.scheduler = chosen(
            vllm_config=config,
            kv_cache_config=KVCacheConfig(settings.kv_blocks, [], [KVCacheGroupSpec(["layer"], spec)]),
            structured_output_manager=StructuredOutputManager(config),
            block_size=settings.block_size,
            log_stats=False,
        )
        init_none_hash(sha256)
        self._hasher = get_request_block_hasher(settings.block_size, sha256) if settings.prefix_caching else None

    def abort(self, name: str) -> None:
        """A client went away."""
        self.scheduler.finish_requests(name, RequestStatus.FINISHED_ABORTED)

    def request(self, name: str, index: int, arrival: Arrival, *, now: float) -> Request:
        """A vLLM request for an arrival.

        Its `max_tokens` is all the room the model has: an engine that could read the true output length from it would know more
        than a real one does.
        """
        tokens: list[int] = []
        for token, count in arrival.content or ((_OWN_CONTENT + index, arrival.prompt_tokens),):
            tokens += [token] * count
        arguments = {"llmserving_class": arrival.request_class} if arrival.request_class else None
        parameters = SamplingParams(
            max_tokens=self.settings.max_model_len - len(tokens),
            stop_token_ids=[STOP_TOKEN],
            extra_args=arguments,
            detokenize=False,
        )
        return Request(
            request_id=name,
            prompt_token_ids=tokens,
            sampling_params=parameters,
            pooling_params=None,
            arrival_time=now,
            priority=arrival.priority,
            block_hasher=self._hasher,
        )


def _vllm_config(settings: EngineSettings) -> VllmConfig:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "config.json").write_text(
            json.dumps(_MODEL_CONFIG | {"max_position_embeddings": settings.max_model_len})
        )
        model = ModelConfig(
            model=folder, skip_tokenizer_init=True, max_model_len=settings.max_model_len, dtype="float16"
        )
    scheduler = SchedulerConfig(
        max_num_seqs=settings.max_num_seqs,
        max_num_batched_tokens=settings.max_num_batched_tokens,
        max_model_len=settings.max_model_len,
        enable_chunked_prefill=True,
        is_encoder_decoder=False,
        policy="priority" if settings.priority else "fcfs",
    )
    cache = CacheConfig(block_size=settings.block_size, enable_prefix_caching=settings.prefix_caching)
    cache.num_gpu_blocks = settings.kv_blocks
    config = VllmConfig(
        model_config=model, cache_config=cache, scheduler_config=scheduler, device_config=DeviceConfig("cpu")
    )
    # The CPU platform turns these to its own liking; the simulated card has what was asked for.
    config.scheduler_config.async_scheduling = settings.asynchronous
    config.cache_config.block_size = settings.block_size
    config.cache_config.enable_prefix_caching = settings.prefix_caching
    return config


_MODEL_CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_attention_heads": 1,
    "num_hidden_layers": 1,
    "num_key_value_heads": 1,
    "vocab_size": 256,
}
"""The smallest model that vLLM takes; its sizes matter nowhere, time and memory come from the device model."""
