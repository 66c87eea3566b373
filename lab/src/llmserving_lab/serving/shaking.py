"""Changing an engine's bounds at random while it serves: small and large, often, with running requests shed now and then."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

Call = Callable[[str, str, dict[str, Any]], dict[str, Any]]
"""A call of the plug-in's control API: method, target, body."""

SHED_SHARE = 0.3
LONGEST_PAUSE_SECONDS = 0.03


@dataclass(slots=True)
class Shaken:
    """What was done: changes made, and how many of them asked to preempt running requests."""

    changes: int = 0
    sheds: int = 0
    errors: list[str] = field(default_factory=list)


@contextmanager
def shake_bounds(call: Call, *, max_num_seqs: int, max_num_batched_tokens: int, seed: int = 5) -> Iterator[Shaken]:
    """Change bounds at random up to the given ceilings, in a thread, until the block ends.

    Args:
        call: Calls the engine, such as `VLLMServer.call`.
        max_num_seqs: The engine's ceiling.
        max_num_batched_tokens: The engine's ceiling.
        seed: Seed of the changes.

    Raises:
        RuntimeError: the engine refused a change.
    """
    shaken, stop = Shaken(), threading.Event()
    chance = random.Random(seed)
    budgets = sorted({max(1, max_num_batched_tokens // part) for part in (512, 73, 16, 8, 2, 1)})

    def shake() -> None:
        while not stop.wait(chance.uniform(0, LONGEST_PAUSE_SECONDS)):
            cap = chance.randint(1, max_num_seqs)
            shed = {"shed_to": cap} if chance.random() < SHED_SHARE else {}
            body: dict[str, Any] = {"max_num_seqs": cap, "max_num_batched_tokens": chance.choice(budgets), **shed}
            try:
                call("PATCH", "/v1/runtime_config", {"operation_id": shaken.changes + 1, **body})
            except RuntimeError as error:
                shaken.errors.append(str(error))
                return
            shaken.changes += 1
            shaken.sheds += bool(shed)

    thread = threading.Thread(target=shake, daemon=True, name="shaking")
    thread.start()
    try:
        yield shaken
    finally:
        stop.set()
        thread.join()
    if shaken.errors:
        raise RuntimeError(f"the engine refused a change: {shaken.errors[0]}")
