"""Parameters of the predictive planner, as a PATCH carries them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import inf
from typing import Any, Final

from llmserving_engine.planning.parameters import only_known
from llmserving_engine.planning.protocol import ParameterError
from llmserving_engine.planning.step_model import COEFFICIENTS, KINDS, StepModel, StepTimes

_FIELDS: Final = (
    "coefficients",
    "residuals",
    "error",
    "itl_percentile",
    "ttft_seconds",
    "rate_share",
    "long_share",
    "long_spacing",
    "long_harm",
    "long_backlog",
    "guard_least",
)


@dataclass(frozen=True, slots=True)
class PredictiveSettings:
    """What a PATCH may set: the agent sends the first three, the others are the law's constants, for experiments.

    Attributes:
        model: Step-time model; None before the first fit.
        itl_allowance: Share of a request's gaps that may exceed the target.
        ttft_seconds: Time to first token to plan for where it is stricter than the engine's own target.
        rate_share: Share of the observed prefill rate that feasibility counts on.
        long_share: Longest gap that a long prefill step may make, as a share of five times the target; 0: no such
            steps.
        long_spacing: A long step at most every `long_spacing / itl_allowance` decode steps.
        long_harm: Running requests that a long step may spoil, by expectation.
        long_backlog: Seconds of waiting work that justify a long step before anybody is late.
        guard_least: Smallest guard band, as a share of the target.
    """

    model: StepTimes | None = None
    itl_allowance: float = 0.05
    ttft_seconds: float = inf
    rate_share: float = 0.9
    long_share: float = 0.88
    long_spacing: float = 1.25
    long_harm: float = 0.5
    long_backlog: float = 0.6
    guard_least: float = 0.03

    def guard(self, error: float) -> float:
        """Share of the target kept free: the model's own error, within limits."""
        return min(max(error, self.guard_least), 0.3)


def read_settings(parameters: Mapping[str, Any]) -> PredictiveSettings:
    """Check and take the parameters.

    Raises:
        ParameterError: unknown field, or a value out of range.
    """
    only_known(parameters, _FIELDS)
    values: dict[str, Any] = {}
    for name in ("rate_share", "long_share", "long_spacing", "long_harm", "long_backlog", "guard_least"):
        if name in parameters:
            values[name] = _number(parameters[name], f"planner.{name}", 0.0, 10.0)
    if "itl_percentile" in parameters:
        values["itl_allowance"] = (
            1.0 - _number(parameters["itl_percentile"], "planner.itl_percentile", 50.0, 99.0) / 100.0
        )
    if "ttft_seconds" in parameters:
        values["ttft_seconds"] = _number(parameters["ttft_seconds"], "planner.ttft_seconds", 1e-4, 1e6)
    if parameters.get("coefficients") is not None:
        coefficients = _numbers(parameters["coefficients"], "planner.coefficients")
        if len(coefficients) != COEFFICIENTS:
            raise ParameterError("planner.coefficients", len(coefficients), f"{COEFFICIENTS} numbers")
        rows = parameters.get("residuals", [[]] * KINDS)
        if not isinstance(rows, list) or len(rows) != KINDS:
            raise ParameterError("planner.residuals", rows, f"{KINDS} lists of seconds")
        residuals = tuple(_numbers(row, "planner.residuals") for row in rows)
        error = _number(parameters.get("error", 0.1), "planner.error", 0.0, 10.0)
        values["model"] = StepModel(coefficients, residuals, error)
    return PredictiveSettings(**values)


def _number(value: Any, field: str, least: float, most: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
        raise ParameterError(field, value, f"a number from {least:g} to {most:g}")
    return float(value)


def _numbers(value: Any, field: str) -> tuple[float, ...]:
    if not isinstance(value, list) or len(value) > 256:
        raise ParameterError(field, value, "a list of at most 256 numbers")
    return tuple(_number(entry, field, -1e6, 1e6) for entry in value)
