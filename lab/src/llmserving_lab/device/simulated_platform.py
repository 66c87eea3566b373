"""vLLM platform of the simulated device: the CPU platform, with scheduling and block size as on a GPU."""

from __future__ import annotations

from typing import Any

from vllm.platforms.cpu import CpuPlatform

GPU_BLOCK_SIZE = 16


class SimulatedPlatform(CpuPlatform):
    """The CPU platform turns asynchronous scheduling off and takes blocks of 128 tokens; this one keeps both."""

    @classmethod
    def check_and_update_config(cls, vllm_config: Any) -> None:
        """Let the CPU platform set up the process, then restore what it overrode."""
        scheduler = vllm_config.scheduler_config
        cache = vllm_config.cache_config
        asynchronous, chosen = scheduler.async_scheduling, cache.user_specified_block_size
        super().check_and_update_config(vllm_config)
        scheduler.async_scheduling = True if asynchronous is None else asynchronous
        if not chosen:
            cache.block_size = GPU_BLOCK_SIZE
