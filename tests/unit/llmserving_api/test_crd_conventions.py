"""The CRD keeps Kubernetes' API conventions (sig-architecture/api-conventions.md)."""

import re
from collections.abc import Iterator
from typing import Any

import pytest

from llmserving_api.conditions import (
    CONDITION_MEANINGS,
    REASON_MEANINGS,
    ConditionReason,
    ConditionType,
    DecisionReason,
)
from llmserving_api.crd import custom_resource_definition
from llmserving_api.v1alpha1 import LLMServingSpec

CRD = custom_resource_definition()
VERSION = CRD["spec"]["versions"][0]
ROOT = VERSION["schema"]["openAPIV3Schema"]
SPEC, STATUS = ROOT["properties"]["spec"], ROOT["properties"]["status"]
PASCAL = re.compile(r"[A-Z][A-Za-z0-9]*")


def fields(schema: dict[str, Any], path: str = "") -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Every named field below a schema: its path, its name and its schema."""
    for name, value in schema.get("properties", {}).items():
        yield f"{path}.{name}", name, value
        yield from fields(value, f"{path}.{name}")
    for key in ("items", "additionalProperties"):
        if key in schema:
            yield from fields(schema[key], f"{path}[]")


ALL = [*fields(SPEC, "spec"), *fields(STATUS, "status")]


def nodes(schema: Any) -> Iterator[dict[str, Any]]:
    if isinstance(schema, dict):
        yield schema
        for value in schema.values():
            yield from nodes(value)
    elif isinstance(schema, list):
        for value in schema:
            yield from nodes(value)


@pytest.mark.parametrize(("path", "name", "schema"), ALL, ids=[path for path, _, _ in ALL])
def test_every_description_begins_with_the_name_of_its_field_and_ends_with_a_full_stop(
    path: str, name: str, schema: dict[str, Any]
) -> None:
    assert re.match(rf"{name}\b", schema["description"])
    assert schema["description"].endswith(".")


def test_names_are_camel_case() -> None:
    assert all(re.fullmatch(r"[a-z][a-zA-Z0-9]*", name) for _, name, _ in ALL)


def test_there_are_no_floats() -> None:
    assert all(node.get("type") != "number" for node in nodes(ROOT))


def test_enums_are_pascal_case() -> None:
    # An operator of a label selector and the status of a condition are Kubernetes' own words, and PascalCase too.
    for path, _, schema in ALL:
        for value in schema.get("enum", ()):
            assert PASCAL.fullmatch(value), path


def test_no_field_is_both_required_and_defaulted() -> None:
    for node in nodes(ROOT):
        if isinstance(node.get("properties"), dict):
            for name in node.get("required", ()):
                assert "default" not in node["properties"][name], name


def test_every_status_field_may_be_absent() -> None:
    assert "required" not in STATUS


def test_conditions_come_first_and_are_a_map_by_type() -> None:
    assert next(iter(STATUS["properties"])) == "conditions"
    conditions = STATUS["properties"]["conditions"]
    assert conditions["x-kubernetes-list-type"] == "map"
    assert conditions["x-kubernetes-list-map-keys"] == ["type"]
    assert conditions["items"]["properties"]["status"]["enum"] == ["True", "False", "Unknown"]
    assert set(conditions["items"]["required"]) >= {"type", "status", "lastTransitionTime", "reason"}


def test_there_is_no_phase() -> None:
    assert "phase" not in {name for _, name, _ in fields(STATUS)}


def test_condition_types_and_reasons_are_single_words() -> None:
    for value in (*ConditionType, *ConditionReason, *DecisionReason):
        assert PASCAL.fullmatch(value)


def test_every_condition_and_reason_is_explained() -> None:
    assert list(CONDITION_MEANINGS) == list(ConditionType)
    assert list(REASON_MEANINGS) == list(ConditionReason)


def test_every_rule_has_a_message_that_is_one_line() -> None:
    rules = [rule for node in nodes(ROOT) for rule in node.get("x-kubernetes-validations", ())]
    assert len(rules) > 20
    for rule in rules:
        assert 10 < len(rule["message"]) < 2048
        assert "\n" not in rule["message"]


def test_scale_and_status_are_subresources() -> None:
    assert VERSION["subresources"]["status"] == {}
    scale = VERSION["subresources"]["scale"]
    assert scale["specReplicasPath"] == ".spec.replicas"
    assert "replicas" in SPEC["properties"]
    assert {"replicas", "selector"} <= STATUS["properties"].keys()


def test_kubectl_get_shows_what_people_ask_first() -> None:
    columns = VERSION["additionalPrinterColumns"]
    shown = [column["name"].upper() for column in columns if not column.get("priority")]
    assert shown == ["MODEL", "READY", "REPLICAS", "TTFT", "ITL", "SLA", "BATCH", "AGE"]
    wide = [column["name"].upper() for column in columns if column.get("priority")]
    assert wide == ["POLICY", "ATTAINMENT", "KV", "URL", "REASON"]


def test_columns_point_at_fields_that_exist() -> None:
    for column in VERSION["additionalPrinterColumns"]:
        path = column["jsonPath"]
        if path.startswith(".metadata"):
            continue
        node = ROOT
        for part in re.sub(r"\[\?[^]]*\]", "[]", path).strip(".").split("."):
            node = node["properties"][part.removesuffix("[]")]
            if part.endswith("[]"):
                node = node["items"]
        assert node["type"] in {"string", "integer"}


def test_defaults_of_the_schema_are_those_of_the_models() -> None:
    def defaults(schema: dict[str, Any]) -> Iterator[tuple[str, Any]]:
        for name, value in schema.get("properties", {}).items():
            if "default" in value:
                yield name, value["default"]

    smallest = {"model": {"uri": "hf://a/b"}, "engine": {"image": "vllm"}}
    manifest = LLMServingSpec.model_validate(smallest).manifest()
    assert dict(defaults(SPEC)) == {name: value for name, value in manifest.items() if name not in smallest}
