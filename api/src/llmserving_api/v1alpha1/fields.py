"""Field types of the resource: bounded, so that CEL rules stay within the API server's cost budget."""

import re
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Final

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, GetJsonSchemaHandler
from pydantic.alias_generators import to_camel
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from llmserving_api.v1alpha1.rules import VALIDATIONS, Rule, cel

DURATION_PATTERN: Final = r"^\d+(\.\d+)?(ms|s|m)$"
_UNIT_SECONDS: Final = {"ms": 1e-3, "s": 1.0, "m": 60.0}
QUANTITY_PATTERN: Final = r"^(\d+(\.\d*)?|\.\d+)([KMGTPE]i|[numkMGTPE]|[eE][+-]?\d+)?$"

Percentile = Annotated[int, Field(ge=50, le=99)]
DNSLabel = Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", max_length=63)]
ObjectName = Annotated[str, Field(pattern=r"^[a-z0-9]([-.a-z0-9]*[a-z0-9])?$", max_length=253)]
"""Name of a Secret, ConfigMap or the like."""
Quantity = Annotated[int, Field(ge=0)] | Annotated[str, Field(max_length=32, pattern=QUANTITY_PATTERN)]
"""A Kubernetes quantity, int-or-string."""


class Model(BaseModel):
    """Base of all objects of the resource: camelCase names in YAML, unknown fields ignored as the API server prunes them."""

    model_config = ConfigDict(frozen=True, extra="ignore", alias_generator=to_camel, populate_by_name=True)

    rules: ClassVar[tuple[Rule, ...]] = ()
    """CEL rules over the whole object."""

    @classmethod
    def __get_pydantic_json_schema__(cls, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """The object's JSON schema with its CEL rules."""
        schema = handler(core)
        if cls.rules:
            handler.resolve_ref_schema(schema)[VALIDATIONS] = [rule.as_validation() for rule in cls.rules]
        return schema

    def manifest(self) -> dict[str, Any]:
        """As it is written in YAML: camelCase, without absent fields."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)


def duration_seconds(duration: str) -> float:
    """Seconds of a duration such as ``50ms``.

    Raises:
        ValueError: it does not match ``DURATION_PATTERN``.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)(ms|s|m)", duration)
    if match is None:
        raise ValueError(f"duration {duration!r}: write a number with ms, s or m, such as 50ms, 2s or 5m")
    return float(match.group(1)) * _UNIT_SECONDS[match.group(2)]


@dataclass(frozen=True, slots=True)
class _Between:
    """A duration within a range, checked by pydantic and by CEL alike."""

    least: str
    most: str

    @property
    def message(self) -> str:
        return f"write a duration from {self.least} to {self.most} with ms, s or m, such as 50ms, 2s or 1.5m"

    def check(self, duration: str) -> str:
        if not duration_seconds(self.least) <= duration_seconds(duration) <= duration_seconds(self.most):
            raise ValueError(f"duration {duration!r}: {self.message}")
        return duration

    @property
    def rule(self) -> Rule:
        form = "^[0-9]+([.][0-9]+)?(ms|s|m)$"
        within = f"duration(self) >= duration('{self.least}') && duration(self) <= duration('{self.most}')"
        return Rule(f"self.matches('{form}') && {within}", self.message)


_TARGET: Final = _Between("1ms", "15m")
_WINDOW: Final = _Between("10s", "1440m")
_DURATION_LENGTH: Final = 9
"""Keeps any number of minutes inside what CEL's ``duration()`` can hold."""

TargetDuration = Annotated[
    str, Field(pattern=DURATION_PATTERN, max_length=_DURATION_LENGTH), AfterValidator(_TARGET.check), cel(_TARGET.rule)
]
"""A latency target, up to what the project's latency histogram resolves."""
WindowDuration = Annotated[
    str, Field(pattern=DURATION_PATTERN, max_length=_DURATION_LENGTH), AfterValidator(_WINDOW.check), cel(_WINDOW.rule)
]
"""The span over which an SLA is judged."""
