import os
from pathlib import Path

import pytest

from llmserving_lab.bench.plan import DevicePlan, ReplayPlan
from llmserving_lab.bench.replay import execute_replay

_DATA = Path(os.environ.get("LLMSERVING_SHARED_DATA", Path(__file__).parents[4] / "shared" / "data"))


@pytest.mark.shared_data
@pytest.mark.skipif(not (_DATA / "real-runs").is_dir(), reason=f"no recorded runs at {_DATA}")
def test_the_device_of_a_profile_repeats_a_real_run_within_its_limits() -> None:
    name = "rtxpro6000-llama-3.1-8b"
    device = DevicePlan(source=str(_DATA / "device-profiles" / f"{name}-bf16"))
    result = execute_replay(ReplayPlan(device=device, run=str(_DATA / "real-runs" / name)))
    errors = {figure["name"]: figure["error"] for figure in result["figures"]}
    assert result["within"], errors
    assert result["extrapolated_steps"] == 0
