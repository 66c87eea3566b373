"""From a pydantic model to a structural schema, the dialect of JSON schema that CustomResourceDefinitions take.

References are resolved, optional fields lose their null, quantities become int-or-string, lists are atomic unless they
say otherwise. What the dialect has no word for is refused with its place, never dropped: a constraint that silently
vanished would be a promise not kept.
"""

from collections.abc import Mapping
from typing import Any, Final

from pydantic import BaseModel

from llmserving_api.v1alpha1.rules import VALIDATIONS

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
_ORDER: Final[tuple[str, ...]] = ("description", "type", "format", "enum", "pattern", "default")


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
            node = {**_without(node, "const"), "enum": [node["const"]]}
        kind = node.get("type")
        if kind is None:
            raise UnsupportedSchemaError(f"{path}: a schema without a type is not structural")
        if kind == "number":
            raise UnsupportedSchemaError(f"{path}: resources hold no floats; use an integer, a duration or a quantity")
        schema: Schema = {}
        for keyword, value in node.items():
            schema.update(self._keyword(keyword, value, node, path))
        _check_bounded(schema, path)
        if kind == "array":
            schema.setdefault("x-kubernetes-list-type", "atomic")
        return _ordered(schema)

    def _keyword(self, keyword: str, value: Any, node: Schema, path: str) -> Schema:
        """What one keyword becomes; nothing where it is noise."""
        if keyword in _KEPT:
            return {keyword: value}
        if keyword in _DROPPED:
            return {}
        if keyword == "properties":
            return {keyword: self._properties(value, path)}
        if keyword == "items":
            return {keyword: self.convert(value, f"{path}[]")}
        if keyword == "additionalProperties":
            return self._additional(value, node, path)
        if keyword == "default":
            return {keyword: _present(value)} if self._defaults else {}
        raise UnsupportedSchemaError(f"{path}: keyword {keyword!r} has no counterpart in a structural schema")

    def _reference(self, node: Schema, path: str) -> Schema:
        name = node["$ref"].removeprefix("#/$defs/")
        if name in self._open:
            raise UnsupportedSchemaError(f"{path}: {name} contains itself; a structural schema cannot recurse")
        before, self._open = self._open, (*self._open, name)
        try:
            return self.convert(_beside(self._definitions[name], _without(node, "$ref")), path)
        finally:
            self._open = before

    def _union(self, node: Schema, path: str) -> Schema:
        """An optional field becomes one that need not be there; integer or string becomes Kubernetes' own form."""
        beside = _without(node, "anyOf")
        members = [member for member in node["anyOf"] if member != {"type": "null"}]
        if len(members) < len(node["anyOf"]) and beside.get("default", ...) is None:
            del beside["default"]
        if len(members) == 1:
            return self.convert(_beside(members[0], beside), path)
        if [member.get("type") for member in members] == ["integer", "string"]:
            number, text = members
            if "maxLength" not in text:
                raise UnsupportedSchemaError(f"{path}: string without maxLength")
            return {
                **{key: value for key, value in beside.items() if key in _KEPT},
                "anyOf": [{"type": "integer"}, {"type": "string"}],  # exactly this, the limits beside it
                **{key: value for key, value in (number | text).items() if key in {"minimum", "pattern", "maxLength"}},
                "x-kubernetes-int-or-string": True,
            }
        raise UnsupportedSchemaError(f"{path}: a union other than integer or string is not structural")

    def _properties(self, properties: Mapping[str, Schema], path: str) -> Schema:
        converted: Schema = {}
        for name, value in properties.items():
            converted[name] = self.convert(value, f"{path}.{name}")
            if "description" not in converted[name]:
                raise UnsupportedSchemaError(f"{path}.{name}: the field has no description")
        return converted

    def _additional(self, value: Any, node: Schema, path: str) -> Schema:
        if isinstance(value, dict):
            return {"additionalProperties": self.convert(value, f"{path}[*]")}
        if "properties" in node or node.get("x-kubernetes-preserve-unknown-fields"):
            return {}
        raise UnsupportedSchemaError(
            f"{path}: a map needs the type of its values, or x-kubernetes-preserve-unknown-fields"
        )


def _present(value: Any) -> Any:
    """A default without its absent fields. Written out, as CEL rules judge a default before those of its fields."""
    if isinstance(value, dict):
        return {key: _present(inner) for key, inner in value.items() if inner is not None}
    return value


def _without(node: Schema, keyword: str) -> Schema:
    return {key: value for key, value in node.items() if key != keyword}


def _beside(node: Schema, outer: Schema) -> Schema:
    """A node with what stands beside its reference: the outer word wins, CEL rules of both hold."""
    merged = {**node, **outer}
    if VALIDATIONS in node and VALIDATIONS in outer:
        merged[VALIDATIONS] = [*node[VALIDATIONS], *outer[VALIDATIONS]]
    return merged


def _check_bounded(schema: Schema, path: str) -> None:
    """Everything that may be long has a maximum, so that the API server can estimate what CEL rules cost."""
    bound = "maxProperties" if "additionalProperties" in schema else _BOUND_OF.get(schema["type"])
    if bound is not None and bound not in schema and "enum" not in schema:
        raise UnsupportedSchemaError(f"{path}: {schema['type']} without {bound}")


def _ordered(schema: Schema) -> Schema:
    """Description and type first, as people read them."""
    first = {key: schema[key] for key in _ORDER if key in schema}
    return first | {key: value for key, value in schema.items() if key not in first}
