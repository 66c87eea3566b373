"""Annotations of the resource's models that exist in the Kubernetes schema only: CEL rules and list types.

They stand in ``Annotated[...]`` beside the field they concern, or in a model's ``rules``; the CRD generator carries
them over. Pydantic's own checks say the same wherever a rule needs no more than one object.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from pydantic import GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

VALIDATIONS: Final = "x-kubernetes-validations"


@dataclass(frozen=True, slots=True)
class Rule:
    """A CEL rule with a message that says what to write instead; ``self`` is the value it is attached to."""

    rule: str
    message: str

    def as_validation(self) -> dict[str, str]:
        """Entry of ``x-kubernetes-validations``."""
        return {"rule": self.rule, "message": self.message}


@dataclass(frozen=True, slots=True, eq=False)
class Extension:
    """Keywords of the Kubernetes schema dialect that pydantic has no word for, such as ``x-kubernetes-list-type``."""

    keywords: Mapping[str, Any]

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {**handler(core), **self.keywords}


def cel(*rules: Rule) -> Extension:
    """CEL rules over the annotated value."""
    return Extension({VALIDATIONS: [rule.as_validation() for rule in rules]})


def list_map(*keys: str) -> Extension:
    """A list whose entries are merged by these keys, which are unique (server-side apply; duplicates are refused)."""
    return Extension({"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": list(keys)})


PRESERVE_UNKNOWN: Final = Extension({"type": "object", "x-kubernetes-preserve-unknown-fields": True})
"""An object whose fields the schema does not list."""
