"""The policy: one versioned JSON document from the operator to the agent.

A ConfigMap seeds new pods with it; afterwards the operator patches it as an annotation on live pods. The agent acts on
the document with the higher revision and reports which. An agent accepts its own ``POLICY_VERSION`` and ignores fields
it does not know, so the operator can be one minor version ahead.
"""

from enum import StrEnum
from typing import Annotated, Final, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

POLICY_VERSION: Final = 1


class Mode(StrEnum):
    """Whether decisions are carried out."""

    AUTO = "Auto"
    """Decide and act."""
    ADVISE = "Advise"
    """Decide, publish, do not act: the engine runs with its fallback bounds."""
    OFF = "Off"
    """Do not decide: the engine runs with its fallback bounds."""


class LawName(StrEnum):
    """Laws a resource can choose (``batching.policy``)."""

    STATIC = "Static"
    MEMORY = "Memory"
    SLA = "SLA"
    MEMORY_SLA = "MemorySLA"
    PREDICTIVE = "Predictive"
    WAIT = "Wait"
    NESTED_WAIT = "NestedWait"


DEFAULT_LAW: Final = LawName.PREDICTIVE


class _Document(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)


class Target(_Document):
    """At most (100 - percentile) % of requests or gaps exceed ``target_seconds``."""

    percentile: Annotated[int, Field(ge=50, le=99)]
    target_seconds: Annotated[float, Field(gt=0, le=86400)]


class Targets(_Document):
    """The SLA. Null: no such target."""

    time_to_first_token: Target | None = None
    inter_token_latency: Target | None = None
    end_to_end_latency: Target | None = None
    window_seconds: Annotated[float, Field(ge=10, le=86400)] = 300.0


class Limits(_Document):
    """Hard minimum and maximum of one bound, both known."""

    min: Annotated[int, Field(ge=1)]
    max: Annotated[int, Field(ge=1)]

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.min > self.max:
            raise ValueError(f"min {self.min} is above max {self.max}")
        return self


class AskedLimits(_Document):
    """What the user asks of one bound; without a maximum it is the engine's ceiling, whatever that turns out to be."""

    min: Annotated[int, Field(ge=1)]
    max: Annotated[int | None, Field(ge=1)] = None

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.max is not None and self.min > self.max:
            raise ValueError(f"min {self.min} is above max {self.max}")
        return self

    def within(self, ceiling: int) -> Limits:
        """The limits on an engine with this ceiling: neither end lies above it."""
        most = ceiling if self.max is None else min(self.max, ceiling)
        return Limits(min=min(self.min, most), max=most)


class Policy(_Document):
    """What an agent acts on."""

    version: Annotated[int, Field(ge=1, le=POLICY_VERSION)] = POLICY_VERSION
    revision: Annotated[int, Field(ge=0)]
    """The resource's generation: rises with every edit."""
    namespace: str
    name: str
    mode: Mode = Mode.AUTO
    law: LawName = DEFAULT_LAW
    sla: Targets = Targets()
    max_num_seqs: AskedLimits
    max_num_batched_tokens: AskedLimits
