"""The predictive law as in production, agent and plug-in, on vLLM's own scheduler in virtual time."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

Run = Callable[..., dict[str, Any]]


@pytest.fixture
def run(run: Run) -> Run:
    """Four hundred conversations at eight a second, where a test does not say otherwise."""
    return partial(run, load__requests=400, load__rate=8.0)


@pytest.mark.parametrize("asynchronous", [True, False])
def test_near_capacity_it_serves_well_what_the_default_serves_badly(run: Run, asynchronous: bool) -> None:
    ours, default = (run(policy, asynchronous=asynchronous) for policy in ("predictive", "default"))
    assert ours["completed"] == ours["arrived"]
    assert ours["attainment"] > 0.9
    assert ours["attainment"] > default["attainment"] + 0.3


def test_far_beyond_capacity_goodput_does_not_collapse(run: Run) -> None:
    ours, tuned = (run(policy, load__rate=16.0) for policy in ("predictive", "static:512x512"))
    assert ours["completed"] == ours["arrived"]
    assert ours["goodput_rps"] > 2.5 * tuned["goodput_rps"]


def test_at_half_as_much_again_as_its_capacity_it_serves_as_many_well_as_at_its_capacity(run: Run) -> None:
    at_capacity = run("predictive", load__requests=1200, load__rate=9.3)
    beyond = run("predictive", load__requests=1200, load__rate=14.0)
    assert at_capacity["attainment"] > 0.95
    assert beyond["completed"] == beyond["arrived"]
    assert beyond["goodput_rps"] > 0.95 * 9.3


def test_learning_costs_little_against_knowing_everything(run: Run) -> None:
    assert run("predictive")["attainment"] > run("oracle")["attainment"] - 0.05


def test_noise_and_throttling_are_followed(run: Run) -> None:
    device = {"source": "rtxpro6000-llama-3.1-8b", "harder": ["noise", "throttling"]}
    assert run("predictive", device=device, load__rate=5.0)["attainment"] > 0.9


def test_an_edited_target_is_kept_soon_after_the_edit(run: Run) -> None:
    edited = [{"ttft": 2.0, "itl": 0.05}, {"time": 20.0, "ttft": 2.0, "itl": 0.03}]
    result = run("predictive", targets=edited, load__rate=4.0)
    assert result["attainment"] > 0.9
    assert result["itl_p50_s"] < 0.03


def test_where_memory_binds_no_token_is_lost_and_preemptions_are_few(run: Run) -> None:
    result = run("predictive", kv_tokens=30_000, load__rate=6.0)
    assert result["completed"] == result["arrived"]
    assert result["preemptions"] < 0.1 * result["arrived"]


def test_long_prompts_do_not_starve(run: Run) -> None:
    result = run("predictive", load__rate=10.0)
    assert result["completed"] == result["arrived"]
    assert result["attainment_by_prompt_decile"][-1] > 0.4
    assert result["ttft_max_s"] < 60.0


@pytest.mark.parametrize(
    ("change", "share_before"),
    [
        ({"load__rate": 4.0, "targets": [{"ttft": 2.0, "itl": 0.05}, {"time": 20.0, "ttft": 2.0, "itl": 0.025}]}, 0.36),
        ({"load__rate": 5.0, "load__arrivals": "step"}, 0.54),  # from 2.5 to 7.5 a second after 40 s
        ({"load__rate": 6.0, "load__kind": "mix-step", "load__arrivals": "poisson"}, 0.74),
    ],
    ids=["inter-token target halved", "load three times as high", "from conversations to code"],
)
def test_fifteen_seconds_after_a_step_change_requests_are_served_well_again(
    run: Run, change: dict[str, Any], share_before: float
) -> None:
    """`warmup` leaves out the requests that arrived until 15 s after the change."""
    assert run("predictive", warmup=share_before, **change)["attainment"] > 0.95


@pytest.mark.parametrize("target", [{"ttft": 2.0}, {"itl": 0.05}, {"e2e": 15.0}], ids=["ttft", "itl", "e2e"])
def test_by_a_single_target_it_serves_more_well_than_the_default(run: Run, target: dict[str, float]) -> None:
    ours, default = (run(policy, load__rate=30.0, targets=[target]) for policy in ("predictive", "default"))
    assert ours["completed"] == ours["arrived"]
    assert ours["attainment"] > default["attainment"] + 0.1


def test_without_any_target_it_serves_as_the_default(run: Run) -> None:
    load = {"load__requests": 300, "load__rate": 14.0, "kv_tokens": 48_000, "targets": [{}]}
    ours, default = (run(policy, **load) for policy in ("predictive", "default"))
    assert ours["completed"] == ours["arrived"]
    assert ours["throughput_rps"] == pytest.approx(default["throughput_rps"], rel=0.02)
    assert ours["ttft_p50_s"] == pytest.approx(default["ttft_p50_s"], rel=0.02)


def test_outputs_of_one_token_cost_no_steps_of_their_own(run: Run) -> None:
    """Asynchronous scheduling decodes once more for each before its end is known; beside other prompts that costs little."""
    one_token = {"load__kind": "fixed:1000x1", "load__rate": 20.0, "load__requests": 400}
    assert run("predictive", **one_token)["ttft_p95_s"] < 2 * run("default", **one_token)["ttft_p95_s"]


def test_very_long_prompts_start_as_soon_as_under_stock_bounds(run: Run) -> None:
    long = {
        "load__kind": "long-context",
        "load__rate": 0.005,
        "load__requests": 25,
        "targets": [{"ttft": 30.0, "itl": 0.05}],
    }
    ours, default = (run(policy, **long, kv_tokens=480_000) for policy in ("predictive", "default"))
    assert ours["ttft_p95_s"] < 1.3 * default["ttft_p95_s"]
    assert ours["decisions"].get("Fallback", 0) == 0
