"""Entry point of the group `vllm.platform_plugins` for the simulated device; it imports nothing of vLLM."""

from __future__ import annotations

import os


def select() -> str | None:
    """The platform's class where a simulated device is named, else None, so that real CPU runs stay as they are."""
    simulated = os.environ.get("SIMULATED_DEVICE")
    return "llmserving_lab.device.simulated_platform.SimulatedPlatform" if simulated else None
