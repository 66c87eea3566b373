"""Field types of the resource: bounded, so that CEL rules stay within the API server's cost budget."""

import re
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Final

from pydantic import BaseModel, ConfigDict, Field, GetJsonSchemaHandler
from pydantic.alias_generators import to_camel
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from llmserving_api.v1alpha1.rules import VALIDATIONS, Constraint, Form, Rule

_UNIT_SECONDS: Final = {"ms": 1e-3, "s": 1.0, "m": 60.0}
_DURATION: Final = r"([0-9]+(?:[.][0-9]+)?)(ms|s|m)"
Percentile = Annotated[int, Field(ge=50, le=99)]
ObjectName = Annotated[
    str,
    Field(min_length=1, max_length=253),
    Form("[a-z0-9]([-.a-z0-9]*[a-z0-9])?", "write an object's name: a-z, 0-9, - and ., such as hub-token"),
]
"""Name of a Secret or a ConfigMap."""
DataKey = Annotated[
    str,
    Field(min_length=1, max_length=253),
    Form("[-._a-zA-Z0-9]+", "write a key of the object: letters, digits, -, _ and ., such as token"),
]
"""Key within a Secret or a ConfigMap."""


class Model(BaseModel):
    """Base of all objects of the resource: camelCase in YAML, unknown fields ignored as the API server prunes them."""

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
        ValueError: it is no number with ms, s or m.
    """
    match = re.fullmatch(_DURATION, duration, re.ASCII)
    if match is None:
        raise ValueError(f"duration {duration!r}: write a number with ms, s or m, such as 50ms, 2s or 5m")
    return float(match.group(1)) * _UNIT_SECONDS[match.group(2)]


@dataclass(frozen=True, slots=True)
class _Between(Constraint):
    """A duration within a range."""

    least: str
    most: str

    @property
    def rules(self) -> tuple[Rule, ...]:
        form = f"self.matches('^{_DURATION}$')"
        within = f"duration(self) >= duration('{self.least}') && duration(self) <= duration('{self.most}')"
        return (Rule(f"{form} && {within}", self._instead),)

    def refusal(self, value: str) -> str | None:
        try:
            seconds = duration_seconds(value)
        except ValueError:
            return self._instead
        within = duration_seconds(self.least) <= seconds <= duration_seconds(self.most)
        return None if within else self._instead

    @property
    def _instead(self) -> str:
        return f"write a duration from {self.least} to {self.most} with ms, s or m, such as 50ms, 2s or 1.5m"


_DURATION_LENGTH: Final = 9
"""Any number of minutes this long is within what CEL's ``duration()`` can hold."""

TargetDuration = Annotated[str, Field(max_length=_DURATION_LENGTH), _Between("1ms", "15m")]
"""A latency target, up to what the project's latency histogram resolves."""
WindowDuration = Annotated[str, Field(max_length=_DURATION_LENGTH), _Between("10s", "1440m")]
"""The span over which an SLA is judged."""
