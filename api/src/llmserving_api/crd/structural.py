"""From a pydantic model to a structural schema, the dialect of JSON schema that CustomResourceDefinitions take.

References are resolved, optional fields lose their null, quantities become int-or-string, lists are atomic unless they
say otherwise. What the dialect has no word for is refused with its place, never dropped: a constraint that silently
vanished would be a promise not kept.
"""

from collections.abc import Mapping
from typing import Any, Final

from pydantic import BaseModel

Schema = dict[str, Any]

_DROPPED: Final = frozenset({"title", "$defs"})
"""Noise, or resolved before."""
_KEPT: Final = frozenset(
    {
        "type",
        "format",
        "description",
        "enum",
        "pattern",
        "minLength",
        "maxLength",
        "minimum",
        "maximum",
        "minItems",
        "maxItems",
        "minProperties",
        "maxProperties",
        "required",
        "x-kubernetes-validations",
        "x-kubernetes-int-or-string",
        "x-kubernetes-preserve-unknown-fields",
        "x-kubernetes-list-type",
        "x-kubernetes-list-map-keys",
        "x-kubernetes-map-type",
    }
)
_BOUND_OF: Final = {"string": "maxLength", "array": "maxItems"}
_ORDER: Final = ("description", "type", "format", "enum", "pattern", "default")


class UnsupportedSchemaError(ValueError):
    """A model says something that a structural schema cannot."""


def structural_schema(model: type[BaseModel], *, defaults: bool = True) -> Schema:
    """The structural schema of a model.

    Args:
        model: names are taken by alias.
        defaults: whether to carry defaults over; a status has none, as the API server would write them into it.

    Raises:
        UnsupportedSchemaError: the model holds a float, an unbounded string, list or map, a union, a recursion, an
            undescribed field or a keyword Kubernetes does not know.
    """
    root = model.model_json_schema(by_alias=True)
    return _Converter(root.get("$defs", {}), defaults).convert(root, model.__name__)


class _Converter:
    def __init__(self, definitions: Mapping[str, Schema], defaults: bool) -> None:
        self._definitions = definitions
        self._defaults = defaults
        self._open: tuple[str, ...] = ()

    def convert(self, node: Schema, path: str) -> Schema:
        """One node and everything below it; ``path`` names it in errors."""
        if "$ref" in node:
            return self._reference(node, path)
        if "anyOf" in node:
            return self._union(node, path)
        if "const" in node:
            node = {**{key: value for key, value in node.items() if key != "const"}, "enum": [node["const"]]}
        kind = node.get("type")
        if kind == "number":
            raise UnsupportedSchemaError(
                f"{path}: floats are not for resources; use an integer, a duration or a quantity"
            )
        if kind is None:
            raise UnsupportedSchemaError(f"{path}: a schema without a type is not structural")
        schema: Schema = {}
        for key, value in node.items():
            if key in _KEPT:
                schema[key] = value
            elif key == "properties":
                schema[key] = self._properties(value, path)
            elif key == "items":
                schema[key] = self.convert(value, f"{path}[]")
            elif key == "additionalProperties":
                self._additional(schema, node, path)
            elif key == "default":
                self._default(schema, value, kind)
            elif key not in _DROPPED:
                raise UnsupportedSchemaError(f"{path}: keyword {key!r} has no counterpart in a structural schema")
        self._bounded(schema, path)
        if kind == "array":
            schema.setdefault("x-kubernetes-list-type", "atomic")
        return _ordered(schema)

    def _reference(self, node: Schema, path: str) -> Schema:
        name = node["$ref"].removeprefix("#/$defs/")
        if name in self._open:
            raise UnsupportedSchemaError(f"{path}: {name} contains itself; a structural schema cannot recurse")
        beside = {key: value for key, value in node.items() if key != "$ref"}
        before, self._open = self._open, (*self._open, name)
        try:
            return self.convert({**self._definitions[name], **beside}, path)
        finally:
            self._open = before

    def _union(self, node: Schema, path: str) -> Schema:
        beside = {key: value for key, value in node.items() if key != "anyOf"}
        members = [member for member in node["anyOf"] if member != {"type": "null"}]
        if len(members) < len(node["anyOf"]) and beside.get("default", ...) is None:
            del beside["default"]
        if len(members) == 1:
            return self.convert({**members[0], **beside}, path)
        if [member.get("type") for member in members] == ["integer", "string"]:
            return self._int_or_string(*members, beside, path)
        raise UnsupportedSchemaError(f"{path}: a union other than integer or string is not structural")

    def _int_or_string(self, number: Schema, text: Schema, beside: Schema, path: str) -> Schema:
        limits = {key: value for key, value in text.items() if key in {"pattern", "maxLength"}}
        if "maxLength" not in limits:
            raise UnsupportedSchemaError(f"{path}: the string has no maxLength")
        minimum = {"minimum": number["minimum"]} if "minimum" in number else {}
        return {
            **{key: value for key, value in beside.items() if key in _KEPT},
            "anyOf": [{"type": "integer", **minimum}, {"type": "string"}],
            **limits,
            "x-kubernetes-int-or-string": True,
        }

    def _properties(self, properties: Mapping[str, Schema], path: str) -> Schema:
        converted: Schema = {}
        for name, value in properties.items():
            converted[name] = self.convert(value, f"{path}.{name}")
            if "description" not in converted[name]:
                raise UnsupportedSchemaError(f"{path}.{name}: the field has no description")
        return converted

    def _additional(self, schema: Schema, node: Schema, path: str) -> None:
        additional = node["additionalProperties"]
        if isinstance(additional, dict):
            schema["additionalProperties"] = self.convert(additional, f"{path}[*]")
        elif not node.get("x-kubernetes-preserve-unknown-fields") and "properties" not in node:
            raise UnsupportedSchemaError(
                f"{path}: a map needs a type of its values, or x-kubernetes-preserve-unknown-fields"
            )

    def _default(self, schema: Schema, value: Any, kind: str) -> None:
        """Objects default to {}: the API server then fills in the defaults of their fields."""
        if self._defaults:
            schema["default"] = {} if kind == "object" else value

    @staticmethod
    def _bounded(schema: Schema, path: str) -> None:
        """Everything that may be long has a maximum, so that CEL costs can be estimated."""
        bound = _BOUND_OF.get(schema["type"])
        if "additionalProperties" in schema:
            bound = "maxProperties"
        if bound is not None and bound not in schema and "enum" not in schema:
            raise UnsupportedSchemaError(f"{path}: {schema['type']} without {bound}")


def _ordered(schema: Schema) -> Schema:
    """Description and type first, as people read them."""
    first = {key: schema[key] for key in _ORDER if key in schema}
    return {**first, **{key: value for key, value in schema.items() if key not in first}}
