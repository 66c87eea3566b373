"""The table of good and bad resources, judged by pydantic; the API server judges the same table in tests/cluster."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from llmserving_api.v1alpha1 import LLMServingSpec

TABLE = yaml.safe_load((Path(__file__).parents[2] / "golden" / "resources.yaml").read_text())


def merge(base: Any, change: Any) -> Any:
    """JSON merge patch: null removes."""
    if not isinstance(change, dict) or not isinstance(base, dict):
        return change
    merged = {**base, **{key: merge(base.get(key, {}), value) for key, value in change.items()}}
    return {key: value for key, value in merged.items() if change.get(key, ...) is not None}


def accepted(case: dict[str, Any]) -> bool:
    resource = merge(TABLE["base"], case["change"])
    try:
        LLMServingSpec.model_validate(resource["spec"])
    except ValidationError:
        return False
    return True


@pytest.mark.parametrize("name", [name for name, case in TABLE["cases"].items() if case.get("only") != "server"])
def test_pydantic_judges_as_the_api_server(name: str) -> None:
    case = TABLE["cases"][name]
    assert accepted(case) == ("message" not in case)


@pytest.mark.parametrize(
    ("batching", "says"),
    [
        ({"maxNumSeqs": {"max": 4}}, "min 8 is above max 4"),
        ({"maxNumSeqs": {"max": 4096}}, "maxNumSeqs.max 4096: .* above 2048, .* write maxNumBatchedTokens.max too"),
        (
            {"maxNumSeqs": {"max": 512}, "maxNumBatchedTokens": {"max": 256}},
            "maxNumBatchedTokens.max 256, maxNumSeqs.max 512: .* raise maxNumBatchedTokens.max",
        ),
    ],
)
def test_a_refused_maximum_is_named_with_its_value(batching: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        LLMServingSpec.model_validate({**TABLE["base"]["spec"], "batching": batching})


def test_pydantic_says_what_to_write_instead() -> None:
    for case in TABLE["cases"].values():
        if case.get("message", "").startswith(("write", "leave")):
            with pytest.raises(ValidationError, match=re.escape(case["message"][:40])):
                LLMServingSpec.model_validate(merge(TABLE["base"], case["change"])["spec"])
