"""A recording from the first look at the server to the folder, against a server that plays vLLM."""

import json
from pathlib import Path
from typing import Any

import pytest

from llmserving_lab.record import session
from llmserving_lab.record.errors import RecordError
from llmserving_lab.record.folder import Recorded, check_free, write_recording
from llmserving_lab.record.server import Ceilings
from llmserving_lab.record.session import Progress, RecordPlan, record
from llmserving_lab.traces.plan import LoadPlan
from llmserving_lab.validate.recording import read_recording

BEFORE = session.WARM_UP_REQUESTS + session.PROBES


@pytest.fixture(autouse=True)
def no_long_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "SETTLE_SECONDS", 0.3)
    monkeypatch.setattr(session, "LEAD_SECONDS", 0.05)


async def recorded(server: Any, requests: int = 8, **changes: Any) -> Recorded:
    load = changes.pop("load", LoadPlan(kind="code", requests=requests, rate=40.0))
    return await record(RecordPlan(url=server.url, load=load, tick_seconds=0.05, **changes))


async def test_a_recording_is_what_validate_reads(server: Any, tmp_path: Path) -> None:
    made = await recorded(server, card="Card 1")
    write_recording(tmp_path / "run", made)
    run = read_recording(tmp_path / "run")
    assert len(run.requests) == 8
    assert (run.max_num_seqs, run.max_num_batched_tokens, run.kv_tokens) == (128, 2048, 16_000)
    assert (run.vllm_version, run.model, run.at_client) == ("0.32.0", "org/m", True)
    assert run.front_end_seconds is not None
    assert all(len(one.token_times) == one.output_tokens for one in run.requests)
    assert run.requests[0].queued == 0.0
    assert run.states
    meta = json.loads((tmp_path / "run" / "meta.json").read_text())
    assert meta["card"] == "Card 1"
    assert meta["num_requests"] == 8


async def test_requests_have_the_lengths_of_the_load_and_content_of_their_own(server: Any) -> None:
    made = await recorded(server)
    bodies = server.bodies[BEFORE:]
    assert sorted(len(body["prompt"]) for body in bodies) == sorted(one.prompt_tokens for one in made.records)
    assert all(body["ignore_eos"] and body["stream_options"]["continuous_usage_stats"] for body in bodies)
    assert len({tuple(body["prompt"]) for body in server.bodies}) == len(server.bodies)


async def test_several_tokens_in_one_output_are_all_timed_and_are_one_gap(server: Any, tmp_path: Path) -> None:
    server.tokens_per_output = 3
    write_recording(tmp_path, await recorded(server))
    for one in read_recording(tmp_path).requests:
        assert len(one.token_times) == one.output_tokens
        assert len(one.gaps) == -(-one.output_tokens // 3) - 1


async def test_progress_counts_to_the_end(server: Any) -> None:
    seen: list[Progress] = []
    await record(RecordPlan(server.url, LoadPlan(requests=5, rate=50.0), tick_seconds=0.05), seen.append)
    assert [seen[0].what, seen[-1].what] == ["warming up", "done"]
    assert (seen[-1].ended, seen[-1].requests) == (5, 5)


async def test_bounds_given_by_the_user_count_over_those_of_the_server(server: Any) -> None:
    made = await recorded(server, ceilings=Ceilings(64, None))
    assert made.model.ceilings == Ceilings(64, 2048)


@pytest.mark.parametrize(
    ("change", "arguments", "message"),
    [
        ({"tells_settings": False}, {}, r"--max-num-seqs and --max-num-batched-tokens .*VLLM_SERVER_DEV_MODE"),
        ({"models": ("a", "b")}, {}, r"serves 2 models; give one with --model: a, b"),
        ({}, {"model": "gpt"}, r"--model gpt: .* does not serve it; it serves m"),
        ({"max_model_len": 500}, {}, r"load code: request \d+: \d+ prompt and .* more than the model's 500"),
        ({"busy": 3}, {}, r"is busy: 3 requests run"),
        ({"other_requests": 2}, {}, r"counts 10 requests where 8 were sent"),
        ({"tells_tokens": False}, {}, r"does not say how many tokens an output holds"),
        ({"fail_from": 14}, {}, r"6 of 8 requests failed, the first with: HTTP 500: out of memory"),
        ({}, {"load": LoadPlan(kind="nonsense", rate=1.0)}, r"load 'nonsense' is not known"),
        ({}, {"load": LoadPlan(trace="/no/such.csv", rate=1.0)}, r"/no/such.csv: cannot be read"),
    ],
)
async def test_what_cannot_be_recorded_is_said_in_one_line(
    server: Any, change: dict[str, Any], arguments: dict[str, Any], message: str
) -> None:
    for name, value in change.items():
        setattr(server, name, value)
    with pytest.raises(RecordError, match=message) as raised:
        await recorded(server, **arguments)
    assert "\n" not in str(raised.value)


async def test_a_row_too_long_for_the_model_is_named_by_file_and_row(server: Any, tmp_path: Path) -> None:
    trace = tmp_path / "trace.csv"
    trace.write_text("TIMESTAMP,ContextTokens,GeneratedTokens\n0,10,5\n1,4000,200\n2,10,5\n")
    server.max_model_len = 4096
    with pytest.raises(RecordError, match=r"trace\.csv: row 3: 4000 prompt and 200 output .* 4096; 1 of 3"):
        await recorded(server, load=LoadPlan(trace=str(trace), requests=3, rate=10.0))


async def test_a_server_that_is_not_there_is_said_with_its_address(server: Any) -> None:
    server.url = "http://127.0.0.1:1"
    with pytest.raises(RecordError, match=r"^http://127.0.0.1:1 cannot be reached"):
        await recorded(server)


async def test_a_server_that_is_no_openai_server_is_told_what_the_url_should_be(server: Any) -> None:
    server.url += "/v1"
    with pytest.raises(RecordError, match=r"--url should be the root"):
        await recorded(server)


async def test_a_recording_is_never_overwritten(server: Any, tmp_path: Path) -> None:
    check_free(tmp_path / "new")
    write_recording(tmp_path, await recorded(server, requests=2))
    with pytest.raises(RecordError, match="holds a recording already"):
        check_free(tmp_path)
