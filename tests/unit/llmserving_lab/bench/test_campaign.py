"""Searches on a made-up engine: a slice passes up to a capacity of its own, which static settings share in."""

import json
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from llmserving_lab.bench.campaign import Campaign
from llmserving_lab.bench.capacity import rate_of, rung_of
from llmserving_lab.bench.plan import DevicePlan, RunPlan, TargetPlan
from llmserving_lab.bench.store import RunStore
from llmserving_lab.bench.suite import table
from llmserving_lab.traces.plan import LoadPlan

_SLICES = ((0, 0), (100, 1))
_BEST = {0: rate_of(60) + 0.01, 100: rate_of(70) + 0.01}
_LIMIT = 12.0
_REQUESTS = 1000


class _Engine:
    """Serves `predictive` up to the slice's capacity, static settings up to less the further they are from 256 x 640."""

    def __init__(self) -> None:
        self.plans: list[dict[str, Any]] = []

    def submit(self, kind: str, plan: BaseModel) -> Future[dict[str, Any]]:
        document = plan.model_dump(mode="json")
        self.plans.append({"kind": kind, **document})
        future: Future[dict[str, Any]] = Future()
        future.set_result(self._twin(document) if kind == "twin" else self._run(document))
        return future

    def _capacity(self, policy: str, start: int) -> float:
        if policy == "predictive":
            return _BEST[start]
        if policy == "memory":
            return 0.0
        if policy == "default":
            return 0.0 if start else 1.0
        _, tokens = (int(number) for number in policy.removeprefix("static:").split("x"))
        return _BEST[start] * 0.8 / (1 + abs(tokens - 640) / 640)

    def _twin(self, document: dict[str, Any]) -> dict[str, Any]:
        policy = document["run"]["policy"]
        rungs = [rung_of(max(1e-9, self._capacity(policy, one["start"]))) for one in document["slices"]]
        return {
            "rungs": [
                rung if rung >= one["deepest"] else None for rung, one in zip(rungs, document["slices"], strict=True)
            ]
        }

    def _run(self, document: dict[str, Any]) -> dict[str, Any]:
        load, allowed = document["load"], document["give_up_misses"]
        counted = _REQUESTS - int(_REQUESTS * document["warmup"])
        capacity = self._capacity(document["policy"], load["start"]) if document["targets"][0]["ttft"] else _LIMIT
        share = (
            0.96
            if load["rate"] <= capacity
            else max(0.0, 0.96 - (load["rate"] / capacity - 1) / 2)
            if capacity
            else 0.0
        )
        good = int(share * counted)
        return {
            "policy": document["policy"],
            "rate_rps": load["rate"],
            "start": load["start"],
            "arrived": counted,
            "aborted": 0,
            "good": good,
            "attainment": good / counted,
            "gave_up": allowed is not None and counted - good > allowed,
            "queue_growing": False,
            "waiting_by_third": [0.0, 0.0, 0.0],
            "throughput_rps": _LIMIT,
            "goodput_rps": share * load["rate"],
            "attainment_by_prompt_decile": [1.0] * 9 + [0.8 + load["start"] / 1000],
            "relegated_share": 0.01,
            "preemptions": 2,
            "longest_ttft_s": 3.0 + load["start"],
            "caveats": [],
        }


def _campaign(engine: _Engine, folder: Path | None = None) -> Campaign:
    base = RunPlan(
        device=DevicePlan(source="made-up"),
        load=LoadPlan(requests=_REQUESTS),
        policy="default",
        targets=(TargetPlan(ttft=2.0, itl=0.05),),
    )
    return Campaign(RunStore(engine, folder, code=lambda _: "one"), base, _SLICES, lambda _: None)


def test_the_capacity_is_the_geometric_mean_of_the_slices_own() -> None:
    (entry,), runs = _campaign(_Engine()).capacities(["predictive"])
    assert entry["slice_capacities"] == [[rate_of(60), rate_of(61)], [rate_of(70), rate_of(71)]]
    assert entry["capacity_rps"] == entry["low"] == round(rate_of(65), 4)
    assert entry["high"] == round(rate_of(66), 4)
    assert entry["slice_limits"] == [_LIMIT, _LIMIT]
    assert {run["rate_rps"] for run in runs if run["start"] == 0} == {rate_of(60), 1.5 * rate_of(60)}


def test_slices_pooled_at_one_rate_lie_between_the_hardest_and_the_easiest() -> None:
    (entry,), _ = _campaign(_Engine()).capacities(["predictive"])
    low, high = entry["pooled"]
    assert rate_of(60) < low < rate_of(70)
    assert high == rate_of(rung_of(low) + 1)


def test_figures_at_capacity_name_the_worst_slice() -> None:
    (entry,), _ = _campaign(_Engine()).capacities(["predictive"])
    assert entry["longest_ttft_s"] == 103.0
    assert entry["longest_decile"] == [0.8, 0.85]
    assert entry["preemptions"] == 4
    assert entry["overload"] == pytest.approx(1.5 * 0.71, abs=0.02)


def test_what_is_found_does_not_depend_on_what_ran_before() -> None:
    alone, _ = _campaign(_Engine()).capacities(["predictive"])
    both, _ = _campaign(_Engine()).capacities(["static-grid", "predictive"])
    assert both[1] == alone[0]


def test_the_best_static_setting_is_found_between_the_points_of_the_grid() -> None:
    (entry,), _ = _campaign(_Engine()).capacities(["static-grid"])
    assert entry["chosen"].endswith("x640")
    assert entry["capacity_rps"] == pytest.approx(0.8 * rate_of(65), rel=0.03)
    assert entry["challengers"]
    assert len(entry["twin_grid"]) > 10


def test_a_setting_that_the_twin_underrates_still_wins_on_the_real_scheduler() -> None:
    class Surprise(_Engine):
        def _capacity(self, policy: str, start: int) -> float:
            return super()._capacity(policy, start) * (1.2 if self.real and policy.endswith("x656") else 1.0)

        real = False

        def _run(self, document: dict[str, Any]) -> dict[str, Any]:
            self.real = True
            try:
                return super()._run(document)
            finally:
                self.real = False

    (entry,), _ = _campaign(Surprise()).capacities(["static-grid"])
    assert entry["chosen"].endswith("x656")
    assert [name for name in entry["challengers"] if name.endswith("x640")]


def test_equal_runs_are_made_once_and_kept_between_commands(tmp_path: Path) -> None:
    first = _Engine()
    found = _campaign(first, tmp_path).capacities(["predictive"])
    plans = [json.dumps(plan, sort_keys=True) for plan in first.plans]
    assert len(plans) == len(set(plans))
    second = _Engine()
    assert _campaign(second, tmp_path).capacities(["predictive"]) == found
    assert second.plans == []


def test_other_code_makes_runs_anew(tmp_path: Path) -> None:
    engine = _Engine()
    plan = RunPlan(device=DevicePlan(source="made-up"), load=LoadPlan(rate=5.0), policy="predictive")
    for code in ("one", "two", "two"):
        RunStore(engine, tmp_path, code=lambda _, code=code: code).submit("run", plan).result()
    assert len(engine.plans) == 2


def test_the_table_says_where_a_policy_never_reaches_the_attainment() -> None:
    entries, _ = _campaign(_Engine()).capacities(["default", "memory", "predictive"])
    text = table([{"cell": "a", "capacity": entries}])
    default, memory, predictive = (line.split(" | ") for line in text.splitlines()[2:])
    assert default[2] == "never reaches 0.95 on 1 of 2 slices"
    assert memory[2] == "never reaches 0.95"
    assert predictive[5] == "other never passes"
