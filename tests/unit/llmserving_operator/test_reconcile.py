"""What a resource is read as; passes of the reconciler are run against a real API server."""

from collections.abc import Callable
from typing import Any

import pytest

from llmserving_api.v1alpha1 import LLMServingSpec
from llmserving_operator.errors import RefusedError
from llmserving_operator.reconcile import read_spec


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"replicas": 0}, "spec.replicas: 0: Input should be greater than or equal to 1"),
        ({"sla": {"timeToFirstToken": {"target": "soon"}}}, "spec.sla.timeToFirstToken.target: 'soon': "),
        ({"model": {}}, "spec.model.uri: Field required"),
    ],
)
def test_a_spec_that_is_not_understood_is_refused_with_field_value_and_rule(
    change: dict[str, Any], told: str, make_spec: Callable[..., LLMServingSpec]
) -> None:
    spec = make_spec().model_dump(mode="json", by_alias=True, exclude_none=True)

    with pytest.raises(RefusedError) as refused:
        read_spec({"spec": {**spec, **change}})
    assert str(refused.value).startswith(told)
    assert refused.value.reason == "InvalidSpec"
