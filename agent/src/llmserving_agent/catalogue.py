"""Which law a policy's name means: the one place where a new law is added."""

from collections.abc import Callable, Mapping
from typing import Any

from llmserving_agent.guards import clamped, guarded, steady
from llmserving_agent.laws.memory import Memory
from llmserving_agent.laws.memory_sla import MemorySLA
from llmserving_agent.laws.predictive.law import Predictive
from llmserving_agent.laws.protocol import Law
from llmserving_agent.laws.sla import SLA
from llmserving_agent.laws.static import Static
from llmserving_agent.laws.wait.law import NestedWait, Wait
from llmserving_api.policy import LawName

LAWS: Mapping[LawName, Callable[[], Law[Any]]] = {
    LawName.STATIC: lambda: clamped(Static()),
    LawName.MEMORY: lambda: guarded(Memory()),
    LawName.SLA: lambda: guarded(SLA()),
    LawName.MEMORY_SLA: lambda: guarded(MemorySLA()),
    LawName.PREDICTIVE: lambda: clamped(Predictive()),
    LawName.WAIT: lambda: steady(Wait()),
    LawName.NESTED_WAIT: lambda: steady(NestedWait()),
}
"""A law with the guards it needs, by name."""

WITHOUT_PLANNER: Mapping[LawName, LawName] = {
    LawName.PREDICTIVE: LawName.MEMORY_SLA,
    LawName.WAIT: LawName.MEMORY_SLA,
    LawName.NESTED_WAIT: LawName.MEMORY_SLA,
}
"""What decides in place of a law that plans inside the step, on an engine that takes bounds alone, or advises on one that is
only observed."""
