"""Step records with everything a test does not name at zero."""

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest

from llmserving_api.telemetry import StepRecord


def make_step_record(**changes: Any) -> StepRecord:
    fields: dict[str, Any] = {one.name: 0 for one in dataclasses.fields(StepRecord)}
    return StepRecord(**{**fields, "trim": 1.0, "gaps": (), "first_tokens": (), **changes})


@pytest.fixture
def step_record() -> Callable[..., StepRecord]:
    return make_step_record
