"""The production plug-in in a simulated engine: its own runtime on the run's clock, its own ring, its own control documents."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from llmserving_api.control import RuntimeConfig
from llmserving_engine.changes import ControlError
from llmserving_engine.planning.registry import PLANNERS
from llmserving_engine.process import describe
from llmserving_engine.ring import RingWriter
from llmserving_engine.runtime import Runtime
from llmserving_engine.scheduler import live_scheduler_class
from llmserving_lab.bench.clock import EPOCH, Clock
from llmserving_lab.bench.planners.fair import build_fair
from llmserving_lab.bench.planners.oracle import oracle_factory
from llmserving_lab.bench.planners.past_future import build_past_future
from llmserving_lab.device.model import DeviceModel

RANK = 0

PLANNERS.update({"fair": build_fair, "past-future": build_past_future})


def tell_oracle(device: DeviceModel, outputs: Sequence[int]) -> None:
    """Make the planner `oracle` that of a run: its device and its output lengths."""
    PLANNERS["oracle"] = oracle_factory(device, outputs)


class EngineClock:
    """The run's clock as the plug-in reads it."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def monotonic_ns(self) -> int:
        """Virtual time in nanoseconds."""
        return round((EPOCH + self._clock.time) * 1e9)

    def wall_ns(self) -> int:
        """The same: in virtual time the two clocks agree."""
        return self.monotonic_ns()


class PlugIn:
    """The plug-in of one run. A context manager: the telemetry ring is a file in memory.

    Attributes:
        folder: Where the ring lies.
    """

    def __init__(self, clock: Clock) -> None:
        """Prepare a run on this clock."""
        memory = Path("/dev/shm")  # noqa: S108 the ring lies in memory in production too
        self._scratch = tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None, prefix="llmserving-bench-")
        self.folder = Path(self._scratch.name)
        self._clock = EngineClock(clock)
        self._ring = RingWriter(self.folder / f"telemetry-{RANK}.ring", self._clock.monotonic_ns())
        self._runtime: Runtime | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._scratch.cleanup()

    def scheduler_class(self, base: type) -> type:
        """The plug-in's scheduler over vLLM's."""

        def runtime(scheduler: Any) -> Runtime:
            self._runtime = describe(scheduler, self._ring, self._clock)
            return self._runtime

        return live_scheduler_class(base, runtime)

    @property
    def runtime(self) -> Runtime:
        """The plug-in's runtime; there once the scheduler is.

        Raises:
            RuntimeError: the plug-in does not control this vLLM, or has given up control because of a fault of its own.
        """
        if self._runtime is None:
            raise RuntimeError("the scheduler has not been made yet")
        contract = self._runtime.control.contract
        if contract.mode != "full":
            raise RuntimeError(f"the plug-in does not control this engine: {contract.reason}")
        return self._runtime

    def bounds(self) -> tuple[int, int]:
        """Bounds in force."""
        applied = self.runtime.control.progress.applied.applied
        return applied.max_num_seqs, applied.max_num_batched_tokens

    def patch(self, body: str) -> tuple[int, str]:
        """A change as it comes over the socket: HTTP status and, where it was refused, why."""
        try:
            self.runtime.control.patch(json.loads(body))
        except ControlError as error:
            return error.status, str(error)
        return 200, ""

    def config(self) -> RuntimeConfig:
        """The engine's document as it goes over the socket."""
        return RuntimeConfig.model_validate_json(json.dumps(self.runtime.control.document()))
