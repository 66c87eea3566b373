"""One scene per law: a load that shows what the law does, and the setting beside which it is shown. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from llmserving_lab.bench.plan import DevicePlan, RunPlan, TargetPlan
from llmserving_lab.lawplots.drawing import Line, Panel, Point
from llmserving_lab.traces.plan import LoadPlan

_LAW, _BESIDE, _BOUND, _TARGET = "#2563eb", "#94a3b8", "#d97706", "#dc2626"

_MOST_TOKENS = 2200.0
"""Top of the panel of token bounds: what laws choose under load lies far below the maximum that they start from."""


class Quantity(StrEnum):
    """What a panel shows; the value is its title."""

    RUNNING = "running requests"
    WAITING = "waiting requests"
    TOKENS = "tokens a step may hold"
    GAP = "95th percentile of the gaps between tokens, ms"
    KV = "KV cache in use, %"


@dataclass(frozen=True, slots=True)
class Scene:
    """What is run and shown.

    Attributes:
        name: The law, and the file's name.
        policy: The law as the bench knows it.
        beside: The policy shown in grey.
        load: The load.
        quantities: The panels, from the top.
        kv_tokens: KV capacity.
        targets: The SLA.
    """

    name: str
    policy: str
    beside: str
    load: LoadPlan
    quantities: tuple[Quantity, ...]
    kv_tokens: int = 480_000
    targets: TargetPlan = field(default_factory=lambda: TargetPlan(ttft=2.0, itl=0.05))

    def plan(self, policy: str) -> RunPlan:
        """The run of one of the two policies."""
        return RunPlan(
            device=DevicePlan(source="rtxpro6000-llama-3.1-8b"),
            load=self.load,
            policy=policy,
            targets=(self.targets,),
            kv_tokens=self.kv_tokens,
        )


_BURSTS = LoadPlan(kind="conversation", arrivals="bursts", requests=700, rate=6.0, seed=3)
"""Conversations: ten seconds of 20 requests per second in each minute, 3 per second else."""
_FEWER = _BURSTS.model_copy(update={"requests": 360, "rate": 3.0})
_LONG_OUTPUTS = LoadPlan(kind="fixed:512x1000", arrivals="poisson", requests=300, rate=3.0, seed=1)
_CHAT = LoadPlan(kind="lognormal:58.6/2.6x147.3/0.78", arrivals="poisson", requests=1800, rate=60.0, seed=1)

SCENES: tuple[Scene, ...] = (
    Scene("predictive", "predictive", "default", _BURSTS, (Quantity.RUNNING, Quantity.WAITING, Quantity.GAP)),
    Scene(
        "memory",
        "memory:512x8192",
        "static:512x8192",
        _FEWER,
        (Quantity.RUNNING, Quantity.WAITING, Quantity.KV),
        kv_tokens=40_000,
        targets=TargetPlan(ttft=2.0),
    ),
    Scene(
        "sla",
        "sla:512x8192",
        "static:512x8192",
        _BURSTS,
        (Quantity.TOKENS, Quantity.GAP, Quantity.RUNNING, Quantity.WAITING),
    ),
    Scene(
        "memory-sla",
        "memory-sla:512x8192",
        "static:512x8192",
        _FEWER.model_copy(update={"requests": 480, "rate": 4.0}),
        (Quantity.RUNNING, Quantity.TOKENS, Quantity.GAP, Quantity.KV),
        kv_tokens=40_000,
    ),
    Scene(
        "wait",
        "wait:512x8192",
        "static:256x8192",
        _LONG_OUTPUTS,
        (Quantity.RUNNING, Quantity.WAITING, Quantity.KV),
        kv_tokens=60_000,
        targets=TargetPlan(ttft=20.0),
    ),
    Scene(
        "nested-wait",
        "nested-wait:512x8192",
        "static:256x8192",
        _CHAT,
        (Quantity.RUNNING, Quantity.WAITING, Quantity.KV),
        kv_tokens=40_000,
        targets=TargetPlan(ttft=20.0),
    ),
    Scene("static", "static:256x512", "static:256x8192", _BURSTS, (Quantity.RUNNING, Quantity.WAITING, Quantity.GAP)),
)


def panels(scene: Scene, runs: Mapping[str, dict[str, Any]]) -> tuple[list[Panel], float]:
    """The scene's panels and the end of the time axis, from the runs of its two policies."""
    end = max(run["virtual_s"] for run in runs.values())
    return [_panel(quantity, scene, runs, end) for quantity in scene.quantities], end


def _panel(quantity: Quantity, scene: Scene, runs: Mapping[str, dict[str, Any]], end: float) -> Panel:
    lines = [
        Line(_label(policy, runs), colour, _course(quantity, runs[policy], end), is_step=quantity is Quantity.TOKENS)
        for policy, colour in ((scene.beside, _BESIDE), (scene.policy, _LAW))
    ]
    highest = max((value for line in lines for _, value in line.points), default=1.0)
    top = 1.1 * max(highest, 1.0)
    bounds = runs[scene.policy]["bounds"]
    caps = [(change[0], float(change[1])) for change in bounds]
    if quantity is Quantity.RUNNING and min(cap for _, cap in caps) < top:
        lines.append(Line("max_num_seqs", _BOUND, [*caps, (end, caps[-1][1])], is_step=True))
    if quantity is Quantity.GAP and scene.targets.itl:
        target = 1000 * scene.targets.itl
        lines.append(Line("target", _TARGET, [(0.0, target), (end, target)], dashed=True))
        top = min(top, 5 * target)
    if quantity is Quantity.TOKENS:
        top = min(top, _MOST_TOKENS)
    return Panel(quantity.value, tuple(lines), 100.0 if quantity is Quantity.KV else top)


def _course(quantity: Quantity, run: dict[str, Any], end: float) -> Sequence[Point]:
    states = run["states"]
    if quantity is Quantity.TOKENS:
        changes = [(change[0], float(change[2])) for change in run["bounds"]]
        return [*changes, (end, changes[-1][1])]
    if quantity is Quantity.GAP:
        return [(at, 1000 * gap) for at, gap in run["itl_course"]]
    column, scale = {Quantity.RUNNING: (1, 1), Quantity.WAITING: (2, 1), Quantity.KV: (3, 100)}[quantity]
    return [(state[0], scale * state[column]) for state in states]


def _label(policy: str, runs: Mapping[str, dict[str, Any]]) -> str:
    label = policy.replace(":", " ")
    if not any(run["preemptions"] for run in runs.values()):
        return label
    return f"{label}, {runs[policy]['preemptions']} preempted"
