"""What the plug-in costs in the scheduler's step on this machine's processor: a figure, not a verdict."""

import json
import subprocess
from pathlib import Path

import pytest

from llmserving_lab.serving.gpu import GPUHost

pytestmark = [pytest.mark.gpu, pytest.mark.timeout(900)]

BENCHMARK = Path(__file__).parents[2] / "engine" / "benchmarks" / "step_cost.py"


def test_the_cost_in_a_step_is_measured_on_this_machine(host: GPUHost, output: Path) -> None:
    figures = output / "step_cost.json"
    command = [str(host.python), str(BENCHMARK), "--running", "256", "--steps", "500", "--json", str(figures)]
    subprocess.run(command, env=dict(host.environment), check=True)
    results = json.loads(figures.read_text())
    assert [result["asynchronous"] for result in results] == [False, True]
    assert all(result["plugin_mean_us"] > 0 and result["steps"] >= 450 for result in results)
