"""The benchmark suite: loads, cards and targets of the published figures. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
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
    slices: int = 4
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
    Cell("conversation-6000", requests=6000, slices=3),
    Cell("code-own", trace="code"),
    Cell("code-poisson", trace="code", arrivals="poisson"),
    Cell("conversation-kv-tenth", kv_tokens=_KV_TOKENS // 10),
)


def short_suite() -> tuple[Cell, ...]:
    """One slice per load of the main figures."""
    return tuple(replace(cell, slices=1) for cell in _MAIN)


def full_suite(profiles: Sequence[str] = ()) -> tuple[Cell, ...]:
    """All slices, loads, cards and targets: hours of work.

    Args:
        profiles: Further profile folders, each a cell of its own.
    """
    main = tuple(replace(cell, policies=(*POLICIES, *MORE_POLICIES)) for cell in _MAIN)
    other = replace(_MAIN[0], slices=3, policies=("default", "static-grid", "predictive"))
    generated = replace(other, arrivals="poisson")
    return (
        *main,
        replace(other, name="itl-30ms", itl=0.03),
        replace(other, name="itl-100ms", itl=0.1),
        replace(other, name="ttft-1s", ttft=1.0),
        replace(other, name="ttft-5s", ttft=5.0),
        replace(other, name="h200-qwen3-8b", device="h200-qwen3-8b", kv_tokens=None),
        replace(other, name="h200-qwen3-8b-kv-tenth", device="h200-qwen3-8b", kv_tokens=_KV_TOKENS // 10),
        replace(
            other,
            name="rtx4090-llama-3.1-8b",
            device="rtx4090-llama-3.1-8b",
            kv_tokens=None,
            policies=(*other.policies, "predictive:64x512"),  # on a small card the ceilings decide how much KV is left
        ),
        *(replace(other, name=Path(profile).name, device=profile, kv_tokens=None) for profile in profiles),
        replace(other, name="oracle-step-times", policies=("default", "predictive", "oracle")),
        replace(other, name="harder-device", harder=("noise", "graphs"), policies=(*other.policies, "oracle")),
        replace(
            other, name="harder-throttling", harder=("throttling", "neighbour"), policies=(*other.policies, "oracle")
        ),
        replace(other, name="bursts", arrivals="bursts"),
        replace(other, name="day", arrivals="day"),
        replace(other, name="ramp", arrivals="ramp"),
        replace(other, name="step", arrivals="step"),
        replace(generated, name="mix-step", trace="mix-step"),
        replace(generated, name="sessions", trace="sessions"),
        replace(generated, name="long-context", trace="long-context", requests=400, ttft=30.0),
        replace(generated, name="reasoning", trace="reasoning", requests=400),
    )


_HEAD = (
    "load",
    "policy",
    "capacity, req/s",
    "interval",
    "pooled",
    "/ default",
    "/ best static",
    "/ limit",
    "overload",
    "TTFT max, s",
    "longest decile, min / mean",
)


def table(documents: Sequence[dict[str, Any]]) -> str:
    """The suite's result as a Markdown table: capacities, and ratios to default, to the best static setting and to the limit."""
    lines = [f"| {' | '.join(_HEAD)} |", f"| --- | --- |{' ---: |' * (len(_HEAD) - 2)}"]
    for document in documents:
        entries = {entry["policy"]: entry for entry in document["capacity"]}
        default, best = (entries.get(name) for name in ("default", "static-grid"))
        for name, entry in entries.items():
            chosen = f" ({entry['chosen'].removeprefix('static:')})" if "chosen" in entry else ""
            cells = [
                document["cell"],
                name + chosen,
                f"{entry['capacity_rps']:.2f}" if entry["capacity_rps"] else _never(entry),
                _interval([entry["low"], entry["high"]]),
                _interval(entry["pooled"]),
                _ratio(entry, default),
                _ratio(entry, best),
                f"{entry['capacity_rps'] / entry['limit_rps']:.2f}" if entry["limit_rps"] else "",
                "" if entry["overload"] is None else f"{entry['overload']:.2f}",
                "" if entry["longest_ttft_s"] is None else f"{entry['longest_ttft_s']:.1f}",
                ""
                if entry["longest_decile"] is None
                else " / ".join(f"{share:.2f}" for share in entry["longest_decile"]),
            ]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _never(entry: dict[str, Any]) -> str:
    """What stands for a capacity where a slice, or all of them, has none."""
    slices = len(entry["slice_capacities"])
    return (
        "never reaches 0.95"
        if entry["never"] == slices
        else f"never reaches 0.95 on {entry['never']} of {slices} slices"
    )


def _interval(ends: Sequence[float | None]) -> str:
    low, high = ends
    return f"{low:.2f} to {high:.2f}" if low and high else ""


def _ratio(entry: dict[str, Any], other: dict[str, Any] | None) -> str:
    """Capacity over another policy's; of two that never pass on some slice no ratio can be given."""
    if other is None:
        return ""
    if not other["capacity_rps"]:
        return "other never passes" if entry["capacity_rps"] else ""
    return f"{entry['capacity_rps'] / other['capacity_rps']:.2f}"
