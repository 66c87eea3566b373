"""The predictive planner with nothing left to learn: the device's own step times and the load's own output lengths.

What it reaches beyond `predictive` is what learning costs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from llmserving_engine.planning.predictive import Predictive
from llmserving_engine.planning.protocol import ParameterError, PlannerFactory, StepPlan, StepPlanner, StepView
from llmserving_engine.planning.settings import read_settings
from llmserving_lab.device.disturbance import NoDisturbance
from llmserving_lab.device.model import DeviceModel, StepBatch


@dataclass(slots=True)
class DeviceTimes:
    """Step times as the simulated device will make them, but for its disturbances and for the shapes of several chunks.

    Attributes:
        device: The device.
        longest: Longest context among the running requests, which the aggregates of a step leave out.
    """

    device: DeviceModel
    longest: int = 0

    def seconds(self, prefill: int, pairs: float, decodes: int, context: int) -> float:
        """Duration of a step, see `llmserving_engine.planning.step_model.StepTimes`."""
        chunks: tuple[tuple[int, int], ...] = ()
        if prefill:
            chunks = ((prefill, max(0, round(pairs / prefill - prefill / 2))),)
        longest = max(self.longest, context // decodes) if decodes else 0
        return self.device.step_seconds(StepBatch(chunks, decodes, context, longest, decodes + bool(prefill))).seconds

    @property
    def error(self) -> float:
        """None: what is left out is smaller than the planner's least guard band."""
        return 0.0


class Oracle(Predictive):
    """Predictive, told everything at its start."""

    name = "oracle"

    def __init__(self, device: DeviceModel, outputs: Sequence[int]) -> None:
        """Take the device without its disturbances, and the output lengths of the load."""
        self._device_times = DeviceTimes(replace(device, disturbance=NoDisturbance()))
        super().__init__(replace(read_settings({}), model=self._device_times))
        for tokens in outputs:
            self._lengths.end(tokens)
        self._lengths.refresh()

    def plan(self, view: StepView) -> StepPlan:
        """Decide the coming step, knowing the longest context in it."""
        self._device_times.longest = max((request.num_computed_tokens for request in view.running), default=0) + 1
        return super().plan(view)


def oracle_factory(device: DeviceModel, outputs: Sequence[int]) -> PlannerFactory:
    """A planner factory for one run; it takes no parameters.

    Args:
        device: The run's device.
        outputs: Output lengths of the run's requests.
    """

    def build(parameters: Mapping[str, Any]) -> StepPlanner:
        for name, value in parameters.items():
            raise ParameterError(f"planner.{name}", value, "no parameter: the planner 'oracle' takes none")
        return Oracle(device, outputs)

    return build
