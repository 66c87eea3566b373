"""Process 1 of the agent's container: starts the loop and starts it again whenever it ends.

A pod is not Ready while a native sidecar is not running, so a loop that crashes must not take the engine out of
service. This process therefore does next to nothing: no libraries, no threads, no I/O but its own log lines.
"""

import json
import os
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass

FIRST_DELAY_SECONDS = 0.5
LONGEST_DELAY_SECONDS = 30.0
STEADY_SECONDS = 60.0
"""A loop that ran this long was healthy: the next delay is the first again."""
GRACE_SECONDS = 10.0
FORWARDED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


@dataclass(slots=True)
class _Child:
    pid: int | None = None
    started: float = 0.0
    delay: float = FIRST_DELAY_SECONDS
    start_due: float = 0.0


def supervise(
    command: Sequence[str],
    first_delay_seconds: float = FIRST_DELAY_SECONDS,
    longest_delay_seconds: float = LONGEST_DELAY_SECONDS,
    grace_seconds: float = GRACE_SECONDS,
) -> int:
    """Keep ``command`` running until told to stop; returns the exit status for this process.

    SIGTERM and SIGINT are passed on and end the supervision; SIGHUP is passed on. A child that does not end within the
    grace is killed. Orphans that land at process 1 are reaped. Signals are taken one by one, never in a handler.
    """
    taken = {*FORWARDED, signal.SIGCHLD}
    signal.pthread_sigmask(signal.SIG_BLOCK, taken)
    child = _Child(delay=first_delay_seconds)
    kill_due: float | None = None
    while True:
        now = time.monotonic()
        if child.pid is None:
            if kill_due is not None:
                return 0
            if now >= child.start_due:
                _start(child, command, now, longest_delay_seconds)
        elif kill_due is not None and now >= kill_due:
            os.kill(child.pid, signal.SIGKILL)
            kill_due = now + grace_seconds
        wake = kill_due if kill_due is not None else child.start_due if child.pid is None else now + 3600
        info = signal.sigtimedwait(taken, max(0.0, wake - now))
        if info is None:
            continue
        if info.si_signo == signal.SIGCHLD:
            status = _reap(child.pid)
            if status is None:
                continue
            ran = time.monotonic() - child.started
            if ran >= STEADY_SECONDS:
                child.delay = first_delay_seconds
            _say("loop ended", pid=child.pid, status=status, ran_seconds=round(ran, 1), restart_in_seconds=child.delay)
            _back_off(child, longest_delay_seconds)
            continue
        if child.pid is not None:
            os.kill(child.pid, info.si_signo)
        if info.si_signo != signal.SIGHUP and kill_due is None:
            kill_due = time.monotonic() + grace_seconds


def _start(child: _Child, command: Sequence[str], now: float, longest_delay_seconds: float) -> None:
    try:
        child.pid = os.posix_spawn(command[0], list(command), os.environ, setsigmask=[])
    except OSError as error:
        _say("loop cannot be started", error=str(error), restart_in_seconds=child.delay)
        _back_off(child, longest_delay_seconds)
        return
    child.started = now
    _say("loop started", pid=child.pid)


def _back_off(child: _Child, longest_delay_seconds: float) -> None:
    child.pid, child.start_due = None, time.monotonic() + child.delay
    child.delay = min(longest_delay_seconds, child.delay * 2)


def _reap(wanted: int | None) -> int | None:
    """Collect every ended child; the exit status of the wanted one (128 + signal when killed), if it ended."""
    found = None
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return found
        if pid == 0:
            return found
        if pid == wanted:
            code = os.waitstatus_to_exitcode(status)
            found = code if code >= 0 else 128 - code


def _say(event: str, **fields: object) -> None:
    stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    print(
        json.dumps({"event": event, "level": "info", "timestamp": stamp, **fields}),
        file=sys.stderr,
        flush=True,
    )
