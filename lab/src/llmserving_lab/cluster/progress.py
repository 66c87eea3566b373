"""Long steps say what they do and how long they have been at it."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Iterator

INTERVAL_SECONDS = 15.0
"""How often a step that is still running says so."""


def say(message: str) -> None:
    """One line of progress, on standard error so that standard output stays for results."""
    print(message, file=sys.stderr, flush=True)


@contextlib.contextmanager
def step(title: str) -> Iterator[None]:
    """Announce a step, repeat its elapsed time while it runs, and say how long it took.

    The step's failure is left to the exception that ends it.
    """
    started = time.monotonic()
    done = threading.Event()

    def remind() -> None:
        while not done.wait(INTERVAL_SECONDS):
            say(f"  {title}: {time.monotonic() - started:.0f} s")

    say(f"{title} ...")
    reminder = threading.Thread(target=remind, daemon=True, name="progress")
    reminder.start()
    try:
        yield
    finally:
        done.set()
        reminder.join()
    say(f"{title}: done in {time.monotonic() - started:.1f} s")
