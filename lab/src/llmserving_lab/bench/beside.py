"""What runs beside the scheduler under a law: the production plug-in in the engine and the production agent, both in virtual time.

Nothing here decides anything. The plug-in's own runtime is built with the run's clock; telemetry goes through the real ring, the
policy and every change through their real documents, checked as over the socket.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from llmserving_agent.actuation import Actuation, Answer, Outcome
from llmserving_agent.loop import AgentLoop
from llmserving_agent.sensors.none import NoFrontEnd, NoGPU
from llmserving_agent.sensors.ports import PolicyReading
from llmserving_agent.sensors.ring import RingDirectory
from llmserving_api.control import RuntimeConfig
from llmserving_api.policy import LawName, Limits, Policy, Target
from llmserving_api.policy import Targets as PolicyTargets
from llmserving_engine.control import ControlError
from llmserving_engine.process import describe
from llmserving_engine.ring import RingWriter
from llmserving_engine.scheduler import live_scheduler_class
from llmserving_engine.step_control import Runtime
from llmserving_lab.bench.clock import CONFIG_SECONDS, EPOCH, TICK_SECONDS, Clock
from llmserving_lab.bench.outcome import Targets
from llmserving_lab.bench.policies import Ceilings

POLICY_DELAY = 1.0
"""Seconds from an edit of the SLA to the agent's reading of it (0.8 s measured on a cluster)."""

RANK = 0


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


class PolicyBoard:
    """The policy as the operator would publish it, seen by the agent after `POLICY_DELAY`."""

    def __init__(self, law: LawName, ceilings: Ceilings) -> None:
        self._law = law
        self._ceilings = ceilings
        self._published: list[tuple[float, Policy]] = []

    def publish(self, targets: Targets, *, at: float) -> None:
        """Publish new targets at a time of the run."""
        policy = Policy(
            revision=len(self._published) + 1,
            namespace="bench",
            name="bench",
            law=self._law,
            sla=PolicyTargets(
                time_to_first_token=_target(targets.ttft, targets.percentile),
                inter_token_latency=_target(targets.itl, targets.percentile),
                end_to_end_latency=_target(targets.e2e, targets.percentile),
            ),
            max_num_seqs=Limits(min=min(8, self._ceilings.max_num_seqs), max=self._ceilings.max_num_seqs),
            max_num_batched_tokens=Limits(
                min=min(256, self._ceilings.max_num_batched_tokens), max=self._ceilings.max_num_batched_tokens
            ),
        )
        seen = at if not self._published else at + POLICY_DELAY
        self._published.append((EPOCH + seen, policy))

    def read(self, now: float) -> PolicyReading:
        """The newest policy that has reached the agent."""
        seen = [policy for at, policy in self._published if at <= now]
        return PolicyReading(seen[-1] if seen else None)


def _target(seconds: float | None, percentile: int) -> Target | None:
    return None if seconds is None else Target(percentile=percentile, target_seconds=seconds)


class Beside:
    """Plug-in and agent of one run. A context manager: the telemetry ring is a file in memory.

    Attributes:
        board: Where targets are published.
        period: Seconds between two passes of the agent.
    """

    period = TICK_SECONDS

    def __init__(self, law: LawName, ceilings: Ceilings, clock: Clock) -> None:
        """Prepare a run.

        Args:
            law: The agent's law.
            ceilings: The engine's start-up bounds, which are the policy's limits too.
            clock: The run's clock.
        """
        memory = Path("/dev/shm")  # noqa: S108 the ring lies in memory in production too
        self._folder = tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None, prefix="llmserving-bench-")
        self._clock = EngineClock(clock)
        self.board = PolicyBoard(law, ceilings)
        folder = Path(self._folder.name)
        self._ring = RingWriter(folder / f"telemetry-{RANK}.ring", self._clock.monotonic_ns())
        self._runtime: Runtime | None = None
        self._config_due = 0.0
        self._loop = AgentLoop(
            telemetry=RingDirectory(folder),
            policy=self.board,
            gpu=NoGPU("simulated"),
            front_end=NoFrontEnd(),
            wall_clock=lambda now: now,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._folder.cleanup()

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
            RuntimeError: the plug-in does not control this vLLM, or has given up control.
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

    def tick(self, now: float) -> None:
        """One pass of the agent, as its runner makes it; calls to the engine are answered at once."""
        at = EPOCH + now
        loop = self._loop
        loop.sense(at)
        engine = loop.engine(RANK)
        if engine.awaits_config or at >= self._config_due:
            self._config_due = at + CONFIG_SECONDS
            loop.observe(RANK, self._answer(), at)
        for actuation in loop.decide(at):
            loop.confirm(RANK, self._patch(actuation), at)

    def decisions(self) -> dict[str, int]:
        """How often each reason was given."""
        counts: dict[str, int] = {}
        for (_, reason, _), count in self._loop.engine(RANK).totals.decisions.items():
            counts[str(reason)] = counts.get(str(reason), 0) + count
        return dict(sorted(counts.items()))

    def _patch(self, actuation: Actuation) -> Answer:
        body = json.loads(actuation.patch.model_dump_json(exclude_none=True))
        try:
            self.runtime.control.patch(body)
        except ControlError as error:
            return Answer(Outcome.REFUSED, status=error.status, message=str(error))
        return self._answer()

    def _answer(self) -> Answer:
        document = json.dumps(self.runtime.control.document())
        return Answer(Outcome.APPLIED, config=RuntimeConfig.model_validate_json(document))


def law_of(name: str) -> LawName:
    """The agent's law by its name on the command line (`memory-sla` for `MemorySLA`).

    Raises:
        ValueError: no such law.
    """
    for law in LawName:
        if law.value.lower() == name.replace("-", ""):
            return law
    raise ValueError(f"policy {name}: the agent has no such law; it has {', '.join(LawName)}")
