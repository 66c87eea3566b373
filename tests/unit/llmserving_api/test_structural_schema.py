"""From pydantic to a structural schema: what is carried over, and what is refused rather than dropped."""

from typing import Annotated, ClassVar, Literal

import pytest
from pydantic import BaseModel, Field

from llmserving_api.crd import UnsupportedSchemaError, structural_schema
from llmserving_api.v1alpha1.fields import Model
from llmserving_api.v1alpha1.resources import Quantity
from llmserving_api.v1alpha1.rules import Form, Rule, list_map

Text = Annotated[str, Field(max_length=10)]


def field(kind: object, default: object = ..., **constraints: object) -> type[BaseModel]:
    """A model with one described field."""
    annotations = {"field": Annotated[kind, Field(description="field of the test.", **constraints)]}
    return type("Sample", (Model,), {"__annotations__": annotations, **({} if default is ... else {"field": default})})


def converted(kind: object, default: object = ..., **constraints: object) -> dict[str, object]:
    return dict(structural_schema(field(kind, default, **constraints))["properties"]["field"])


def test_references_are_resolved() -> None:
    class Inner(Model):
        """An inner object."""

        text: Annotated[Text, Field(description="text of it.")]

    schema = structural_schema(field(Inner))
    assert schema["properties"]["field"]["properties"]["text"]["maxLength"] == 10
    assert "$ref" not in str(schema)
    assert "$defs" not in schema


def test_an_optional_field_need_not_be_there_and_is_never_null() -> None:
    schema = structural_schema(field(Text | None, None))
    assert "required" not in schema
    assert schema["properties"]["field"] == {"description": "field of the test.", "type": "string", "maxLength": 10}


def test_a_quantity_is_int_or_string_as_kubernetes_writes_it() -> None:
    schema = converted(Quantity)
    assert schema["x-kubernetes-int-or-string"] is True
    assert schema["anyOf"] == [{"type": "integer"}, {"type": "string"}]
    assert schema["maxLength"] == 32
    assert "type" not in schema


def test_a_literal_becomes_an_enum() -> None:
    assert converted(Literal["One"])["enum"] == ["One"]
    assert converted(Literal["One", "Two"])["enum"] == ["One", "Two"]


def test_lists_are_atomic_unless_they_have_keys() -> None:
    class Named(Model):
        """A named object."""

        name: Annotated[Text, Field(description="name of it.")]

    assert converted(list[Text], max_length=3)["x-kubernetes-list-type"] == "atomic"
    keyed = structural_schema(field(Annotated[list[Named], Field(max_length=3), list_map("name")]))
    assert keyed["properties"]["field"]["x-kubernetes-list-type"] == "map"
    assert keyed["properties"]["field"]["x-kubernetes-list-map-keys"] == ["name"]


def test_defaults_of_objects_are_written_out_without_absent_fields() -> None:
    class Inner(Model):
        """An inner object."""

        number: Annotated[int, Field(description="number of it.")] = 3
        absent: Annotated[int | None, Field(description="absent by default.")] = None

    schema = structural_schema(field(Inner, Inner()))
    assert schema["properties"]["field"]["default"] == {"number": 3}


def test_a_status_has_no_defaults() -> None:
    schema = structural_schema(field(int, 3), defaults=False)
    assert "default" not in schema["properties"]["field"]


def test_rules_of_a_field_and_of_its_model_both_hold() -> None:
    class Inner(Model):
        """An inner object."""

        rules: ClassVar[tuple[Rule, ...]] = (Rule("self.text != 'a'", "write anything but a"),)
        text: Annotated[Text, Form("[a-z]+", "write small letters"), Field(description="text of it.")]

    schema = structural_schema(field(Inner))["properties"]["field"]
    assert schema["x-kubernetes-validations"] == [{"rule": "self.text != 'a'", "message": "write anything but a"}]
    assert schema["properties"]["text"]["x-kubernetes-validations"] == [
        {"rule": "self.matches('^([a-z]+)$')", "message": "write small letters"}
    ]


class Recursive(Model):
    """An object that contains itself."""

    again: Annotated["Recursive | None", Field(description="again the same.")] = None


@pytest.mark.parametrize(
    ("model", "says"),
    [
        (field(float), "no floats"),
        (field(str), "string without maxLength"),
        (field(list[Text]), "array without maxItems"),
        (field(list[str], max_length=3), r"field\[\]: string without maxLength"),
        (field(dict[str, Text]), "without maxProperties"),
        (field(int | bool), "a union other than integer or string"),
        (field(Text | int), "a union other than integer or string"),
        (field(int | str), "string without maxLength"),
        (field(object), "without a type"),
        (field(dict), "a map needs the type of its values"),
        (field(set[Text], max_length=3), "'uniqueItems' has no counterpart"),
        (field(int, gt=0), "'exclusiveMinimum' has no counterpart"),
        (field(tuple[int, int]), "has no counterpart"),
        (Recursive, "contains itself"),
    ],
)
def test_what_the_dialect_lacks_is_refused(model: type[BaseModel], says: str) -> None:
    with pytest.raises(UnsupportedSchemaError, match=says):
        structural_schema(model)


def test_an_undescribed_field_is_refused() -> None:
    class Silent(Model):
        """An object with an undescribed field."""

        number: int

    with pytest.raises(UnsupportedSchemaError, match="number: the field has no description"):
        structural_schema(Silent)
