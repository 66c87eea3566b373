"""JSON schemas of the documents between the parts: valid, as committed, and they judge as the models do."""

import json
from importlib.resources import files
from typing import Any

import jsonschema
import pytest
from pydantic import ValidationError

from llmserving_api.schemas import DOCUMENTS, document_schema

POLICY = {
    "revision": 3,
    "namespace": "default",
    "name": "chat",
    "mode": "Auto",
    "law": "MemorySLA",
    "sla": {"inter_token_latency": {"percentile": 95, "target_seconds": 0.05}},
    "max_num_seqs": {"min": 8, "max": 256},
    "max_num_batched_tokens": {"min": 256, "max": 8192},
}


@pytest.mark.parametrize("name", DOCUMENTS)
def test_the_committed_schema_is_valid_and_the_models(name: str) -> None:
    committed = json.loads(files("llmserving_api.schemas").joinpath(f"{name}.json").read_text())
    jsonschema.Draft202012Validator.check_schema(committed)
    assert committed == document_schema(name)


@pytest.mark.parametrize(
    ("name", "document", "good"),
    [
        ("policy", POLICY, True),
        ("policy", {**POLICY, "from_a_later_version": 1}, True),
        ("policy", {**POLICY, "version": 99}, False),
        ("policy", {**POLICY, "mode": "auto"}, False),
        ("policy", {**POLICY, "sla": {"inter_token_latency": {"percentile": 100, "target_seconds": 0.05}}}, False),
        ("policy", {**POLICY, "max_num_seqs": {"min": 0, "max": 1}}, False),
        ("policy", {key: value for key, value in POLICY.items() if key != "max_num_seqs"}, False),
        ("runtime-patch", {"operation_id": 1, "max_num_seqs": 64}, True),
        ("runtime-patch", {"operation_id": 1, "max_num_seq": 64}, False),
        ("runtime-patch", {"max_num_seqs": 64}, False),
        ("runtime-patch", {"operation_id": 1, "max_num_seqs": 0}, False),
        ("runtime-patch", {"operation_id": 1, "lease_seconds": 0}, False),
        (
            "control-error",
            {"error": "above the ceiling", "field": "max_num_seqs", "value": "9", "allowed": "1 to 8"},
            True,
        ),
    ],
)
def test_schema_and_model_judge_alike(name: str, document: dict[str, Any], good: bool) -> None:
    validator = jsonschema.Draft202012Validator(document_schema(name))
    assert validator.is_valid(document) == good
    try:
        DOCUMENTS[name].model_validate(document)
    except ValidationError:
        assert not good
    else:
        assert good
