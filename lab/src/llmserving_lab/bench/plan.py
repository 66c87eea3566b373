"""What one run is: the description that travels from the command line to the engine's environment as JSON."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from llmserving_lab.traces.plan import Description, LoadPlan


class LinkPlan(Description):
    """Links between tensor-parallel cards."""

    latency_seconds: float = Field(ge=0)
    bandwidth_bytes_per_second: float = Field(gt=0)


class DevicePlan(Description):
    """Which device, and how it is made harder than its profile.

    Attributes:
        source: Profile folder, coefficient file or name of a shipped one.
        layers: Transformer blocks, where the profile does not say.
        harder: Names of disturbances, or `graphs` for CUDA-graph padding and launch times.
        links: Links between the cards of a tensor-parallel profile.
    """

    source: str
    layers: int | None = None
    harder: tuple[str, ...] = ()
    links: LinkPlan | None = None


class TargetPlan(Description):
    """Targets from a moment on, in seconds; an SLA edit is a second one."""

    time: float = 0.0
    ttft: float | None = None
    itl: float | None = None
    e2e: float | None = None
    percentile: int = Field(default=95, ge=50, le=99)


class RunPlan(Description):
    """One run.

    Attributes:
        device: The device.
        load: The load.
        policy: Policy by name, see `policies`.
        targets: Targets by time, the first at 0.
        kv_tokens: KV capacity; None takes what the device has under the policy's ceilings.
        asynchronous: Asynchronous scheduling.
        prefix_caching: vLLM's prefix cache.
        warmup: Share of the requests, from the start, that no figure counts.
        give_up_misses: End the run once so many requests have missed their targets; None never does.
        drain: Whether requests still in the engine after the last arrival are served to the end. A run without a drain ends a
            few TTFT targets after the last arrival, and what is undone then counts as missed.
        detail: Keep per-second state and every change of bounds in the result.
    """

    device: DevicePlan
    load: LoadPlan
    policy: str
    targets: tuple[TargetPlan, ...] = (TargetPlan(),)
    kv_tokens: int | None = Field(default=None, ge=1)
    asynchronous: bool = True
    prefix_caching: bool = True
    warmup: float = Field(default=0.0, ge=0.0, lt=1.0)
    give_up_misses: int | None = None
    drain: bool = True
    detail: bool = True


class ReplayPlan(Description):
    """A recorded run to replay."""

    kind: Literal["replay"] = "replay"
    device: DevicePlan
    run: str
    asynchronous: bool = True


class TwinSlice(Description):
    """A slice of a search in the twin.

    Attributes:
        start: First row in the trace.
        seed: Seed.
        first: Rung of the rate to try first.
        deepest: Lowest rung worth trying.
    """

    start: int
    seed: int
    first: int
    deepest: int


class TwinPlan(Description):
    """Capacities of static bounds in the twin, a slice at a time.

    Attributes:
        run: The run whose policy gives the bounds; its load is varied.
        slices: The slices.
        width: Rungs between passing and failing at which a search stops.
    """

    run: RunPlan
    slices: tuple[TwinSlice, ...]
    width: int = Field(default=1, ge=1)
