"""Device models from a few coefficients: small files shipped with the project, so that it runs without any measured profile.

A file holds times in microseconds, for the whole model on one card:

* `dense`: pairs `[tokens, time]`, interpolated and extrapolated as measured points are;
* `sequence`: time per sampled sequence;
* `prefill`: `pair`, per query-key pair of prefill chunks (tokens x (cached + half the chunk)), and `cached`, per cached token
  that a chunk reads;
* `decode`: `fixed` per step that has decodes, `sequence` per decode, `context` per token of decode context;
* `mixed`: the same three, in place of `decode`, for steps that also prefill.

For people it says `source`, where the figures come from, `error`, how far it is known to be off, and `caveats`, which every result repeats.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from llmserving_lab.device.batch import StepBatch
from llmserving_lab.device.memory import Memory, ModelShape, known_card_bytes, known_shape
from llmserving_lab.device.profile import ProfileError
from llmserving_lab.device.tables import Curve


@dataclass(frozen=True, slots=True)
class DecodeCoefficients:
    """Attention time of the decodes of a step: `fixed + sequence x decodes + context x tokens of context`."""

    fixed: float
    sequence: float
    context: float

    def microseconds(self, batch: StepBatch) -> float:
        """Time for the decodes of this step."""
        return max(0.0, self.fixed + self.sequence * batch.decodes + self.context * batch.decode_context_sum)


@dataclass(frozen=True, slots=True)
class CoefficientKernels:
    """Kernel times from coefficients; see the module's text for their meaning."""

    dense: Curve
    sequence: float
    prefill_pair: float
    prefill_cached: float
    decode: DecodeCoefficients
    mixed: DecodeCoefficients

    def microseconds(self, batch: StepBatch, *, dense_tokens: int) -> tuple[float, bool]:
        """See `llmserving_lab.device.kernels.Kernels`."""
        time = self.dense.at(dense_tokens) + self.sequence * batch.sampled
        for tokens, cached in batch.prefill:
            time += self.prefill_pair * tokens * (cached + tokens / 2) + self.prefill_cached * cached
        if batch.decodes:
            time += (self.mixed if batch.prefill else self.decode).microseconds(batch)
        return time, dense_tokens > self.dense.largest


@dataclass(frozen=True, slots=True)
class Fitted:
    """A coefficient file, checked."""

    name: str
    card: str
    model: str
    source: str
    kernels: CoefficientKernels
    memory: Memory | None
    layers: int
    hidden_bytes: int
    caveats: tuple[str, ...]


def shipped_devices() -> tuple[str, ...]:
    """Names of the shipped coefficient files."""
    folder = files("llmserving_lab.device") / "fitted"
    return tuple(sorted(entry.name.removesuffix(".json") for entry in folder.iterdir() if entry.name.endswith(".json")))


def is_shipped_device(name: str) -> bool:
    """Whether `name` is one of `shipped_devices()`."""
    return name in shipped_devices()


def load_coefficients(source: str | Path) -> Fitted:
    """Load a shipped file by name, or any file by path.

    Raises:
        ProfileError: no such file, or a field is missing or wrong.
    """
    if is_shipped_device(str(source)):
        entry = files("llmserving_lab.device") / "fitted" / f"{source}.json"
        text, where = entry.read_text(encoding="utf-8"), f"{source}.json"
    else:
        path = Path(source)
        where = str(path)
        try:
            text = path.read_text(encoding="utf-8")
        except OSError:
            names = ", ".join(shipped_devices())
            raise ProfileError(f"{where}: no such coefficient file; shipped ones are {names}") from None
    try:
        return _fitted(Path(where).stem, json.loads(text))
    except json.JSONDecodeError as error:
        raise ProfileError(f"{where}: line {error.lineno}: not JSON: {error.msg}") from None
    except KeyError as error:
        raise ProfileError(f"{where}: field {error.args[0]!r} is missing") from None
    except (TypeError, ValueError) as error:
        raise ProfileError(f"{where}: {error}") from None


def _fitted(name: str, data: dict[str, Any]) -> Fitted:
    card, model = str(data["card"]), str(data["model"])
    shape = ModelShape(**data["shape"]) if "shape" in data else known_shape(model)
    points = {int(tokens): float(time) for tokens, time in data["dense"]}
    if len(points) < 2:
        raise ValueError("dense: needs at least two [tokens, time] pairs")
    kernels = CoefficientKernels(
        dense=Curve.of(points, padded=True),
        sequence=float(data["sequence"]),
        prefill_pair=float(data["prefill"]["pair"]),
        prefill_cached=float(data["prefill"]["cached"]),
        decode=DecodeCoefficients(**data["decode"]),
        mixed=DecodeCoefficients(**data["mixed"]),
    )
    card_bytes = known_card_bytes(card)
    return Fitted(
        name=name,
        card=card,
        model=model,
        source=str(data["source"]),
        kernels=kernels,
        memory=Memory(card_bytes, shape) if card_bytes and shape else None,
        layers=shape.layers if shape else 0,
        hidden_bytes=shape.hidden_bytes if shape else 0,
        caveats=tuple(data.get("caveats", ())),
    )
