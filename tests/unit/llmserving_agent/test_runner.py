"""The process around the loop: whatever the client does, a rank is never left waiting for an answer."""

import asyncio
import time
from pathlib import Path

import pytest

from llmserving_agent.actuation import Actuation, Answer, Outcome
from llmserving_agent.runner import CONFIG_SECONDS, Runner
from llmserving_agent.settings import Settings
from llmserving_api.control import RuntimePatch
from llmserving_fakes.documents import runtime_config


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


async def test_the_answer_to_a_change_stands_for_a_look_at_the_document(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runner = Runner(Settings(control_dir=tmp_path, policy_dir=tmp_path, engine_metrics=""))
    calls: list[str] = []
    changes = [Actuation(0, RuntimePatch(operation_id=1))]

    async def patch(rank: int, change: RuntimePatch) -> Answer:
        calls.append("patch")
        return Answer(Outcome.APPLIED, runtime_config())

    async def config(rank: int) -> Answer:
        calls.append("config")
        return Answer(Outcome.APPLIED, runtime_config())

    monkeypatch.setattr(runner._client, "ranks", lambda: (0,))
    monkeypatch.setattr(runner._client, "patch", patch)
    monkeypatch.setattr(runner._client, "config", config)
    monkeypatch.setattr(runner.loop, "decide", lambda now: (changes.pop(),) if changes else ())
    began = time.monotonic()
    for now in (began, began + 0.5 * CONFIG_SECONDS, began + 1.5 * CONFIG_SECONDS):
        runner.tick(now)
        await asyncio.gather(*runner._tasks)

    assert calls == ["patch", "config"]
