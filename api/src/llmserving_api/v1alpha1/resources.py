"""Compute resources of the engine's container, as in a pod, but bounded and checked before there is one."""

import re
from decimal import Decimal
from typing import Annotated, ClassVar, Final, Self

from pydantic import Field, model_validator

from llmserving_api.v1alpha1.fields import Model
from llmserving_api.v1alpha1.rules import Rule

_QUANTITY: Final = r"^([0-9]+([.][0-9]*)?|[.][0-9]+)([KMGTPE]i|[numkMGTPE]|[eE][+-]?[0-9]{1,2})?$"
_DECIMAL: Final = ("n", "u", "m", "", "k", "M", "G", "T", "P", "E")
_FACTORS: Final = {
    **{suffix: Decimal(1000) ** power for power, suffix in enumerate(_DECIMAL, -3)},
    **{f"{suffix}i": Decimal(1024) ** power for power, suffix in enumerate("KMGTPE", 1)},
}

Quantity = Annotated[int, Field(ge=0)] | Annotated[str, Field(max_length=32, pattern=_QUANTITY)]
"""A Kubernetes quantity, int-or-string."""


def quantity_value(quantity: Quantity) -> Decimal:
    """The number that a quantity such as ``1``, ``500m``, ``48Gi`` or ``1e3`` stands for."""
    match = re.fullmatch(r"([0-9.]+)(.*)", str(quantity))
    if match is None:
        raise ValueError(f"{quantity!r} is no quantity, such as 500m or 48Gi")
    number, suffix = match.groups()
    if suffix in _FACTORS:
        return Decimal(number) * _FACTORS[suffix]
    return Decimal(number + suffix)


class Resources(Model):
    """Compute resources of the engine's container."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "!has(self.limits) || !has(self.requests) || self.requests.all(name, !(name in self.limits) || "
            "quantity(string(self.requests[name])).compareTo(quantity(string(self.limits[name]))) <= 0)",
            "a request is above its limit: lower the request or raise the limit",
        ),
        Rule(
            "!has(self.limits) || self.limits.all(name, !name.contains('/') || "
            "quantity(string(self.limits[name])).isInteger())",
            "write whole numbers of extended resources such as nvidia.com/gpu",
        ),
    )

    limits: Annotated[
        dict[str, Quantity] | None,
        Field(max_length=32, description="limits by resource name, such as nvidia.com/gpu: 1."),
    ] = None
    requests: Annotated[
        dict[str, Quantity] | None,
        Field(max_length=32, description="requests by resource name; the limits by default, as in any pod."),
    ] = None

    @model_validator(mode="after")
    def _possible(self) -> Self:
        limits = {name: quantity_value(quantity) for name, quantity in (self.limits or {}).items()}
        requests = {name: quantity_value(quantity) for name, quantity in (self.requests or {}).items()}
        if any(requests[name] > limits[name] for name in requests.keys() & limits.keys()):
            raise ValueError(self.rules[0].message)
        if any("/" in name and value % 1 for name, value in limits.items()):
            raise ValueError(self.rules[1].message)
        return self
