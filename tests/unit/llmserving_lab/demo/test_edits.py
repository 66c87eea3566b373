"""Edits: merge patches as the API server applies them, and when an edit counts as arrived."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from llmserving_api.control import Bounds
from llmserving_lab.cluster.errors import ClusterError
from llmserving_lab.demo.edits import Editor, merged
from llmserving_lab.demo.script import Edit
from llmserving_lab.demo.watch import AgentWatch, Observation

WIDE = Bounds(max_num_seqs=256, max_num_batched_tokens=8192)
NARROW = Bounds(max_num_seqs=256, max_num_batched_tokens=512)


def test_a_merge_patch_merges_objects_replaces_the_rest_and_removes_null() -> None:
    base: dict[str, Any] = {"spec": {"sla": {"a": 1, "b": 2}, "list": [1, 2]}, "kind": "K"}
    patch = {"spec": {"sla": {"b": None, "c": 3}, "list": [3]}}
    assert merged(base, patch) == {"spec": {"sla": {"a": 1, "c": 3}, "list": [3]}, "kind": "K"}
    assert base["spec"]["sla"] == {"a": 1, "b": 2}


class PlayedSite:
    """A kubectl that answers a generation, or refuses."""

    def __init__(self, *command: str) -> None:
        self._command = command

    def kubectl_command(self, *_: str) -> list[str]:
        return list(self._command)


def seen(pod: str, time: float, revision: int | None, applied: Bounds, effective: Bounds | None) -> Observation:
    return Observation(
        time=time, asked=time, pod=pod, revision=revision, mode="Auto", law="SLA", requested=applied, applied=applied,
        effective=effective, itl_p95=None, running=0, waiting=0, kv_usage=None, reason="", message="", device="",
        gpu_source="none",
    )  # fmt: skip


async def show(watch: AgentWatch, *observations: Observation) -> None:
    async with watch._changed:
        for one in observations:
            watch.latest[one.pod] = one
        watch._changed.notify_all()
    await asyncio.sleep(0.01)


def editor(site: Any, watch: AgentWatch, folder: Path) -> Editor:
    return Editor(site, watch, {"spec": {}}, folder)


async def test_an_edit_is_applied_when_the_last_engine_confirms_and_effective_when_its_steps_keep_it(
    tmp_path: Path,
) -> None:
    watch = AgentWatch({"a": "", "b": ""})
    maker = editor(PlayedSite("echo", "7"), watch, tmp_path)
    task = asyncio.create_task(maker.make(Edit(0, "tighter", {})))
    while not maker.made:
        await asyncio.sleep(0.01)
    await show(watch, seen("a", 1.0, 7, NARROW, NARROW), seen("b", 1.0, 6, WIDE, WIDE))
    assert maker.made[0].applied is None
    await show(watch, seen("b", 2.0, 7, NARROW, WIDE))
    assert maker.made[0].applied == 2.0
    assert maker.made[0].effective is None
    await show(watch, seen("b", 3.0, 7, NARROW, NARROW))
    await task
    assert (maker.made[0].revision, maker.made[0].effective) == (7, 3.0)


async def test_a_refused_edit_is_an_error_with_kubectls_words(tmp_path: Path) -> None:
    maker = editor(PlayedSite("sh", "-c", "echo 'target: too small' >&2; exit 1"), AgentWatch({}), tmp_path)
    with pytest.raises(ClusterError, match=r"refused the edit 'tighter'.*too small"):
        await maker.make(Edit(0, "tighter", {}))
