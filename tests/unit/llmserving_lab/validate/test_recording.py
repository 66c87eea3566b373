import json
from pathlib import Path

import pytest

from llmserving_lab.bench.outcome import Outcome, Targets
from llmserving_lab.validate.comparison import compare
from llmserving_lab.validate.recording import Recording, RecordingError, read_recording

_REQUESTS = [
    {"queued_ts": 100.0, "first_token_ts": 100.5, "last_token_ts": 101.5, "input_toks": 10, "output_toks": 11},
    {"queued_ts": 99.0, "first_token_ts": 99.25, "last_token_ts": 99.25, "input_toks": 20, "output_toks": 1},
]
_META = {
    "model": "m",
    "vllm_version": "0.19.0",
    "engine_kwargs": {"max_num_seqs": 128, "max_num_batched_tokens": 2048},
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A small recorded run."""
    (tmp_path / "meta.json").write_text(json.dumps(_META))
    (tmp_path / "requests.jsonl").write_text("\n".join(json.dumps(row) for row in _REQUESTS))
    (tmp_path / "timeseries.csv").write_text("t,running,waiting\n1.0,1,0\n2.0,2,1\n")
    return tmp_path


def test_times_start_at_the_first_arrival(folder: Path) -> None:
    first, second = read_recording(folder).requests
    assert (first.queued, first.ttft, first.tpot) == (0.0, 0.25, None)
    assert (second.queued, second.ttft) == (1.0, 0.5)
    assert second.tpot == pytest.approx(0.1)


def test_a_replay_equal_to_the_recording_has_no_error(folder: Path) -> None:
    recording = read_recording(folder)
    outcomes = [
        Outcome(
            one.queued,
            one.prompt_tokens,
            one.output_tokens,
            Targets(None, None),
            [one.first_token + index * (one.tpot or 0.0) for index in range(one.output_tokens)],
            finished=True,
        )
        for one in recording.requests
    ]
    figures, differences = compare(recording, outcomes, recording.states)
    assert all(figure.error == pytest.approx(0.0, abs=1e-9) and figure.within for figure in figures)
    assert differences["running_mean_difference"] == differences["waiting_mean_difference"] == 0.0
    missing = " ".join(differences["not_validated"])
    assert "Inter-token gaps" in missing
    assert "Memory" in missing


def _with_token_times(folder: Path, **meta: object) -> Path:
    """The run with a time for every token, 0.1 s apart, two tokens in the last output."""
    first = dict(_REQUESTS[0], token_ts=[100.5 + 0.1 * index for index in range(9)] + [101.5, 101.5])
    second = dict(_REQUESTS[1], token_ts=[99.25])
    (folder / "requests.jsonl").write_text("\n".join(json.dumps(row) for row in (first, second)))
    document = json.loads((folder / "meta.json").read_text())
    (folder / "meta.json").write_text(json.dumps(document | meta))
    return folder


def _outcomes(recording: Recording, gap: float) -> list[Outcome]:
    return [
        Outcome(
            one.queued,
            one.prompt_tokens,
            one.output_tokens,
            Targets(None, None),
            [one.first_token + index * gap for index in range(one.output_tokens)],
            finished=True,
        )
        for one in recording.requests
    ]


def test_gaps_are_compared_where_every_token_has_a_time(folder: Path) -> None:
    recording = read_recording(_with_token_times(folder, kv_cache_tokens=5000))
    assert recording.kv_tokens == 5000
    figures, found = compare(recording, _outcomes(recording, 0.11), recording.states)
    by_name = {figure.name: figure for figure in figures}
    assert by_name["itl_p50"].real == pytest.approx(0.1)
    assert by_name["itl_p50"].error == pytest.approx(0.1)
    assert by_name["itl_p99"].real == pytest.approx(0.2), "two tokens in one output are one gap"
    assert found["not_validated"] == []


def test_the_front_end_of_a_client_is_added_to_the_replay(folder: Path) -> None:
    recording = read_recording(_with_token_times(folder, measured_at="client", front_end_seconds=0.05))
    figures, found = compare(recording, _outcomes(recording, 0.1), recording.states)
    mean = next(figure for figure in figures if figure.name == "ttft_mean")
    assert mean.replayed - mean.real == pytest.approx(0.05)
    assert found["front_end_seconds"] == 0.05


def test_a_clients_times_without_the_front_ends_share_are_said_to_be_so(folder: Path) -> None:
    recording = read_recording(_with_token_times(folder, measured_at="client"))
    _, found = compare(recording, _outcomes(recording, 0.1), ())
    assert "how much of them is front end is not known" in " ".join(found["not_validated"])


def test_an_error_above_its_limit_is_not_within(folder: Path) -> None:
    recording = read_recording(folder)
    slow = [
        Outcome(
            one.queued,
            1,
            one.output_tokens,
            Targets(None, None),
            [one.first_token + 0.2 * i for i in range(one.output_tokens)],
        )
        for one in recording.requests
    ]
    figures, _ = compare(recording, slow, recording.states)
    by_name = {figure.name: figure for figure in figures}
    assert not by_name["tpot_mean"].within
    assert by_name["ttft_mean"].within


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("meta.json", "{}", r"engine_kwargs\.max_num_seqs is missing"),
        ("meta.json", "{", r"meta\.json: row 1: not JSON"),
        ("requests.jsonl", "", "has no requests"),
        ("requests.jsonl", '{"queued_ts": 1}', r"requests\.jsonl: row 1: first_token_ts is missing"),
        ("requests.jsonl", json.dumps(_REQUESTS[0] | {"last_token_ts": 1}), "row 1: .*follow each other"),
        ("requests.jsonl", json.dumps(_REQUESTS[0] | {"token_ts": [100.5]}), "row 1: token_ts holds 1 times"),
        ("requests.jsonl", json.dumps(_REQUESTS[1] | {"token_ts": [99.0]}), "row 1: token_ts should ascend"),
        ("meta.json", json.dumps(_META | {"kv_cache_tokens": "many"}), "kv_cache_tokens is 'many'"),
        ("timeseries.csv", "t,running,waiting\n1,many,0\n", r"timeseries\.csv: row 2"),
    ],
)
def test_a_bad_recording_gets_one_line_with_file_and_row(folder: Path, file: str, text: str, message: str) -> None:
    (folder / file).write_text(text)
    with pytest.raises(RecordingError, match=message):
        read_recording(folder)
