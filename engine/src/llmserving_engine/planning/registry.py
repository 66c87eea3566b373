"""The planners a PATCH can choose by name: a new one is added here, and nowhere else in the plug-in."""

from collections.abc import Mapping
from typing import Any, Final

from llmserving_engine.planning.bounds_only import BoundsOnly
from llmserving_engine.planning.nested_wait import build_nested_wait
from llmserving_engine.planning.predictive import build_predictive
from llmserving_engine.planning.protocol import ParameterError, PlannerChoice, PlannerFactory, StepPlanner
from llmserving_engine.planning.wait import build_wait


def _bounds_only(parameters: Mapping[str, Any]) -> StepPlanner:
    for name, value in parameters.items():
        raise ParameterError(f"planner.{name}", value, "no parameter: the planner 'bounds' takes none")
    return BoundsOnly()


PLANNERS: Final[dict[str, PlannerFactory]] = {
    "bounds": _bounds_only,
    "predictive": build_predictive,
    "wait": build_wait,
    "nested-wait": build_nested_wait,
}


def build(choice: PlannerChoice) -> StepPlanner:
    """Build the planner of a choice.

    Raises:
        ParameterError: unknown planner, or a parameter it does not accept.
    """
    factory = PLANNERS.get(choice.name)
    if factory is None:
        raise ParameterError("planner.name", choice.name, ", ".join(sorted(PLANNERS)))
    return factory(choice.parameters)
