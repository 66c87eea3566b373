"""The process around the loop: whatever the client does, a rank is never left waiting for an answer."""

from pathlib import Path

import pytest

from llmserving_agent.actuation import Actuation
from llmserving_agent.runner import Runner
from llmserving_agent.settings import Settings
from llmserving_api.control import RuntimePatch


async def test_an_error_nobody_expected_counts_as_an_engine_out_of_reach(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runner = Runner(Settings(control_dir=tmp_path, policy_dir=tmp_path, engine_metrics=""))

    async def patch(rank: int, change: RuntimePatch) -> None:
        raise ZeroDivisionError("unexpected")

    monkeypatch.setattr(runner._client, "patch", patch)
    engine = runner.loop.engine(0)
    engine.reachable, engine._in_flight = True, 4

    await runner._actuate(Actuation(0, RuntimePatch(operation_id=1)))

    assert not engine.reachable
    assert "ZeroDivisionError: unexpected" in engine.message
    assert engine._in_flight is None
