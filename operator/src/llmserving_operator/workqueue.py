"""A keyed work queue: every key once, never twice at a time, failures retried with growing patience."""

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True, slots=True)
class Backoff:
    """Delay before a retry: doubles from ``first`` to ``longest`` seconds, times a random factor."""

    first: float = 0.2
    longest: float = 60.0

    def delay(self, failures: int, jitter: float) -> float:
        """Seconds before the next try after so many failures in a row; ``jitter`` in [0, 1) spreads it by a half."""
        return float(min(self.longest, self.first * 2 ** min(failures - 1, 30)) * (1 + jitter / 2))


class WorkQueue(Generic[Key]):
    """Calls ``work`` for keys that were added.

    A key added several times before its turn is worked on once. A key added while it is being worked on is worked on
    again afterwards. ``work`` returns the seconds after which it wants to look again, or None; when it raises, the key
    comes back after a backoff. Time is the event loop's.

    Args:
        work: what to do for a key.
        workers: how many keys may be worked on at a time.
        backoff: patience after failures.
        jitter: random numbers in [0, 1).
        on_error: told of every failure.
    """

    def __init__(
        self,
        work: Callable[[Key], Awaitable[float | None]],
        *,
        workers: int,
        backoff: Backoff,
        jitter: Callable[[], float],
        on_error: Callable[[Key, Exception, float], None],
    ) -> None:
        self._work = work
        self._workers = workers
        self._backoff = backoff
        self._jitter = jitter
        self._on_error = on_error
        self._due: asyncio.Queue[Key] = asyncio.Queue()
        self._waiting: set[Key] = set()
        self._busy: set[Key] = set()
        self._again: set[Key] = set()
        self._failures: dict[Key, int] = {}
        self._timers: dict[Key, asyncio.TimerHandle] = {}

    def add(self, key: Key) -> None:
        """Work on a key as soon as possible."""
        timer = self._timers.pop(key, None)
        if timer is not None:
            timer.cancel()
        if key in self._busy:
            self._again.add(key)
        elif key not in self._waiting:
            self._waiting.add(key)
            self._due.put_nowait(key)

    def add_after(self, key: Key, seconds: float) -> None:
        """Work on a key after some time, or earlier when it is added meanwhile; the earliest of several times holds."""
        loop = asyncio.get_running_loop()
        timer = self._timers.get(key)
        if timer is not None and timer.when() <= loop.time() + seconds:
            return
        if timer is not None:
            timer.cancel()
        self._timers[key] = loop.call_later(seconds, self.add, key)

    async def run(self) -> None:
        """Work until cancelled."""
        async with asyncio.TaskGroup() as group:
            for _ in range(self._workers):
                group.create_task(self._worker())

    async def _worker(self) -> None:
        while True:
            key = await self._due.get()
            self._waiting.discard(key)
            self._busy.add(key)
            try:
                delay = await self._work(key)
            except Exception as error:  # one bad key must not stop the others; told and retried
                failures = self._failures[key] = self._failures.get(key, 0) + 1
                delay = self._backoff.delay(failures, self._jitter())
                self._on_error(key, error, delay)
            else:
                self._failures.pop(key, None)
            finally:
                self._busy.discard(key)
            if key in self._again:
                self._again.discard(key)
                self.add(key)
            elif delay is not None:
                self.add_after(key, delay)
