"""What runs beside the engine under a law: the production agent in virtual time, or a planner of the plug-in on its own.

Nothing here decides anything. Telemetry goes through the real ring, the policy and every change through their real documents,
checked as over the socket.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol, cast

from llmserving_agent.actuation import Actuation, Answer, Outcome
from llmserving_agent.catalogue import LAWS
from llmserving_agent.guards import guarded
from llmserving_agent.laws.memory import Memory, MemoryRule
from llmserving_agent.laws.protocol import Law
from llmserving_agent.loop import AgentLoop
from llmserving_agent.sensors.none import NoFrontEnd, NoGPU
from llmserving_agent.sensors.ports import PolicyReading
from llmserving_agent.sensors.ring import RingDirectory
from llmserving_api.control import PlannerChoice, RuntimePatch, SLATargets
from llmserving_api.policy import AskedLimits, LawName, Policy, Target
from llmserving_api.policy import Targets as PolicyTargets
from llmserving_lab.bench.clock import CONFIG_SECONDS, EPOCH, TICK_SECONDS
from llmserving_lab.bench.outcome import Targets
from llmserving_lab.bench.plugin import RANK, PlugIn
from llmserving_lab.bench.policies import Ceilings

POLICY_DELAY = 1.0
"""Seconds from an edit of the SLA to the agent's reading of it (0.8 s measured on a cluster)."""


class Beside(Protocol):
    """What runs beside the engine: a ticker of the simulation that hears of new targets."""

    period: float

    def tick(self, now: float) -> None:
        """Run once at virtual time `now`."""
        ...

    def edit(self, targets: Targets, now: float) -> None:
        """The SLA is edited."""
        ...

    def decisions(self) -> dict[str, int]:
        """How often each reason for a decision was given."""
        ...


class PolicyBoard:
    """The policy as the operator would publish it, seen by the agent after `POLICY_DELAY`."""

    def __init__(self, law: LawName) -> None:
        self._law = law
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
            max_num_seqs=AskedLimits(min=8),
            max_num_batched_tokens=AskedLimits(min=256),
        )
        seen = at if not self._published else at + POLICY_DELAY
        self._published.append((EPOCH + seen, policy))

    def read(self, now: float) -> PolicyReading:
        """The newest policy that has reached the agent."""
        seen = [policy for at, policy in self._published if at <= now]
        return PolicyReading(seen[-1] if seen else None)


def _target(seconds: float | None, percentile: int) -> Target | None:
    return None if seconds is None else Target(percentile=percentile, target_seconds=seconds)


class AgentBeside:
    """The production agent beside the plug-in."""

    period = TICK_SECONDS

    def __init__(self, law: LawName, plugin: PlugIn) -> None:
        """Prepare a run.

        Args:
            law: The agent's law.
            plugin: The plug-in in the engine; the engine's ceilings are the limits.
        """
        self._plugin = plugin
        self._board = PolicyBoard(law)
        self._config_due = 0.0
        self._loop = AgentLoop(
            telemetry=RingDirectory(plugin.folder),
            policy=self._board,
            gpu=NoGPU("simulated"),
            front_end=NoFrontEnd(),
            wall_clock=lambda now: now,
        )

    def edit(self, targets: Targets, now: float) -> None:
        """Publish new targets."""
        self._board.publish(targets, at=now)

    def tick(self, now: float) -> None:
        """One pass of the agent, as its runner makes it; calls to the engine are answered at once."""
        at = EPOCH + now
        loop = self._loop
        loop.sense(at)
        engine = loop.engine(RANK)
        if engine.awaits_config or at >= self._config_due:
            self._config_due = at + CONFIG_SECONDS
            loop.observe(RANK, Answer(Outcome.APPLIED, config=self._plugin.config()), at)
        for actuation in loop.decide(at):
            loop.confirm(RANK, self._patch(actuation), at)

    def decisions(self) -> dict[str, int]:
        """How often each reason for a decision was given."""
        counts: dict[str, int] = {}
        for (_, reason, _), count in self._loop.engine(RANK).totals.decisions.items():
            counts[str(reason)] = counts.get(str(reason), 0) + count
        return dict(sorted(counts.items()))

    def _patch(self, actuation: Actuation) -> Answer:
        status, message = self._plugin.patch(actuation.patch.model_dump_json(exclude_none=True))
        if status != 200:
            return Answer(Outcome.REFUSED, status=status, message=message)
        return Answer(Outcome.APPLIED, config=self._plugin.config())


class PlannerBeside:
    """A planner of the plug-in with its default parameters, the bounds at the ceilings, and no agent."""

    period = 10.0

    def __init__(self, planner: str, ceilings: Ceilings, plugin: PlugIn) -> None:
        """Prepare a run with the planner of this name."""
        self._planner = planner
        self._ceilings = ceilings
        self._plugin = plugin
        self._targets = SLATargets()
        self._operation = 0

    def edit(self, targets: Targets, now: float) -> None:
        """Tell the engine its targets."""
        self._targets = SLATargets(ttft_seconds=targets.ttft, itl_seconds=targets.itl, e2e_seconds=targets.e2e)
        self.tick(now)

    def tick(self, now: float) -> None:
        """Renew the lease."""
        self._operation += 1
        patch = RuntimePatch(
            operation_id=self._operation,
            max_num_seqs=self._ceilings.max_num_seqs,
            max_num_batched_tokens=self._ceilings.max_num_batched_tokens,
            lease_seconds=30.0,
            targets=self._targets,
            planner=PlannerChoice(name=self._planner) if self._operation == 1 else None,
        )
        status, message = self._plugin.patch(patch.model_dump_json(exclude_none=True))
        if status != 200:
            raise ValueError(f"policy planner:{self._planner}: {message}")

    def decisions(self) -> dict[str, int]:
        """None: a planner decides in the engine's steps."""
        return {}


VARIANTS: dict[str, tuple[LawName, Callable[[], Law[Any]]]] = {
    "memory-readme": (LawName.MEMORY, lambda: guarded(Memory(rule=MemoryRule.BLOCKS))),
}
"""Laws with other parameters than the agent's catalogue gives them, for comparison."""


def law_of(name: str) -> LawName:
    """The agent's law by its name on the command line (`memory-sla` for `MemorySLA`).

    Raises:
        ValueError: no such law.
    """
    if name in VARIANTS:
        return VARIANTS[name][0]
    for law in LawName:
        if law.value.lower() == name.replace("-", ""):
            return law
    raise ValueError(f"policy {name}: the agent has no such law; it has {', '.join(LawName)}")


@contextmanager
def catalogue_of(name: str) -> Iterator[None]:
    """While it lasts, the agent's catalogue holds the variant of this name, if it is one."""
    if name not in VARIANTS:
        yield
        return
    law, make = VARIANTS[name]
    laws = cast("dict[LawName, Callable[[], Law[Any]]]", LAWS)
    before = laws[law]
    laws[law] = make
    try:
        yield
    finally:
        laws[law] = before
