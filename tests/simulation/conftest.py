"""What the simulation tests share: runs of the bench."""

from collections.abc import Callable
from typing import Any

import pytest

from llmserving_lab.bench.plan import RunPlan

Run = Callable[..., dict[str, Any]]


@pytest.fixture
def run() -> Run:
    """One run of a policy on the real scheduler and a shipped device; keyword arguments change the plan, `load__x` its load."""
    from llmserving_lab.bench.execution import execute_run  # noqa: PLC0415 imports vLLM, which not every test needs

    def make(policy: str, **changes: Any) -> dict[str, Any]:
        load: dict[str, Any] = {"kind": "conversation", "requests": 80, "rate": 6.0, "seed": 1}
        plan: dict[str, Any] = {
            "device": {"source": "rtxpro6000-llama-3.1-8b"},
            "policy": policy,
            "targets": [{"ttft": 2.0, "itl": 0.05}],
        }
        for name, value in changes.items():
            if name.startswith("load__"):
                load[name.removeprefix("load__")] = value
            else:
                plan[name] = value
        return execute_run(RunPlan.model_validate(plan | {"load": load}))

    return make
