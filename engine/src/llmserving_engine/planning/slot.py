"""The planner in force: changed on request, dropped when it fails."""

import logging
from collections.abc import Callable, Mapping
from typing import Any

from llmserving_engine.control import MODE_CAPS, ControlState
from llmserving_engine.planning import registry
from llmserving_engine.planning.bounds_only import BoundsOnly
from llmserving_engine.planning.protocol import StepPlan, StepPlanner, StepView, Track

logger = logging.getLogger(__name__)


class PlannerSlot:
    """Holds the law. A law must never stop the engine: one that raises is replaced by the bounds alone, and said so."""

    def __init__(self, control: ControlState) -> None:
        self.law: StepPlanner = BoundsOnly()
        self._control = control
        self._choice = control.planner

    @property
    def is_plain(self) -> bool:
        """Whether the bounds alone are the plan."""
        return type(self.law) is BoundsOnly

    def refresh(self, tracks: Mapping[str, Track]) -> None:
        """Take over the planner that the control API asks for; a new one is told of all requests in the engine."""
        choice = self._control.planner
        if choice is self._choice:
            return
        self._choice = choice
        try:
            if choice.name == self.law.name:
                self.law.configure(choice.parameters)
                return
            law = registry.build(choice)
            for track in tracks.values():
                law.arrived(track)
            self.law = law
        except Exception as error:
            self._drop(error)

    def plan(self, view: StepView) -> StepPlan:
        """The law's plan of the coming step."""
        try:
            plan = self.law.plan(view)
            if plan.running is not None and (
                len(plan.running) != len(view.running) or set(plan.running) != set(view.running)
            ):
                raise ValueError("the plan's order is not a permutation of the running requests")
        except Exception as error:
            self._drop(error)
            plan = self.law.plan(view)
        return plan

    def tell(self, method: Callable[[Any], None], news: Any) -> None:
        """Call one of the law's other methods."""
        try:
            method(news)
        except Exception as error:
            self._drop(error)

    def _drop(self, error: Exception) -> None:
        reason = f"planner {self.law.name!r} failed and was dropped: {type(error).__name__}: {error}"
        logger.error("llmserving: %s", reason, exc_info=error)
        self.law = BoundsOnly()
        self._control.progress.faults += 1
        self._control.demote(MODE_CAPS, reason)
        self._choice = self._control.planner
