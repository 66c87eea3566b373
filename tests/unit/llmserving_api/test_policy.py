"""The policy document."""

from typing import Any

import pytest
from pydantic import ValidationError

from llmserving_api.policy import DEFAULT_LAW, AskedLimits, Limits, Mode, Policy


def document(**changes: Any) -> dict[str, Any]:
    policy = {
        "revision": 3,
        "namespace": "default",
        "name": "chat",
        "max_num_seqs": {"min": 8, "max": 512},
        "max_num_batched_tokens": {"min": 256, "max": 8192},
    }
    return {**policy, **changes}


def test_what_is_not_said_has_defaults() -> None:
    policy = Policy.model_validate(document())
    assert (policy.mode, policy.law, policy.version) == (Mode.AUTO, DEFAULT_LAW, 1)
    assert policy.sla.time_to_first_token is None
    assert policy.sla.window_seconds == 300


def test_a_document_survives_the_way_through_json() -> None:
    policy = Policy.model_validate(
        document(sla={"inter_token_latency": {"percentile": 99, "target_seconds": 0.05}, "window_seconds": 60})
    )
    assert Policy.model_validate_json(policy.model_dump_json()) == policy


def test_a_maximum_need_not_be_said() -> None:
    policy = Policy.model_validate(document(max_num_seqs={"min": 8}))
    assert policy.max_num_seqs == AskedLimits(min=8, max=None)
    assert Policy.model_validate_json(policy.model_dump_json()) == policy


@pytest.mark.parametrize(
    ("asked", "limits"),
    [
        (AskedLimits(min=8), Limits(min=8, max=256)),
        (AskedLimits(min=8, max=128), Limits(min=8, max=128)),
        (AskedLimits(min=8, max=512), Limits(min=8, max=256)),
        (AskedLimits(min=1000), Limits(min=256, max=256)),
        (AskedLimits(min=1000, max=2000), Limits(min=256, max=256)),
    ],
)
def test_on_an_engine_the_limits_end_at_its_ceiling_or_at_a_lower_maximum(asked: AskedLimits, limits: Limits) -> None:
    assert asked.within(256) == limits


def test_an_operator_one_version_ahead_may_say_more() -> None:
    assert Policy.model_validate(document(later={"field": 1})).revision == 3


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"version": 2}, "version"),
        ({"version": 0}, "version"),
        ({"revision": -1}, "revision"),
        ({"mode": "Maybe"}, "mode"),
        ({"law": "Guess"}, "law"),
        ({"max_num_seqs": {"min": 9, "max": 8}}, "min 9 is above max 8"),
        ({"max_num_seqs": {"min": 0, "max": 8}}, "max_num_seqs.min"),
        ({"max_num_seqs": {"min": 8, "max": 0}}, "max_num_seqs.max"),
        ({"sla": {"time_to_first_token": {"percentile": 49, "target_seconds": 1}}}, "percentile"),
        ({"sla": {"time_to_first_token": {"percentile": 100, "target_seconds": 1}}}, "percentile"),
        ({"sla": {"time_to_first_token": {"percentile": 95, "target_seconds": 0}}}, "target_seconds"),
        ({"sla": {"time_to_first_token": {"percentile": 95, "target_seconds": float("nan")}}}, "target_seconds"),
        ({"sla": {"window_seconds": 9}}, "window_seconds"),
    ],
)
def test_what_cannot_be_acted_on_is_refused_by_name(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        Policy.model_validate(document(**changes))


@pytest.mark.parametrize("field", ["revision", "namespace", "name", "max_num_seqs", "max_num_batched_tokens"])
def test_what_has_no_default_must_be_said(field: str) -> None:
    incomplete = document()
    del incomplete[field]
    with pytest.raises(ValidationError, match=field):
        Policy.model_validate(incomplete)
