"""Runs of the bench end with whoever asked for them, however that ends."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from llmserving_lab.bench.pool import INTERPRETER_VARIABLE

START_SECONDS = 180.0
"""Importing vLLM and building a first scheduler takes up to a minute on a busy machine."""
END_SECONDS = 10.0
RUNS = 2

ASKING = f"""
import sys, time
from llmserving_lab.bench.plan import RunPlan
from llmserving_lab.bench.pool import EnginePool
plan = RunPlan.model_validate({{
    "device": {{"source": "rtxpro6000-llama-3.1-8b"}},
    "policy": "default",
    "targets": [{{"ttft": 2.0, "itl": 0.05}}],
    "load": {{"kind": "conversation", "requests": 20000, "rate": 8.0, "seed": 1}},
}})
with EnginePool({RUNS}) as pool:
    asked = [pool.submit("run", plan) for _ in range({3 * RUNS})]
    for one in asked:
        print("ended:", one.exception(), flush=True)
"""


class Stat(NamedTuple):
    parent: int
    is_alive: bool
    cpu_seconds: float


def stat(pid: int) -> Stat | None:
    """A process as the kernel shows it; None once it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return Stat(int(fields[1]), fields[0] not in "ZX", (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK"))


def children(parent: int) -> list[int]:
    found = ((int(folder.name), stat(int(folder.name))) for folder in Path("/proc").glob("[0-9]*"))
    return [pid for pid, one in found if one is not None and one.parent == parent]


def are_gone(pids: list[int]) -> bool:
    return not any(one.is_alive for one in map(stat, pids) if one is not None)


def within(seconds: float, condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True


class Asking(NamedTuple):
    """A process that waits for runs, the worker it started and the runs under way."""

    process: subprocess.Popen[str]
    worker: int
    runs: list[int]


@pytest.fixture
def asking() -> Iterator[Asking]:
    process = subprocess.Popen(
        [sys.executable, "-c", ASKING],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, INTERPRETER_VARIABLE: sys.executable},
    )
    started: list[int] = []

    def run_at_work() -> list[int]:
        workers = children(process.pid)
        started[:] = [*workers, *(pid for worker in workers for pid in children(worker))]
        return [pid for pid in started[len(workers) :] if (one := stat(pid)) is not None and one.cpu_seconds > 1.0]

    try:
        assert within(START_SECONDS, lambda: len(run_at_work()) == RUNS or process.poll() is not None)
        assert process.poll() is None, "the runs ended before they could be watched"
        yield Asking(process, started[0], run_at_work())
    finally:
        for pid in (process.pid, *started):
            one = stat(pid)
            if one is not None and one.is_alive:
                os.kill(pid, signal.SIGKILL)
        process.wait()


def test_no_run_outlives_a_killed_worker_and_who_asked_is_told(asking: Asking) -> None:
    os.kill(asking.worker, signal.SIGKILL)

    assert within(END_SECONDS, lambda: are_gone(asking.runs))
    output, _ = asking.process.communicate(timeout=END_SECONDS)
    assert output.count("the engine's process ended with code -9") == 3 * RUNS


def test_neither_worker_nor_run_outlives_whoever_asked(asking: Asking) -> None:
    asking.process.kill()

    assert within(END_SECONDS, lambda: are_gone([asking.worker, *asking.runs]))
