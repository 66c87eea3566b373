"""What a load is: the description that a run carries."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class Description(BaseModel):
    """Base of the parts: frozen, no unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class LoadPlan(Description):
    """Which requests arrive and when.

    Attributes:
        trace: Trace file to slice, or None for a generated load.
        shape: Shape of a generated load, or of the arrivals laid over a trace's lengths; `own` keeps the trace's arrivals.
        requests: Number of requests.
        start: First row of the slice.
        rate: Mean arrivals per second; None keeps the trace's own times.
        seed: Seed of everything random.
    """

    trace: str | None = None
    shape: str = "own"
    requests: int = Field(default=2000, ge=1)
    start: int = Field(default=0, ge=0)
    rate: float | None = Field(default=None, gt=0)
    seed: int = 0
