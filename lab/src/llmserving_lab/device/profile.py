"""Measured device profiles: a folder with dense.csv, attention.csv, per_sequence.csv and meta.yaml.

The format is that of the LLMServingSim 2.0 profiler. meta.yaml must name `gpu` and `model`; it may add what the profiler leaves
out: `num_hidden_layers`, `tensor_parallel_size`, `memory_gib`, `shape` (the fields of `ModelShape`).
"""

from __future__ import annotations

import csv
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from llmserving_lab.device.kernels import AttentionTable, ProfileKernels
from llmserving_lab.device.memory import GIB, Memory, ModelShape, known_card_bytes, known_shape
from llmserving_lab.device.tables import Curve, Grid

_ONCE = frozenset({"embedding", "final_layernorm"})
"""Dense layers outside the transformer blocks; everything else runs in every block."""

_PER_BLOCK = {"layernorm": 2}
"""How often a dense layer runs in a block, where that is not once: before attention and before the MLP."""


class ProfileError(ValueError):
    """A profile or coefficient file is not as it should be."""


@dataclass(frozen=True, slots=True)
class Profile:
    """A checked profile folder.

    Attributes:
        name: The folder's name.
        card: The card's name from the metadata.
        model: The model's name from the metadata.
        cards: Tensor-parallel size of the measured kernels.
        kernels: Kernel times.
        memory: Card and model memory, or None where not known.
        hidden_bytes: Bytes of a token's hidden state; 0 where not known.
        caveats: What is missing, one sentence each.
    """

    name: str
    card: str
    model: str
    cards: int
    kernels: ProfileKernels
    memory: Memory | None
    hidden_bytes: int
    caveats: tuple[str, ...]


def load_profile(folder: Path, *, layers: int | None = None) -> Profile:
    """Load and check a profile folder.

    Args:
        folder: Folder with the four files.
        layers: Transformer blocks of the model, over what the metadata says.

    Raises:
        ProfileError: with the file, the row and what would be right.
    """
    if not folder.is_dir():
        raise ProfileError(
            f"{folder}: no such profile folder; it should hold dense.csv, attention.csv, per_sequence.csv, meta.yaml"
        )
    meta = _meta(folder / "meta.yaml")
    model = str(meta.get("model", ""))
    card = str(meta.get("gpu") or meta.get("hardware") or "")
    shape = _shape(folder / "meta.yaml", meta, model)
    told = _positive(folder / "meta.yaml", meta, "num_hidden_layers")
    blocks = layers or (int(told) if told else None) or (shape.layers if shape else None)
    if blocks is None:
        raise ProfileError(
            f"{folder / 'meta.yaml'}: num_hidden_layers is missing and model {model!r} is not known; add "
            "`num_hidden_layers: N` (the model's transformer blocks) or give --layers N"
        )
    cards = int(_positive(folder / "meta.yaml", meta.get("engine_effective") or {}, "tensor_parallel_size") or 1)
    cards = int(_positive(folder / "meta.yaml", meta, "tensor_parallel_size") or cards)
    attention = _attention(folder / "attention.csv")
    block, once = _dense(folder / "dense.csv")
    kernels = ProfileKernels(block, once, _head(folder / "per_sequence.csv"), attention, blocks)
    memory_gib = _positive(folder / "meta.yaml", meta, "memory_gib")
    card_bytes = int(memory_gib * GIB) if memory_gib else known_card_bytes(card)
    memory = Memory(card_bytes, shape, cards) if card_bytes and shape else None
    caveats = []
    if attention.mixed is None:
        caveats.append(
            "The profile has no rows with prefill and decode in one step: mixed steps are added up and come out too fast."
        )
    return Profile(
        name=folder.resolve().name,
        card=card,
        model=model,
        cards=cards,
        kernels=kernels,
        memory=memory,
        hidden_bytes=shape.hidden_bytes if shape else 0,
        caveats=tuple(caveats),
    )


def _meta(path: Path) -> dict[str, Any]:
    try:
        meta = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ProfileError(f"{path}: missing; it should say at least `gpu:` and `model:`") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ProfileError(f"{path}: not YAML: {str(error).splitlines()[0]}") from None
    if not isinstance(meta, dict):
        raise ProfileError(f"{path}: should be a mapping with at least `gpu:` and `model:`")
    return meta


def _shape(path: Path, meta: dict[str, Any], model: str) -> ModelShape | None:
    if "shape" not in meta:
        return known_shape(model)
    fields = ModelShape.__dataclass_fields__
    given = meta["shape"]
    try:
        numbers: dict[str, Any] = {
            key: float(value) if key == "parameters" else int(value) for key, value in given.items()
        }
        return ModelShape(**numbers)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ProfileError(f"{path}: shape: {error}; its fields are numbers: {', '.join(fields)}") from None


def _positive(path: Path, meta: dict[str, Any], name: str) -> float | None:
    """A number above zero from the metadata, or None where it is absent."""
    if name not in meta:
        return None
    try:
        value = float(meta[name])
    except (TypeError, ValueError):
        value = 0.0
    if not value > 0:
        raise ProfileError(f"{path}: {name} is {meta[name]!r}; it should be a number above zero")
    return value


def _rows(path: Path, columns: tuple[str, ...]) -> Iterator[tuple[int, dict[str, str]]]:
    """Rows of a CSV with their line numbers, after a check that the columns are there."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            missing = [column for column in columns if column not in (reader.fieldnames or ())]
            if missing:
                raise ProfileError(
                    f"{path}: row 1: column {missing[0]!r} is missing; the header should be {','.join(columns)}"
                )
            yield from enumerate(reader, start=2)
    except FileNotFoundError:
        raise ProfileError(f"{path}: missing; it should have the columns {','.join(columns)}") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise ProfileError(f"{path}: not a CSV file: {error}") from None


def _number(path: Path, line: int, row: dict[str, str], column: str) -> float:
    try:
        value = float(row[column])
    except (TypeError, ValueError):
        raise ProfileError(f"{path}: row {line}: {column} is {row[column]!r}; it should be a number") from None
    if not 0 <= value < float("inf"):
        raise ProfileError(f"{path}: row {line}: {column} is {row[column]}; it should be zero or more")
    return value


def _dense(path: Path) -> tuple[Curve, Curve]:
    block: dict[int, float] = defaultdict(float)
    once: dict[int, float] = defaultdict(float)
    seen: Counter[int] = Counter()
    for line, row in _rows(path, ("layer", "tokens", "time_us")):
        tokens = int(_number(path, line, row, "tokens"))
        time = _number(path, line, row, "time_us")
        seen[tokens] += 1
        if row["layer"] in _ONCE:
            once[tokens] += time
        else:
            block[tokens] += time * _PER_BLOCK.get(row["layer"], 1)
    if len(block) < 2:
        raise ProfileError(
            f"{path}: has fewer than two token counts; it should cover the steps to be simulated (1 to 2048, say)"
        )
    layers = max(seen.values())
    for tokens, count in seen.items():
        if count != layers:
            raise ProfileError(
                f"{path}: {count} layers at {tokens} tokens and {layers} elsewhere; every layer needs the same token counts"
            )
    return Curve.of(block, padded=True), Curve.of(once or {1: 0.0}, padded=True)


def _head(path: Path) -> Curve:
    points: dict[int, float] = defaultdict(float)
    for line, row in _rows(path, ("layer", "sequences", "time_us")):
        points[int(_number(path, line, row, "sequences"))] += _number(path, line, row, "time_us")
    if not points:
        raise ProfileError(f"{path}: has no rows; it should hold lm_head and sampler times by number of sequences")
    return Curve.of(points)


def _attention(path: Path) -> AttentionTable:
    columns = ("prefill_chunk", "kv_prefill", "n_decode", "kv_decode", "time_us")
    prefill: list[tuple[tuple[float, ...], float]] = []
    decode: list[tuple[tuple[float, ...], float]] = []
    mixed: list[tuple[tuple[float, ...], float]] = []
    for line, row in _rows(path, columns):
        chunk, cached, decodes, context, time = (_number(path, line, row, column) for column in columns)
        if chunk and decodes:
            mixed.append(((chunk, decodes, cached, context), time))
        elif chunk:
            prefill.append(((chunk, cached), time))
        elif decodes:
            decode.append(((decodes, context), time))
        else:
            raise ProfileError(
                f"{path}: row {line}: prefill_chunk and n_decode are both 0; one of them should be positive"
            )
    for rows, kind in ((prefill, "prefill only (n_decode 0)"), (decode, "decode only (prefill_chunk 0)")):
        if not rows:
            raise ProfileError(f"{path}: has no rows with {kind}; it needs some")
    return AttentionTable(
        prefill=Grid.of(prefill),
        decode=Grid.of(decode),
        mixed=Grid.of(mixed) if mixed else None,
        largest_chunk=int(max(key[0] for key, _ in prefill)),
        largest_cached=int(max(key[1] for key, _ in prefill)),
        largest_context=int(max(key[1] for key, _ in decode)),
        largest_decodes=(
            int(max(key[0] for key, _ in decode)),
            int(max((key[1] for key, _ in mixed), default=0)),
        ),
    )
