from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from typer.testing import CliRunner

from llmserving_api.policy import LawName
from llmserving_lab.__main__ import app
from llmserving_lab.bench.policies import setup_of
from llmserving_lab.lawplots.drawing import Line, Panel, draw, ticks
from llmserving_lab.lawplots.scenes import SCENES, panels

DOCS = Path(__file__).parents[4] / "docs" / "explanation"


def run_of(virtual: float, bounds: list[list[float]]) -> dict[str, Any]:
    states = [[float(second), 10 + second % 5, second % 3, 0.5] for second in range(int(virtual))]
    gaps = [[2.0 * k, 0.03] for k in range(1, int(virtual / 2))]
    return {"virtual_s": virtual, "preemptions": 7, "states": states, "bounds": bounds, "itl_course": gaps}


def test_every_law_has_a_scene_whose_policies_exist() -> None:
    assert {scene.name.replace("-", "") for scene in SCENES} == {law.value.lower() for law in LawName}
    for scene in SCENES:
        for policy in (scene.policy, scene.beside):
            setup_of(policy)


@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.name)
def test_every_plot_is_committed_shown_and_small(scene: Any) -> None:
    file = DOCS / "laws" / f"{scene.name}.svg"
    assert file.stat().st_size < 60_000
    ElementTree.fromstring(file.read_text(encoding="utf-8"))
    assert f"(laws/{scene.name}.svg)" in (DOCS / "laws.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.name)
def test_a_plot_shows_every_quantity_of_its_scene_and_is_the_same_each_time(scene: Any) -> None:
    runs = {
        scene.policy: run_of(40.0, [[0.0, 512, 8192], [20.0, 32, 704]]),
        scene.beside: run_of(50.0, [[0.0, 256, 8192]]),
    }
    found, end = panels(scene, runs)
    text = draw(found, end, scene.name)
    assert end == 50.0
    assert all(quantity.value in text for quantity in scene.quantities)
    assert "7 preempted" in text
    assert text == draw(*panels(scene, runs), scene.name)
    ElementTree.fromstring(text)


def test_points_lie_where_their_values_are() -> None:
    panel = Panel("p", (Line("a", "#000", [(0.0, 0.0), (10.0, 4.0)]),), top=4.0)
    text = draw([panel], 10.0, "d")
    assert "M52.0 142.0L746.0 46.0" in text


def test_ticks_are_round_and_within_the_axis() -> None:
    assert ticks(130.0, 8) == [0, 20, 40, 60, 80, 100, 120]
    assert ticks(0.9, 3) == [0, 0.5]


def test_an_unknown_law_is_answered_with_those_there_are() -> None:
    result = CliRunner().invoke(app, ["law-plots", "--only", "magic"])
    assert result.exit_code == 2
    assert "no such law 'magic'; there are predictive" in " ".join(result.output.split())
