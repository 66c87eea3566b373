"""One pass of the agent: sense, decide, confirm. It drives every engine rank of the pod.

No I/O of its own beyond the sensors it is given, no clock and no asyncio: the caller passes the time and carries out
the changes. In production that is ``runner``; in a simulation it is a loop over virtual time:

    loop = AgentLoop(telemetry=..., policy=..., gpu=NoGPU("simulated"), front_end=NoFrontEnd(), wall_clock=float)
    loop.observe(0, Answer(Outcome.APPLIED, config), now)   # the engine's document, at first and after each change
    loop.sense(now)                                         # about ten times a second
    for actuation in loop.decide(now):                      # decides about once a second, at once on a new policy
        loop.confirm(actuation.rank, answer, now)           # what the engine said to actuation.patch
"""

import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from llmserving_agent.actuation import Actuation, Answer
from llmserving_agent.engine import Engine, Taken
from llmserving_agent.laws.protocol import GPUMemory
from llmserving_agent.measurements import Measurements
from llmserving_agent.sensors.ports import (
    FrontEndSensor,
    FrontEndShare,
    GPUReading,
    GPUSensor,
    PolicyReading,
    PolicySource,
    TelemetrySource,
)
from llmserving_agent.totals import TICK_EDGES, Buckets

HISTORY = 10


@dataclass(frozen=True, slots=True)
class Noted:
    """A decision that differs from the one before, kept for people."""

    rank: int
    taken: Taken
    wall_time: float


class AgentLoop:
    """State of the whole agent; see the module.

    Attributes:
        engines: By rank.
        policy: Newest reading of the policy.
        gpu: Newest reading of the GPUs.
        front_end: Newest share of the front end.
        history: The last decisions that changed something, newest first.
        timings: Time of each step of a pass, by its name.
    """

    def __init__(
        self,
        *,
        telemetry: TelemetrySource,
        policy: PolicySource,
        gpu: GPUSensor,
        front_end: FrontEndSensor,
        wall_clock: Callable[[float], float],
        on_note: Callable[[Noted], None] = lambda noted: None,
        started: float = float("-inf"),
    ) -> None:
        """Build the loop.

        Args:
            telemetry: Where step records come from.
            policy: Where the policy comes from.
            gpu: Where facts on GPUs come from.
            front_end: Where the front end's share comes from.
            wall_clock: Seconds since 1970 of a time of the loop, for people.
            on_note: Called with every decision that differs from the one before.
            started: When the agent began; what telemetry still holds from before is measured, but in no counter.
        """
        self._telemetry, self._policy_source = telemetry, policy
        self._gpu_sensor, self._front_end_sensor = gpu, front_end
        self._wall_clock, self._on_note, self._started = wall_clock, on_note, started
        self.engines: dict[int, Engine] = {}
        self.policy = PolicyReading()
        self.gpu = GPUReading("none", reason="not read yet")
        self.front_end = FrontEndShare()
        self.history: deque[Noted] = deque(maxlen=HISTORY)
        self._noted: dict[int, Taken] = {}
        self.timings: dict[str, Buckets] = {}

    def sense(self, now: float) -> None:
        """Read every sensor."""
        with self._timed("policy"):
            self.policy = self._policy_source.read(now)
        self.front_end = self._front_end_sensor.read()
        with self._timed("telemetry"):
            for rank, telemetry in self._telemetry.read().items():
                engine = self.engine(rank)
                if self.policy.policy is not None:
                    engine.judge(self.policy.policy, self.front_end)
                engine.sense(telemetry, now)
        with self._timed("gpu"):
            self.gpu = self._gpu_sensor.read(now)

    def decide(self, now: float) -> tuple[Actuation, ...]:
        """Decide for every rank that is due; the changes to carry out."""
        if self.policy.policy is None:
            return ()
        actuations = []
        memory = _tightest(self.gpu)
        with self._timed("decide"):
            for engine in self.engines.values():
                actuation = engine.decide(self.policy.policy, self.front_end, memory, now)
                if actuation is not None:
                    actuations.append(actuation)
                self._note(engine)
        return tuple(actuations)

    def observe(self, rank: int, answer: Answer, now: float) -> None:
        """Take in the engine's document, or that it did not answer."""
        self.engine(rank).observe(answer, now)

    def confirm(self, rank: int, answer: Answer, now: float) -> None:
        """Take in what became of a change."""
        engine = self.engine(rank)
        engine.confirm(answer, now)
        self._note(engine)

    def engine(self, rank: int) -> Engine:
        """The rank's state; new on first sight."""
        if rank not in self.engines:
            self.engines[rank] = Engine(rank, measured=Measurements(counted_from=self._started))
            self.engines = dict(sorted(self.engines.items()))
        return self.engines[rank]

    @property
    def confirmed_revision(self) -> int | None:
        """Revision of the policy that every reachable engine has confirmed; None before that."""
        revisions = [engine.confirmed for engine in self.engines.values() if engine.reachable]
        return min((one for one in revisions if one is not None), default=None) if None not in revisions else None

    def _note(self, engine: Engine) -> None:
        taken = engine.taken
        if taken is None:
            return
        last = self._noted.get(engine.rank)
        if last is not None and not _differs(last, taken):
            return
        self._noted[engine.rank] = taken
        noted = Noted(engine.rank, taken, self._wall_clock(taken.at))
        self.history.appendleft(noted)
        self._on_note(noted)

    @contextmanager
    def _timed(self, step: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            self.timings.setdefault(step, Buckets(TICK_EDGES)).add(time.perf_counter() - start)


def _differs(old: Taken, new: Taken) -> bool:
    return (
        old.decision.reason is not new.decision.reason
        or old.acted is not new.acted
        or old.law is not new.law
        or new.decision.bounds not in (new.before, old.decision.bounds)
    )


def _tightest(reading: GPUReading) -> GPUMemory | None:
    tightest = min(reading.devices, key=lambda device: device.memory_free_bytes, default=None)
    if tightest is None:
        return None
    throttled = {reason for device in reading.devices for reason in device.throttle_reasons}
    return GPUMemory(tightest.uuid, tightest.memory_free_bytes, tightest.memory_total_bytes, tuple(sorted(throttled)))
