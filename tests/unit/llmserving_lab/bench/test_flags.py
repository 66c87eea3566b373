from pathlib import Path

import pytest
from typer.testing import CliRunner

from llmserving_lab.__main__ import app
from llmserving_lab.bench.policies import PolicyError, setup_of


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--ttft", "2"], "--ttft 2: should be a time above zero with its unit"),
        (["--itl", "0ms"], "--itl 0ms: should be a time above zero"),
        (["--rates", "4,fast"], "'fast' should be a number of requests per second above zero"),
        (["--rates", "-1"], "'-1' should be a number"),
        (["--rates", "nan"], "'nan' should be a number"),
        (["--rates", "inf"], "'inf' should be a number"),
        (["--rates", "own"], "only a --trace with --arrivals own has a rate of its own"),
        (["--policies", " , "], "should name at least one policy"),
        (["--policies", "[/red]"], "policy '[/red]' is not known"),
        (["--policies", "magic"], "policy 'magic' is not known; known are default, static"),
        (["--policies", "static:512x64"], "no fewer tokens than sequences"),
        (["--policies", "static:many"], "should be static:SEQSxTOKENS"),
        (["--policies", "predictive:512x64"], "predictive:64x64 is the most for 64 tokens"),
        (["--policies", "predictive:many"], "should be predictive:SEQSxTOKENS"),
        (["--policies", "default:3"], "default takes no argument"),
        (["--sla-edit", "60s:speed=3"], "should be TIME:ttft=…,itl=…"),
        (["--sla-edit", "60s:itl"], "--sla-edit 60s:itl: should be TIME:ttft=…,itl=…"),
        (["--sla-edit", "60s:itl=30"], "--sla-edit 60s:itl=30: should be TIME:ttft=…,itl=…"),
        (["--sla-edit", "60s:itl=30ms", "--sla-edit", "50s:itl=20ms"], "in order of time"),
        (["--link-latency", "1ms"], "belong together"),
        (["--link-bandwidth", "50"], "belong together"),
        (
            ["--link-latency", "1ms", "--link-bandwidth", "-3"],
            "--link-bandwidth -3: should be a number of GB/s above zero",
        ),
        (["--link-latency", "1ms", "--link-bandwidth", "nan"], "--link-bandwidth nan: should be a number of GB/s"),
        (["--trace", "x.csv", "--load", "code"], "--load code: not with --trace x.csv"),
        (["--capacity", "--rates", "4"], "--rates 4: not with --capacity"),
        (["--trace", "/nothing/here.csv"], "here.csv: cannot be read"),
        (["--retries", "2"], "--retries 2: needs --abort-after"),
        (["--json", "/"], "--json /: is a folder"),
    ],
)
def test_a_bad_flag_gets_one_line_that_says_what_would_be_right(flags: list[str], message: str) -> None:
    result = CliRunner().invoke(app, ["bench", *flags])
    assert result.exit_code == 2
    assert message in " ".join(result.output.split())
    assert "Traceback" not in result.output


def test_disjoint_slices_that_do_not_fit_the_trace_are_refused(tmp_path: Path) -> None:
    trace = tmp_path / "t.csv"
    trace.write_text("TIMESTAMP,ContextTokens,GeneratedTokens\n" + "".join(f"{second},5,5\n" for second in range(100)))
    result = CliRunner().invoke(app, ["bench", "--trace", str(trace), "--requests", "60", "--slices", "2"])
    assert result.exit_code == 2
    assert "need 120 rows" in " ".join(result.output.split())


def test_a_static_policy_names_its_bounds() -> None:
    ceilings = setup_of("static:256x640").ceilings
    assert ceilings is not None
    assert (ceilings.max_num_seqs, ceilings.max_num_batched_tokens) == (256, 640)


def test_a_law_may_run_under_other_ceilings() -> None:
    usual, small = setup_of("predictive"), setup_of("predictive:64x512")
    assert usual.law == small.law == "predictive"
    assert usual.ceilings is None
    assert small.ceilings == setup_of("static:64x512").ceilings


def test_a_planner_needs_its_name() -> None:
    with pytest.raises(PolicyError, match="planner:NAME"):
        setup_of("planner")
