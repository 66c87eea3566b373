"""vLLM platform of the simulated device: the CPU platform, with scheduling, block size and batch defaults as on the card."""

from __future__ import annotations

from typing import Any

from vllm.platforms.cpu import CpuPlatform

from llmserving_lab.device.model import DeviceModel

GPU_BLOCK_SIZE = 16


class SimulatedPlatform(CpuPlatform):
    """The CPU platform turns asynchronous scheduling off and takes blocks of 128 tokens; this one keeps both.

    Attributes:
        card: The device to pass for while vLLM looks up its defaults for a card; None at all other times, because no
            kernels of a card are there.
    """

    card: DeviceModel | None = None

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

    def is_cpu(self) -> bool:
        """Whether vLLM should take this for a CPU."""
        return self.card is None

    @classmethod
    def get_device_name(cls, device_id: int = 0) -> str:
        """The card's name while it is passed for."""
        return cls.card.card if cls.card is not None else str(super().get_device_name(device_id))

    @classmethod
    def get_device_total_memory(cls, device_id: int = 0) -> int:
        """The card's memory while it is passed for."""
        if cls.card is None or cls.card.memory is None:
            return int(super().get_device_total_memory(device_id))
        return cls.card.memory.card_bytes
