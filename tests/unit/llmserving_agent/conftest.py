"""Windows and settings for laws and guards, with everything a test does not name at a plain value."""

import random
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import strategies as st

from llmserving_agent.laws.protocol import GPUMemory, Setting, Window
from llmserving_agent.signals.epoch import EpochSums, Steps
from llmserving_agent.signals.lengths import Lengths
from llmserving_api.control import Bounds
from llmserving_api.latency import bucket_of
from llmserving_api.policy import Limits, Target


def make_bounds(seqs: int = 64, tokens: int = 1024) -> Bounds:
    return Bounds(max_num_seqs=seqs, max_num_batched_tokens=tokens)


def make_epoch(**changes: Any) -> EpochSums:
    fields: dict[str, Any] = {
        "span_seconds": 5.0,
        "steps": 100,
        "decode": Steps(),
        "mixed": Steps(),
        "full": Steps(),
        "gaps": {},
        "first_tokens": {},
        "preempted": 0,
        "seqs_binding": 1.0,
        "tokens_binding": 1.0,
    }
    return EpochSums(**{**fields, **changes})


def make_window(**changes: Any) -> Window:
    fields: dict[str, Any] = {
        "bounds": make_bounds(),
        "age_seconds": 0.05,
        "epoch": make_epoch(),
        "running": 64,
        "decoding": 60,
        "waiting": 5,
        "overdue_waiting": 0,
        "kv_blocks_used": 1000,
        "kv_blocks_total": 30000,
        "block_size": 16,
        "draining": False,
        "lengths": Lengths(),
    }
    return Window(**{**fields, **changes})


def make_setting(**changes: Any) -> Setting:
    fields: dict[str, Any] = {
        "ttft": Target(percentile=95, target_seconds=2.0),
        "itl": Target(percentile=95, target_seconds=0.05),
        "e2e": None,
        "max_num_seqs": Limits(min=8, max=512),
        "max_num_batched_tokens": Limits(min=256, max=8192),
        "stock": make_bounds(256, 8192),
        "graph_sizes": (),
    }
    return Setting(**{**fields, **changes})


@pytest.fixture
def bounds() -> Callable[..., Bounds]:
    return make_bounds


@pytest.fixture
def epoch() -> Callable[..., EpochSums]:
    return make_epoch


@pytest.fixture
def window() -> Callable[..., Window]:
    return make_window


@pytest.fixture
def setting() -> Callable[..., Setting]:
    return make_setting


# What an engine may report, plausible or not. Drawn from a seed: a window has too many parts to draw each on its own.


def _some_steps(source: random.Random) -> Steps:
    return Steps(
        count=source.choice((0, 3, 20, 400)),
        seconds=10 ** source.uniform(-4, 1),
        decodes=source.uniform(0, 2000),
        tokens=source.uniform(0, 40000),
    )


def _some_counts(source: random.Random) -> dict[int, int]:
    return {source.randrange(412): source.randint(1, 1000) for _ in range(source.randrange(6))}


def _some_limits(source: random.Random, most: int) -> Limits:
    low = source.randint(1, most)
    return Limits(min=low, max=source.randint(low, most))


def _some_target(source: random.Random) -> Target | None:
    if source.random() < 0.3:
        return None
    return Target(percentile=source.randint(50, 99), target_seconds=10 ** source.uniform(-3, 2))


def _some_bounds(source: random.Random) -> Bounds:
    return make_bounds(source.randint(1, 2048), source.randint(1, 32768))


def _some_lengths(source: random.Random) -> Lengths:
    samples = tuple((source.randint(1, 8000), source.randint(1, 2000)) for _ in range(source.choice((0, 1, 5, 100))))
    if not samples:
        return Lengths()
    return Lengths(
        finished=len(samples),
        mean=source.uniform(1, 10000),
        sd=source.uniform(0, 10000),
        resident_mean=source.uniform(1, 10000),
        samples=samples,
    )


def some_setting(seed: int) -> Setting:
    source = random.Random(seed)
    return Setting(
        ttft=_some_target(source),
        itl=_some_target(source),
        e2e=_some_target(source),
        max_num_seqs=_some_limits(source, 2048),
        max_num_batched_tokens=_some_limits(source, 32768),
        stock=_some_bounds(source),
        graph_sizes=source.choice([(), (1, 2, 4, *range(8, 513, 8))]),
    )


def some_window(seed: int) -> Window:
    source = random.Random(seed)
    epoch = make_epoch(
        span_seconds=source.uniform(0, 10),
        steps=source.randrange(500),
        decode=_some_steps(source),
        mixed=_some_steps(source),
        full=_some_steps(source),
        gaps=_some_counts(source),
        first_tokens=_some_counts(source),
        preempted=source.randrange(3),
        seqs_binding=source.random(),
        tokens_binding=source.random(),
    )
    return make_window(
        bounds=_some_bounds(source),
        age_seconds=source.choice([None, 0.01, 1.0, 60.0]),
        epoch=epoch,
        running=source.randrange(2048),
        decoding=source.randrange(2048),
        waiting=source.choice([0, 1, 10000]),
        overdue_waiting=source.randrange(3),
        kv_blocks_used=source.randrange(30001),
        draining=source.random() < 0.3,
        lengths=_some_lengths(source),
        idle_step_seconds=source.choice([None, 0.001, 0.5]),
        seconds_per_decode=source.choice([None, 0.0, 0.001]),
        gpu=source.choice([None, GPUMemory("GPU-1", 1 << 20, 1 << 36), GPUMemory("GPU-1", 1 << 34, 1 << 36)]),
    )


@pytest.fixture
def any_window() -> st.SearchStrategy[Window]:
    return st.integers(0, 2**32).map(some_window)


@pytest.fixture
def any_setting() -> st.SearchStrategy[Setting]:
    return st.integers(0, 2**32).map(some_setting)


def gaps_of(seconds: float, count: int = 1000) -> dict[int, int]:
    return {bucket_of(seconds): count}


@pytest.fixture
def gaps() -> Callable[..., dict[int, int]]:
    return gaps_of
