"""Field types of the resource: bounded, so that CEL rules stay within the API server's cost budget."""

import re
from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

DURATION_PATTERN: Final = r"^\d+(\.\d+)?(ms|s|m)$"
_UNIT_SECONDS: Final = {"ms": 1e-3, "s": 1.0, "m": 60.0}

Duration = Annotated[str, Field(pattern=DURATION_PATTERN, max_length=16)]
"""A length of time such as ``50ms``, ``2s`` or ``5m``."""
Percentile = Annotated[int, Field(ge=50, le=99)]
DNSLabel = Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", max_length=63)]
Quantity = int | Annotated[str, Field(max_length=32)]
"""A Kubernetes quantity, int-or-string."""


class Model(BaseModel):
    """Base of all objects of the resource: camelCase names in YAML, unknown fields ignored as the API server prunes them."""

    model_config = ConfigDict(frozen=True, extra="ignore", alias_generator=to_camel, populate_by_name=True)

    def manifest(self) -> dict[str, Any]:
        """As it is written in YAML: camelCase, without absent fields."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)


def duration_seconds(duration: str) -> float:
    """Seconds of a duration such as ``50ms``.

    Raises:
        ValueError: it does not match ``DURATION_PATTERN``.
    """
    if re.match(DURATION_PATTERN, duration) is None:
        raise ValueError(f"duration {duration!r}: write a number with ms, s or m, such as 50ms, 2s or 5m")
    number, unit = re.fullmatch(r"([\d.]+)(ms|s|m)", duration).groups()  # type: ignore[union-attr]
    return float(number) * _UNIT_SECONDS[unit]
