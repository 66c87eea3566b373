"""Runs in the engine's environment, from outside it: a pool of processes that have vLLM loaded."""

from __future__ import annotations

import json
import os
import subprocess
import threading
from collections.abc import Mapping
from concurrent.futures import Future
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from pydantic import BaseModel

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
        command = [str(python), "-m", "llmserving_lab.bench.worker", "--jobs", str(jobs)]
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=dict(environment),
        )
        self.jobs = jobs
        self._waiting: dict[int, Future[dict[str, Any]]] = {}
        self._lock = threading.Lock()
        self._count = 0
        self._ready = threading.Event()
        self._complaints: list[str] = []
        self._readers = [threading.Thread(target=target, daemon=True) for target in (self._read, self._listen)]
        for reader in self._readers:
            reader.start()

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
            number = self._count
            self._count += 1
            self._waiting[number] = future
        line = json.dumps({"id": number, "kind": kind, "plan": plan.model_dump(mode="json")})
        try:
            assert self._process.stdin is not None
            self._process.stdin.write(line + "\n")
            self._process.stdin.flush()
        except (BrokenPipeError, OSError):
            self._fail()
        return future

    def wait_ready(self) -> None:
        """Wait until vLLM is loaded.

        Raises:
            RunError: the engine's environment does not work.
        """
        self._ready.wait()
        if self._process.poll() is not None:
            raise RunError(self._reason())

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            answer = json.loads(line)
            if answer.get("ready"):
                self._ready.set()
                continue
            with self._lock:
                future = self._waiting.pop(answer["id"])
            if "error" in answer:
                future.set_exception(RunError(answer["error"]))
            else:
                future.set_result(answer["result"])
        self._process.wait()
        self._ready.set()
        self._fail()

    def _listen(self) -> None:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            self._complaints = [*self._complaints[-50:], line.rstrip()]

    def _reason(self) -> str:
        last = next((line for line in reversed(self._complaints) if line.strip()), "no output")
        return f"the engine's process ended with code {self._process.returncode}: {last}"

    def _fail(self) -> None:
        with self._lock:
            waiting, self._waiting = self._waiting, {}
        for future in waiting.values():
            if not future.done():
                future.set_exception(RunError(self._reason()))


def engine_python() -> tuple[Path, Mapping[str, str]]:
    """Interpreter that has vLLM, and the environment variables to run it with; built now where it is missing."""
    from llmserving_lab.environment import EngineEnvironment, engine_environment

    chosen = os.environ.get(INTERPRETER_VARIABLE)
    if chosen:
        sources = Path(__file__).resolve().parents[4]
        return Path(chosen), EngineEnvironment(Path(chosen).parent.parent, sources).variables()
    environment = engine_environment()
    return environment.python, environment.variables()
