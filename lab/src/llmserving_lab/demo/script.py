"""What happens when: the edits of the demo and the phases they divide it into. Pure data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

RELAXED_SECONDS = 0.1
TTFT_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Edit:
    """One edit of the resource, as a user would make it.

    Attributes:
        at: Seconds after the traffic began.
        change: What it does, in words.
        patch: The merge patch for `kubectl patch`; with `apply`, the manifest with this change is applied.
        apply: Use `kubectl apply` of the edited manifest.
        ttft_seconds: Target of the time to first token from here on; None: unchanged.
        itl_seconds: Target of the inter-token latency from here on; None: unchanged.
        phase: Name of the phase that begins with it; empty: the phase goes on.
        settle_seconds: How much of the phase belongs to a phase of its own, "settling".
    """

    at: float
    change: str
    patch: Mapping[str, Any]
    apply: bool = False
    ttft_seconds: float | None = None
    itl_seconds: float | None = None
    phase: str = ""
    settle_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Phase:
    """A stretch of the run with the same targets.

    Attributes:
        name: What the report calls it.
        start: Seconds after the traffic began.
        end: Seconds after the traffic began.
        ttft_seconds: Target in force.
        itl_seconds: Target in force.
    """

    name: str
    start: float
    end: float
    ttft_seconds: float
    itl_seconds: float


@dataclass(frozen=True, slots=True)
class Script:
    """The whole course of the demo.

    Attributes:
        edits: In order of time.
        seconds: Length of the traffic.
        ttft_seconds: Target at the beginning.
        itl_seconds: Target at the beginning.
        first_phase: Name of the phase before the first edit.
    """

    edits: tuple[Edit, ...]
    seconds: float
    ttft_seconds: float = TTFT_SECONDS
    itl_seconds: float = RELAXED_SECONDS
    first_phase: str = "relaxed"
    phases: tuple[Phase, ...] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "phases", tuple(self._phases()))

    def _phases(self) -> list[Phase]:
        current = Phase(self.first_phase, 0.0, self.seconds, self.ttft_seconds, self.itl_seconds)
        phases: list[Phase] = []
        for edit in self.edits:
            ttft = edit.ttft_seconds if edit.ttft_seconds is not None else current.ttft_seconds
            itl = edit.itl_seconds if edit.itl_seconds is not None else current.itl_seconds
            if not edit.phase:
                current = replace(current, ttft_seconds=ttft, itl_seconds=itl)
                continue
            phases.append(replace(current, end=edit.at))
            start = edit.at
            if edit.settle_seconds:
                start = edit.at + edit.settle_seconds
                phases.append(Phase(f"{edit.phase}, settling", edit.at, start, ttft, itl))
            current = Phase(edit.phase, start, self.seconds, ttft, itl)
        return [*phases, current]

    def goals_at(self, time: float) -> tuple[float, float]:
        """Targets (TTFT, ITL) in force at a time."""
        ttft, itl = self.ttft_seconds, self.itl_seconds
        for edit in self.edits:
            if edit.at <= time:
                ttft = edit.ttft_seconds if edit.ttft_seconds is not None else ttft
                itl = edit.itl_seconds if edit.itl_seconds is not None else itl
        return ttft, itl


def standard_script() -> Script:
    """Twenty edits in under three minutes: targets, mode, policy and limits, by patch and by apply.

    All under the default policy but for one phase, in which bounds move instead of steps being planned.
    """
    one_after_the_other = (
        _itl(0, "60ms", phase="many edits"),
        _ttft(0, "3s"),
        _least(0, "maxNumSeqs", 16),
        _policy(0, "Predictive"),
        _ttft(0, "2s", apply=True),
        _itl(0, "80ms"),
        _mode(0, "Off"),
        _mode(0, "Auto"),
        _least(0, "maxNumBatchedTokens", 512),
        _policy(0, "Memory"),
        _policy(0, "Predictive"),
        _least(0, "maxNumBatchedTokens", 256, apply=True),
        _itl(0, "50ms"),
        _least(0, "maxNumSeqs", 8),
        _itl(0, "100ms"),
    )
    return Script(
        edits=(
            _itl(25, "30ms", phase="tight", settle_seconds=5),
            _itl(75, "100ms", phase="relaxed again"),
            _mode(95, "Advise", phase="advice"),
            _mode(107, "Auto", phase="automatic"),
            _policy(117, "MemorySLA", phase="MemorySLA"),
            *(replace(edit, at=135 + 2.7 * number) for number, edit in enumerate(one_after_the_other)),
        ),
        seconds=178.0,
    )


def _itl(at: float, target: str, *, phase: str = "", settle_seconds: float = 0.0) -> Edit:
    seconds = float(target.removesuffix("ms")) / 1000
    return Edit(
        at,
        f"ITL target {target}",
        _sla("interTokenLatency", target),
        itl_seconds=seconds,
        phase=phase,
        settle_seconds=settle_seconds,
    )


def _ttft(at: float, target: str, *, apply: bool = False) -> Edit:
    change = f"TTFT target {target}"
    return Edit(at, change, _sla("timeToFirstToken", target), apply, ttft_seconds=float(target.removesuffix("s")))


def _mode(at: float, mode: str, *, phase: str = "") -> Edit:
    return Edit(at, f"mode {mode}", _batching("mode", mode), phase=phase)


def _policy(at: float, policy: str, *, phase: str = "") -> Edit:
    return Edit(at, f"policy {policy}", _batching("policy", policy), phase=phase)


def _least(at: float, bound: str, least: int, *, apply: bool = False) -> Edit:
    return Edit(at, f"least {bound} {least}", _batching(bound, {"min": least}), apply)


def _batching(field: str, value: Any) -> dict[str, Any]:
    return {"spec": {"batching": {field: value}}}


def _sla(metric: str, target: str) -> dict[str, Any]:
    return {"spec": {"sla": {metric: {"target": target}}}}
