"""What the stand-in NVML library reports: a small text file that the simulated device writes and the library reads."""

from __future__ import annotations

import hashlib
import uuid
from dataclasses import dataclass
from pathlib import Path

from llmserving_lab.device.model import DeviceModel

STATE_FILE = "simulated-gpu"
"""Name of the file in the pod's control folder, which engine and agent share."""


@dataclass(frozen=True, slots=True)
class DeviceState:
    """Facts of one simulated GPU.

    Attributes:
        name: The card's name as the driver reports it.
        uuid: GPU-…, the same for the same device model.
        total_bytes: Memory of the card.
        used_bytes: Memory in use.
    """

    name: str
    uuid: str
    total_bytes: int
    used_bytes: int

    @classmethod
    def of(cls, device: DeviceModel) -> DeviceState:
        """State of a device under a running engine: vLLM takes its share of the memory at start-up and keeps it."""
        total = device.memory.card_bytes if device.memory is not None else 0
        used = int(total * device.memory.utilisation) if device.memory is not None else 0
        digest = hashlib.md5(device.name.encode(), usedforsecurity=False).digest()
        return cls(device.card, f"GPU-{uuid.UUID(bytes=digest)}", total, used)


def write_state(path: Path, state: DeviceState) -> None:
    """Write the file in one step: a reader never sees half of it."""
    lines = (
        f"name {state.name}",
        f"uuid {state.uuid}",
        f"total_bytes {state.total_bytes}",
        f"used_bytes {state.used_bytes}",
    )
    scratch = path.with_name(path.name + ".new")
    scratch.write_text("\n".join(lines) + "\n")
    scratch.chmod(0o644)
    scratch.rename(path)
