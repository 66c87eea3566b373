"""What the operator's unit tests share: a resource, its observation, and virtual time."""

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import pytest

from llmserving_api.control import Bounds
from llmserving_api.policy import LawName, Mode
from llmserving_api.status import AgentStatus, EngineStatus, GPUSource, LatencyWindow
from llmserving_api.v1alpha1 import LLMServingSpec
from llmserving_operator.children.identity import Identity
from llmserving_operator.observe import Observation, Pod
from llmserving_operator.settings import Settings

T = TypeVar("T")

SPEC = {
    "model": {"uri": "hf://Qwen/Qwen2.5-7B-Instruct"},
    "engine": {"image": "vllm/vllm-openai:v0.32.0", "resources": {"limits": {"nvidia.com/gpu": 1}}},
    "sla": {"timeToFirstToken": {"target": "2s"}, "interTokenLatency": {"target": "50ms"}},
}


class _JumpingSelector(selectors.SelectSelector):
    """Passes waiting time at once."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def select(self, timeout: float | None = None) -> Any:
        if timeout is None:
            raise RuntimeError("everything waits for something that will not happen")
        self.now += max(0.0, timeout)
        return super().select(0)


class _VirtualLoop(asyncio.SelectorEventLoop):
    def __init__(self, selector: _JumpingSelector) -> None:
        super().__init__(selector)
        self._jumping = selector
        self._clock_resolution = 1e-9

    def time(self) -> float:
        return self._jumping.now


@pytest.fixture
def in_virtual_time() -> Callable[[Coroutine[Any, Any, T]], T]:
    """Run a coroutine on a loop whose clock jumps."""

    def run(coroutine: Coroutine[Any, Any, T]) -> T:
        loop = _VirtualLoop(_JumpingSelector())
        try:
            return loop.run_until_complete(coroutine)
        finally:
            for task in asyncio.all_tasks(loop):
                task.cancel()
            loop.run_until_complete(asyncio.sleep(0.001))
            loop.close()

    return run


@pytest.fixture
def owner() -> Identity:
    return Identity("prod", "chat", "uid-1", 3)


@pytest.fixture
def settings() -> Settings:
    return Settings(agent_image="llmserving/agent:1")


@pytest.fixture
def make_spec() -> Callable[..., LLMServingSpec]:
    """A valid spec with top-level fields replaced."""

    def make(**fields: Any) -> LLMServingSpec:
        return LLMServingSpec.model_validate({**SPEC, **fields})

    return make


@pytest.fixture
def make_pod() -> Callable[..., Pod]:
    def make(name: str = "chat-a", **fields: Any) -> Pod:
        defaults: dict[str, Any] = {
            "uid": f"uid-{name}",
            "ip": "10.0.0.1",
            "ready": True,
            "running": True,
            "terminating": False,
            "bears_uid": True,
            "policy": None,
            "trouble": None,
        }
        return Pod(name=name, **{**defaults, **fields})

    return make


@pytest.fixture
def make_observation() -> Callable[..., Observation]:
    def make(**fields: Any) -> Observation:
        defaults: dict[str, Any] = {"children": {}, "foreign": {}, "pods": (), "reports": {}, "deliveries": {}}
        return Observation(**{**defaults, **fields})

    return make


@pytest.fixture
def make_agent() -> Callable[..., AgentStatus]:
    """Status of an agent with one engine that is tuned; fields of the engine by ``engine=``."""

    def make(
        *, engine: dict[str, Any] | None = None, latency: dict[str, Any] | None = None, **fields: Any
    ) -> AgentStatus:
        bounds = Bounds(max_num_seqs=64, max_num_batched_tokens=2048)
        one = EngineStatus(
            **{
                "rank": 0,
                "reachable": True,
                "requested": bounds,
                "applied": bounds,
                "effective": bounds,
                "running": 3,
                **(engine or {}),
            }
        )
        defaults: dict[str, Any] = {
            "agent_version": "1",
            "policy_revision": 3,
            "mode": Mode.AUTO,
            "law": LawName.MEMORY_SLA,
            "engines": (one,),
            "latency": LatencyWindow(**{"window_seconds": 300, **(latency or {})}),
            "gpu": GPUSource(source="nvml"),
        }
        return AgentStatus(**{**defaults, **fields})

    return make
