"""Rules of the resource: said once beside the field, kept by the API server (CEL) and by pydantic alike.

A field's rules stand in its ``Annotated[...]`` as a ``Constraint``, those over a whole object in its model's ``rules``
next to a pydantic validator. One table of resources holds both sides against each other (``tests/cluster``).
"""

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

VALIDATIONS: Final = "x-kubernetes-validations"


@dataclass(frozen=True, slots=True)
class Rule:
    """A CEL rule with a message that says what to write instead; ``self`` is the value it is attached to."""

    rule: str
    message: str

    def as_validation(self) -> dict[str, str]:
        """Entry of ``x-kubernetes-validations``."""
        return {"rule": self.rule, "message": self.message}


class Constraint(ABC):
    """An annotation of a string field that both sides check."""

    @property
    @abstractmethod
    def rules(self) -> tuple[Rule, ...]:
        """What the API server checks."""

    @abstractmethod
    def refusal(self, value: str) -> str | None:
        """What pydantic checks: why the value is refused, None when it is fine."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self._check, handler(source))

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {**handler(core), VALIDATIONS: [rule.as_validation() for rule in self.rules]}

    def _check(self, value: str) -> str:
        refusal = self.refusal(value)
        if refusal is not None:
            raise ValueError(f"{value!r}: {refusal}")
        return value


@dataclass(frozen=True, slots=True)
class Form(Constraint):
    """A string that matches a pattern whole, with a message in place of the bare pattern."""

    pattern: str
    """Without anchors; in the syntax that RE2 and Python share."""
    instead: str

    @property
    def rules(self) -> tuple[Rule, ...]:
        """One match."""
        escaped = self.pattern.replace("\\", "\\\\").replace("'", "\\'")
        return (Rule(f"self.matches('^({escaped})$')", self.instead),)

    def refusal(self, value: str) -> str | None:
        """The same match."""
        return None if re.fullmatch(self.pattern, value, re.ASCII) else self.instead


@dataclass(frozen=True, slots=True, eq=False)
class Extension:
    """Keywords of the Kubernetes schema dialect that pydantic has no word for, such as ``x-kubernetes-list-type``."""

    keywords: Mapping[str, Any]

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {**handler(core), **self.keywords}


def list_map(*keys: str) -> Extension:
    """A list whose entries are merged by these keys, which are unique (server-side apply; duplicates are refused)."""
    return Extension({"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": list(keys)})


PRESERVE_UNKNOWN: Final = Extension({"type": "object", "x-kubernetes-preserve-unknown-fields": True})
"""An object whose fields the schema does not list."""
