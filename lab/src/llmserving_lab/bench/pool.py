"""Runs in the engine's environment, from outside it: a pool of processes that have vLLM loaded."""

from __future__ import annotations

import json
import os
import subprocess
import threading
from collections import deque
from collections.abc import Mapping
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from pydantic import BaseModel

from llmserving_lab.environment import REQUIREMENTS, EngineEnvironment, engine_environment

INTERPRETER_VARIABLE = "LLMSERVING_ENGINE_PYTHON"
"""Names another interpreter that has vLLM, over the environment that the lab builds."""


class RunError(RuntimeError):
    """A run could not be made; the message says why."""


class EnginePool:
    """Engine-side processes that execute plans, several at a time.

    Use it as a context manager; leaving it ends the processes.
    """

    def __init__(self, jobs: int) -> None:
        """Start the processes.

        Args:
            jobs: Runs at a time.
        """
        python, environment = engine_python()
        self._process = subprocess.Popen(
            [str(python), "-m", "llmserving_lab.bench.worker", "--jobs", str(jobs)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**environment, "PYTHONHASHSEED": "0"},  # the order of sets of names must not change from run to run
        )
        if self._process.stdin is None or self._process.stdout is None or self._process.stderr is None:
            raise RunError("the engine's process has no pipes")
        self._plans = self._process.stdin
        self._waiting: dict[int, Future[dict[str, Any]]] = {}
        self._lock = threading.Lock()
        self._count = 0
        self._ended = False
        self._complaints: deque[str] = deque(maxlen=50)
        for target, stream in ((self._read, self._process.stdout), (self._listen, self._process.stderr)):
            threading.Thread(target=target, args=(stream,), daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.terminate()
        self._process.wait()

    def submit(self, kind: str, plan: BaseModel) -> Future[dict[str, Any]]:
        """Have a plan executed. The future's exception is a `RunError` with one clear line."""
        future: Future[dict[str, Any]] = Future()
        with self._lock:
            if self._ended:
                future.set_exception(RunError(self._reason()))
                return future
            number = self._count
            self._count += 1
            self._waiting[number] = future
            line = json.dumps({"id": number, "kind": kind, "plan": plan.model_dump(mode="json")})
            with suppress(OSError):  # a process that has ended is noticed where its answers are read
                self._plans.write(line + "\n")
                self._plans.flush()
        return future

    def _read(self, answers: IO[str]) -> None:
        for line in answers:
            answer = json.loads(line)
            with self._lock:
                future = self._waiting.pop(answer["id"])
            if "error" in answer:
                future.set_exception(RunError(answer["error"]))
            else:
                future.set_result(answer["result"])
        self._process.wait()
        with self._lock:
            self._ended = True
            undone = list(self._waiting.values())
            self._waiting.clear()
        for future in undone:
            future.set_exception(RunError(self._reason()))

    def _listen(self, complaints: IO[str]) -> None:
        for line in complaints:
            if line.strip():
                self._complaints.append(line.rstrip())

    def _reason(self) -> str:
        last = self._complaints[-1] if self._complaints else "no output"
        return f"the engine's process ended with code {self._process.returncode}: {last}"


def engine_python(pins: str = REQUIREMENTS) -> tuple[Path, Mapping[str, str]]:
    """Interpreter that has vLLM, and the environment variables to run it with; built now where it is missing.

    Args:
        pins: What it is built from: `REQUIREMENTS` or `REQUIREMENTS_GPU`.

    Raises:
        EnvironmentUnavailableError: it cannot be built.
    """
    chosen = os.environ.get(INTERPRETER_VARIABLE)
    if chosen:
        sources = Path(__file__).resolve().parents[4]
        return Path(chosen), EngineEnvironment(Path(chosen).parent.parent, sources).variables()
    environment = engine_environment(pins=pins)
    return environment.python, environment.variables()
