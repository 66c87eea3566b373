"""What stock vLLM would choose on the simulated card, looked up in vLLM's own table.

Apart from the platform, because vLLM's platforms are chosen before its argument parser can be imported.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from vllm.engine.arg_utils import EngineArgs

from llmserving_lab.device.model import DeviceModel
from llmserving_lab.device.simulated_platform import SimulatedPlatform


def take_defaults_of(card: DeviceModel) -> None:
    """Let `EngineArgs.get_batch_defaults` of this process answer what stock vLLM chooses on the card."""
    original = EngineArgs.get_batch_defaults

    def get_batch_defaults(world_size: int) -> Any:
        with _passing_for(card):
            return original(world_size)

    EngineArgs.get_batch_defaults = get_batch_defaults


@contextmanager
def _passing_for(card: DeviceModel) -> Iterator[None]:
    SimulatedPlatform.card = card
    try:
        yield
    finally:
        SimulatedPlatform.card = None
