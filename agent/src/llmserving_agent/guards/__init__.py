"""Guards: laws around laws. They hold, clamp, damp and round what a law decides, and say so.

``guarded`` is the order in which they are put around a feedback law; the clamp is the outermost, so that bounds are
inside limits and ceilings whatever happened within.
"""

from typing import Any

from llmserving_agent.guards.hold import HoldOnStale
from llmserving_agent.guards.memory import GPUMemoryVeto
from llmserving_agent.guards.motion import BoundedStep, DeadBand, OnlyWhenBinding
from llmserving_agent.guards.shape import Clamp, Quantise
from llmserving_agent.laws.protocol import Law


def guarded(law: Law[Any]) -> Law[Any]:
    """A feedback law with all guards around it."""
    return Clamp(HoldOnStale(Quantise(GPUMemoryVeto(BoundedStep(DeadBand(OnlyWhenBinding(law)))))))


def steady(law: Law[Any]) -> Law[Any]:
    """A law that computes its bounds anew instead of feeling its way, within limits and never on stale data."""
    return Clamp(HoldOnStale(law))


def clamped(law: Law[Any]) -> Law[Any]:
    """A law that watches nothing, within limits."""
    return Clamp(law)
