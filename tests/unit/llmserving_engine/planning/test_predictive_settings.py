from typing import Any

import pytest

from llmserving_engine.planning.protocol import ParameterError
from llmserving_engine.planning.settings import PredictiveSettings, read_settings


def test_without_parameters_there_is_no_model():
    assert read_settings({}) == PredictiveSettings()
    assert read_settings({}).model is None


def test_the_share_of_long_gaps_follows_the_percentile():
    assert read_settings({"itl_percentile": 90}).itl_allowance == pytest.approx(0.1)


def test_the_guard_follows_the_models_error_within_limits():
    settings = PredictiveSettings()
    assert settings.guard(0.0) == settings.guard_least
    assert settings.guard(0.1) == 0.1
    assert settings.guard(5.0) == 0.3


@pytest.mark.parametrize(
    ("parameters", "field"),
    [
        ({"coefficient": [1.0]}, "planner.coefficient"),
        ({"coefficients": [1.0, 2.0]}, "planner.coefficients"),
        ({"coefficients": "none"}, "planner.coefficients"),
        ({"coefficients": [0.0] * 8 + [True]}, "planner.coefficients"),
        ({"coefficients": [0.0] * 10, "residuals": [[0.0]]}, "planner.residuals"),
        ({"coefficients": [0.0] * 10, "error": -1}, "planner.error"),
        ({"itl_percentile": 100}, "planner.itl_percentile"),
        ({"ttft_seconds": "2s"}, "planner.ttft_seconds"),
        ({"rate_share": float("nan")}, "planner.rate_share"),
    ],
)
def test_a_wrong_parameter_is_named(parameters: dict[str, Any], field: str):
    with pytest.raises(ParameterError) as error:
        read_settings(parameters)
    assert error.value.field == field
