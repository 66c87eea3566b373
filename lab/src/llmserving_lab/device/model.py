"""The device model: seconds per step and tokens of KV cache of one card with one model on it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from llmserving_lab.device.batch import StepBatch, StepCost
from llmserving_lab.device.coefficients import is_shipped_device, load_coefficients, shipped_devices
from llmserving_lab.device.disturbance import Disturbance, NoDisturbance
from llmserving_lab.device.kernels import Kernels
from llmserving_lab.device.memory import Memory
from llmserving_lab.device.overheads import Host, Links
from llmserving_lab.device.profile import ProfileError, load_profile

__all__ = ["DeviceModel", "Host", "Links", "StepBatch", "StepCost", "load_device"]


@dataclass(slots=True)
class DeviceModel:
    """One engine's device: what a step takes and how much KV cache there is.

    Attributes:
        name: What results call it, for example `rtxpro6000-llama-3.1-8b-bf16`.
        card: The card's name as the driver reports it.
        model: The model's name.
        kernels: Kernel times of one card.
        memory: Memory of the card and of the model, or None where neither the profile nor the shipped tables know it.
        host: Host time.
        asynchronous: Whether the scheduler runs one step ahead, so that host and device overlap.
        layers: Transformer blocks.
        hidden_bytes: Bytes of one token's hidden state, for the links.
        cards: Tensor-parallel size.
        links: Links between the cards, or None: then their time is missing in every figure, and `caveats` says so.
        graph_sizes: Captured CUDA-graph sizes, ascending; a decode-only step is padded up to the next. Empty: no graphs.
        eager_seconds: Launch time that a step pays when it runs outside a captured graph.
        disturbance: What makes steps slower than the profile says (noise, throttling, a neighbour on the card).
        caveats: What a reader of results must know, one sentence each.
    """

    name: str
    card: str
    model: str
    kernels: Kernels
    memory: Memory | None
    host: Host = field(default_factory=Host)
    asynchronous: bool = True
    layers: int = 0
    hidden_bytes: int = 0
    cards: int = 1
    links: Links | None = None
    graph_sizes: tuple[int, ...] = ()
    eager_seconds: float = 0.0
    disturbance: Disturbance = field(default_factory=NoDisturbance)
    caveats: tuple[str, ...] = ()

    def step_seconds(self, batch: StepBatch, *, now: float = 0.0) -> StepCost:
        """Cost of one step.

        Args:
            batch: What the step computes. An empty batch costs nothing.
            now: Start of the step in seconds since the run began; throttling and a neighbour depend on it. Call it once per
                step and in order: noise draws its random numbers here.
        """
        tokens = batch.tokens
        if tokens == 0:
            return StepCost(0.0, 0.0, 0.0, extrapolated=False)
        dense_tokens = tokens
        in_graph = False
        if self.graph_sizes and not batch.prefill and tokens <= self.graph_sizes[-1]:
            in_graph = True
            dense_tokens = next(size for size in self.graph_sizes if size >= tokens)
        microseconds, extrapolated = self.kernels.microseconds(batch, dense_tokens=dense_tokens)
        device = microseconds * 1e-6
        if self.links is not None and self.cards > 1:
            device += self.links.seconds(
                tokens=dense_tokens, hidden_bytes=self.hidden_bytes, layers=self.layers, cards=self.cards
            )
        if not in_graph:
            device += self.eager_seconds
        device *= self.disturbance.factor(now)
        host = self.host.seconds(len(batch.prefill) + batch.decodes)
        seconds = max(device, host) if self.asynchronous else device + host
        return StepCost(seconds, device, host, extrapolated)

    def kv_capacity_tokens(self, max_num_seqs: int, max_num_batched_tokens: int) -> int:
        """Tokens of KV cache left when vLLM has set aside memory for these ceilings.

        Raises:
            UnknownMemoryError: neither the profile nor the shipped tables know the card's or the model's memory.
        """
        if self.memory is None:
            raise UnknownMemoryError(self.name, self.card, self.model)
        return self.memory.kv_tokens(max_num_seqs, max_num_batched_tokens)


class UnknownMemoryError(ValueError):
    """The KV capacity cannot be worked out."""

    def __init__(self, name: str, card: str, model: str) -> None:
        super().__init__(
            f"{name}: the memory of card {card!r} or the shape of model {model!r} is not known; give the KV capacity "
            "(--kv-tokens N), or memory_gib and the model's shape in the profile's meta.yaml"
        )


def load_device(source: str | Path, *, asynchronous: bool = True, layers: int | None = None) -> DeviceModel:
    """Load a device model.

    Args:
        source: A profile folder (dense.csv, attention.csv, per_sequence.csv, meta.yaml), a coefficient file (.json), or the
            name of a shipped one (`shipped_devices()` lists them).
        asynchronous: Whether the engine schedules one step ahead.
        layers: Number of transformer blocks, where the folder's meta.yaml does not say and the model is not known.

    Raises:
        ProfileError: the folder or file is not as it should be; the message names file, row and what is wrong.
    """
    path = Path(source)
    if not path.is_dir() and (is_shipped_device(str(source)) or path.suffix == ".json"):
        fitted = load_coefficients(source)
        return DeviceModel(
            name=fitted.name,
            card=fitted.card,
            model=fitted.model,
            kernels=fitted.kernels,
            memory=fitted.memory,
            asynchronous=asynchronous,
            layers=fitted.layers,
            hidden_bytes=fitted.hidden_bytes,
            caveats=fitted.caveats,
        )
    if not path.is_dir():
        raise ProfileError(
            f"{source}: no such profile folder or coefficient file; shipped devices are {', '.join(shipped_devices())}"
        )
    profile = load_profile(path, layers=layers)
    caveats = list(profile.caveats)
    if profile.cards > 1:
        caveats.append(
            f"The profile is of {profile.cards} cards and holds no communication times: without links given, figures leave "
            "them out."
        )
    return DeviceModel(
        name=profile.name,
        card=profile.card,
        model=profile.model,
        kernels=profile.kernels,
        memory=profile.memory,
        asynchronous=asynchronous,
        layers=profile.kernels.layers,
        hidden_bytes=profile.hidden_bytes,
        cards=profile.cards,
        caveats=tuple(caveats),
    )
