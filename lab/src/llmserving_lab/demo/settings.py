"""What the demo can be told."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

NAMESPACE = "default"
NAME = "chat"
MODEL = "llama-3.1-8b"
DEVICE = "rtxpro6000-llama-3.1-8b"
"""Shipped device model: Llama 3.1 8B in bfloat16 on one RTX PRO 6000."""


@dataclass(frozen=True, slots=True)
class DemoSettings:
    """One run of the demo.

    Attributes:
        output: Folder for the report, the result and everything recorded.
        trace: CSV of the Azure shape whose arrivals and lengths are replayed; None: the fitted generator.
        rate: Mean arrivals per second over all engines.
        replicas: Engines.
        kubeconfig: A cluster of the user's own; None: an embedded one.
        seed: Seed of the traffic.
    """

    output: Path
    trace: Path | None = None
    rate: float = 10.0
    replicas: int = 2
    kubeconfig: Path | None = None
    seed: int = 1
