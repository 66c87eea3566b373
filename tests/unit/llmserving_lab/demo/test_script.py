"""The demo's script: phases follow from the edits."""

import itertools
from importlib.resources import files

import yaml

from llmserving_api.policy import DEFAULT_LAW
from llmserving_api.v1alpha1 import LLMServingSpec
from llmserving_lab.demo.script import Edit, Script, standard_script


def test_phases_cover_the_whole_run_without_gaps() -> None:
    script = standard_script()
    assert script.phases[0].start == 0
    assert script.phases[-1].end == script.seconds
    for earlier, later in itertools.pairwise(script.phases):
        assert earlier.end == later.start


def test_a_phase_with_settling_is_split() -> None:
    script = Script(
        (Edit(10, "tighter", {}, itl_seconds=0.05, phase="tight", settle_seconds=5),), seconds=30, itl_seconds=0.1
    )
    assert [(phase.name, phase.start, phase.end, phase.itl_seconds) for phase in script.phases] == [
        ("relaxed", 0, 10, 0.1),
        ("tight, settling", 10, 15, 0.05),
        ("tight", 15, 30, 0.05),
    ]


def test_an_edit_inside_a_phase_changes_the_targets_from_then_on() -> None:
    script = Script((Edit(10, "later", {}, ttft_seconds=3.0),), seconds=20, ttft_seconds=2.0)
    assert len(script.phases) == 1
    assert script.goals_at(9.9)[0] == 2.0
    assert script.goals_at(10)[0] == 3.0


def test_the_demo_makes_at_least_ten_edits_in_order_of_every_kind() -> None:
    edits = standard_script().edits
    assert len(edits) >= 10
    assert [edit.at for edit in edits] == sorted(edit.at for edit in edits)
    assert any(edit.apply for edit in edits)
    assert {"mode Advise", "mode Auto", "policy MemorySLA", "policy Predictive"} <= {edit.change for edit in edits}


def test_the_main_phases_run_under_the_default_policy_and_one_shows_another() -> None:
    spec = LLMServingSpec.model_validate(
        yaml.safe_load(files("llmserving_lab.demo").joinpath("chat.yaml").read_text())["spec"]
    )
    assert spec.batching.policy is DEFAULT_LAW
    edits = standard_script().edits
    changes = [edit.patch["spec"]["batching"]["policy"] for edit in edits if edit.change.startswith("policy")]
    first = next(edit for edit in edits if edit.change.startswith("policy"))
    assert (first.phase, changes[0], changes[-1]) == ("MemorySLA", "MemorySLA", DEFAULT_LAW)
    assert {"tight", "relaxed again", "advice", "automatic"} <= {edit.phase for edit in edits if edit.at < first.at}
