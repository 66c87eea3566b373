"""The benchmark suite: loads, cards and targets of the published figures. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from llmserving_lab.bench.plan import DevicePlan, RunPlan, TargetPlan
from llmserving_lab.traces.plan import LoadPlan

POLICIES = ("default", "static-grid", "memory-sla", "predictive")
"""Policies of the short suite."""

MORE_POLICIES = ("memory", "memory-readme", "sla", "past-future", "fair", "oracle")
"""Policies that the full suite adds on the main loads."""

_KV_TOKENS = 480_000
"""30,000 blocks of 16."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One load on one device under one SLA.

    Attributes:
        name: Name of its result file.
        trace: `conversation` or `code`: the Azure trace of that name where it is at hand, else requests fitted to it.
        arrivals: Arrival pattern.
        requests: Requests of a slice.
        slices: Disjoint slices.
        kv_tokens: KV capacity; None takes the device's own.
        device: Device, or None for the suite's main profile.
        harder: What makes the device harder.
        ttft: Target in seconds.
        itl: Target in seconds.
        policies: Policies to measure.
    """

    name: str
    trace: str = "conversation"
    arrivals: str = "own"
    requests: int = 2000
    slices: int = 3
    kv_tokens: int | None = _KV_TOKENS
    device: str | None = None
    harder: tuple[str, ...] = ()
    ttft: float = 2.0
    itl: float = 0.05
    policies: tuple[str, ...] = POLICIES

    def plan(self, profile: str, traces: dict[str, str]) -> RunPlan:
        """The run that the cell's searches vary.

        Args:
            profile: The main profile.
            traces: Trace files by name.
        """
        at_hand = self.trace in traces
        # Without the trace its fit stands in, with the clumps of its arrivals instead of its own.
        pattern = self.arrivals if at_hand or self.arrivals != "own" else "gamma"
        return RunPlan(
            device=DevicePlan(source=self.device or profile, harder=self.harder),
            load=LoadPlan(trace=traces.get(self.trace), kind=self.trace, arrivals=pattern, requests=self.requests),
            policy="default",
            targets=(TargetPlan(ttft=self.ttft, itl=self.itl),),
            kv_tokens=self.kv_tokens,
        )


_MAIN = (
    Cell("conversation-2000"),
    Cell("conversation-6000", requests=6000),
    Cell("code-own", trace="code"),
    Cell("code-poisson", trace="code", arrivals="poisson"),
    Cell("conversation-kv-tenth", kv_tokens=_KV_TOKENS // 10),
)


def short_suite() -> tuple[Cell, ...]:
    """One slice per load of the main figures."""
    return tuple(replace(cell, slices=1) for cell in _MAIN)


def full_suite() -> tuple[Cell, ...]:
    """All slices, loads, cards and targets: hours of work."""
    main = tuple(replace(cell, policies=(*POLICIES, *MORE_POLICIES)) for cell in _MAIN)
    conversation = _MAIN[0]
    return (
        *main,
        replace(conversation, name="itl-30ms", itl=0.03),
        replace(conversation, name="itl-100ms", itl=0.1),
        replace(conversation, name="ttft-1s", ttft=1.0),
        replace(conversation, name="ttft-5s", ttft=5.0),
        replace(conversation, name="h200-qwen3-8b", device="h200-qwen3-8b", kv_tokens=None),
        replace(conversation, name="harder-device", harder=("noise", "graphs"), policies=(*POLICIES, "oracle")),
        replace(conversation, name="bursts", arrivals="bursts"),
        replace(conversation, name="day", arrivals="day"),
        replace(conversation, name="sessions", trace="sessions", arrivals="poisson"),
        replace(conversation, name="long-context", trace="long-context", arrivals="poisson", requests=400, ttft=30.0),
        replace(conversation, name="reasoning", trace="reasoning", arrivals="poisson", requests=400),
    )


def table(documents: Sequence[dict[str, Any]]) -> str:
    """The suite's result as a Markdown table: capacities, and ratios to default, to the best static setting and to the limit."""
    lines = [
        "| load | policy | capacity, req/s | / default | / best static | / limit | overload | TTFT max, s |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for document in documents:
        entries = {entry["policy"]: entry for entry in document["capacity"]}
        default, best = (entries.get(name, {}).get("capacity_rps") for name in ("default", "static-grid"))
        for name, entry in entries.items():
            own = entry["capacity_rps"]
            at_capacity = [
                run["ttft_max_s"]
                for run in document["runs"]
                if run["policy"] == entry["measured_as"] and run["rate_rps"] == own and run["ttft_max_s"] is not None
            ]
            chosen = f" ({entry['chosen'].removeprefix('static:')})" if "chosen" in entry else ""
            cells = [
                document["cell"],
                name + chosen,
                f"{own:.2f}",
                _ratio(own, default),
                _ratio(own, best),
                _ratio(own, entry["limit_rps"]),
                f"{entry['overload']:.2f}" if "overload" in entry else "",
                f"{max(at_capacity):.1f}" if at_capacity else "",
            ]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _ratio(own: float, other: float | None) -> str:
    return f"{own / other:.2f}" if other else ""
