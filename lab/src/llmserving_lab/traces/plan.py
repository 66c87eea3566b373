"""What a load is: the description that a run carries."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class Description(BaseModel):
    """Base of the parts: frozen, no unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class LoadPlan(Description):
    """Which requests arrive and when.

    Attributes:
        trace: Trace file to slice, or None for generated requests.
        kind: Kind of generated requests, see `generated.KINDS`, or lengths as `given` reads them.
        arrivals: `own` keeps a trace's arrival pattern; other patterns, see `shapes.SHAPES`, replace it.
        requests: Number of requests.
        start: First row of a trace's slice.
        rate: Mean arrivals per second; None keeps the trace's own times.
        seed: Seed of everything random.
        abort_after: Seconds after which a client gives up.
        retries: How often a client that gave up sends its request again at once.
    """

    trace: str | None = None
    kind: str = "conversation"
    arrivals: str = "own"
    requests: int = Field(default=2000, ge=1)
    start: int = Field(default=0, ge=0)
    rate: float | None = Field(default=None, gt=0)
    seed: int = 0
    abort_after: float | None = Field(default=None, gt=0)
    retries: int = Field(default=0, ge=0)
