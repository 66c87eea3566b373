"""The machine of a run: the device that a plan describes, and what stock vLLM chooses at its start on such a card."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache

from vllm.engine import arg_utils
from vllm.usage.usage_lib import UsageContext

from llmserving_lab.bench.plan import DevicePlan
from llmserving_lab.bench.policies import Ceilings
from llmserving_lab.device.disturbance import HARDER, Together
from llmserving_lab.device.memory import capture_sizes
from llmserving_lab.device.model import DeviceModel, Links, load_device

BLOCK_SIZE = 16

_EAGER_SECONDS = 1.5e-3
"""Launch time of a step outside a captured graph on the harder device."""


@lru_cache(maxsize=4)
def _device_as_measured(source: str, asynchronous: bool, layers: int | None) -> DeviceModel:
    return load_device(source, asynchronous=asynchronous, layers=layers)


def make_device(plan: DevicePlan, *, asynchronous: bool, seed: int) -> DeviceModel:
    """The device of a plan, with what makes it harder."""
    device = _device_as_measured(plan.source, asynchronous, plan.layers)
    if plan.links is not None:
        links = Links(plan.links.latency_seconds, plan.links.bandwidth_bytes_per_second)
        kept = tuple(caveat for caveat in device.caveats if "communication" not in caveat)
        device = replace(device, links=links, caveats=kept)
    names = [name for name in plan.harder if name != "graphs"]
    unknown = [name for name in names if name not in HARDER]
    if unknown:
        raise ValueError(f"harder device {unknown[0]!r} is not known; known are {', '.join([*HARDER, 'graphs'])}")
    if names:
        device = replace(device, disturbance=Together(tuple(HARDER[name](seed) for name in names)))
    if "graphs" in plan.harder:
        device = replace(device, graph_sizes=capture_sizes(512), eager_seconds=_EAGER_SECONDS)
    return device


def stock_ceilings(device: DeviceModel) -> Ceilings:
    """What stock vLLM's own `get_batch_defaults` gives an API server on this card."""
    with as_card(device):
        tokens, sequences = arg_utils.EngineArgs.get_batch_defaults(device.cards)
    server = UsageContext.OPENAI_API_SERVER
    return Ceilings(min(sequences[server], tokens[server]), tokens[server])


@contextmanager
def as_card(device: DeviceModel) -> Iterator[None]:
    """While it lasts, vLLM's start-up defaults are those for the device's card, not for this machine."""
    platform = arg_utils.current_platform
    arg_utils.current_platform = _Card(device.card, device.memory.card_bytes if device.memory else 0)
    try:
        yield
    finally:
        arg_utils.current_platform = platform


@dataclass(frozen=True, slots=True)
class _Card:
    """The part of vLLM's platform that its start-up defaults look at."""

    name: str
    memory_bytes: int

    def get_device_total_memory(self) -> int:
        return self.memory_bytes

    def get_device_name(self) -> str:
        return self.name

    def is_tpu(self) -> bool:
        return False

    def is_cpu(self) -> bool:
        return False
