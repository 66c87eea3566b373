import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmserving_lab.traces.csvfile import TraceError, read_trace
from llmserving_lab.traces.generated import KINDS, generate
from llmserving_lab.traces.load import build_load
from llmserving_lab.traces.plan import LoadPlan
from llmserving_lab.traces.shapes import SHAPES, arrival_times

_HEADER = "TIMESTAMP,ContextTokens,GeneratedTokens"


def _file(folder: Path, *rows: str, header: str = _HEADER) -> Path:
    path = folder / "trace.csv"
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


def test_times_start_at_zero_and_keep_all_decimals(tmp_path: Path) -> None:
    path = _file(tmp_path, "2023-11-16 18:15:46.6805900,374,44", "2023-11-16 18:15:50.9951690,396,109")
    first, second = read_trace(path)
    assert (first.time, first.prompt_tokens, first.output_tokens) == (0.0, 374, 44)
    assert second.time == pytest.approx(4.314579, abs=1e-6)


def test_seconds_and_zones_are_times_too(tmp_path: Path) -> None:
    assert read_trace(_file(tmp_path, "1.5,10,10", "2.25,10,10"))[1].time == pytest.approx(0.75)
    path = _file(tmp_path, "2023-11-16T18:15:46.5Z,10,10", "2023-11-16T19:15:47.5+01:00,10,10")
    assert read_trace(path)[1].time == pytest.approx(1.0)


def test_equal_hash_ids_give_equal_beginnings(tmp_path: Path) -> None:
    path = _file(tmp_path, "0,600,5,7 8,a", "1,1000,5,7 9,b", header=_HEADER + ",HashIds,Class")
    first, second = read_trace(path)
    assert first.content == ((7, 512), (8, 88))
    assert second.content == ((7, 512), (9, 488))
    assert (first.request_class, second.request_class) == ("a", "b")


@pytest.mark.parametrize(
    ("rows", "header", "message"),
    [
        ((), _HEADER, "no rows after the header"),
        (("0,1",), "TIMESTAMP,ContextTokens", "row 1: column GeneratedTokens is missing"),
        (("0,1,1", "soon,1,1"), _HEADER, "row 3: TIMESTAMP is 'soon'"),
        (("nan,1,1", "1,1,1"), _HEADER, "row 2: TIMESTAMP is 'nan'"),
        (("0,1,1", "inf,1,1"), _HEADER, "row 3: TIMESTAMP is 'inf'"),
        (("0,1", "1,1,1"), _HEADER, "row 2: GeneratedTokens is ''"),
        (("0,1,1", "1,many,1"), _HEADER, "row 3: ContextTokens is 'many'"),
        (("0,1,-4",), _HEADER, "row 2: GeneratedTokens is -4"),
        (("5,1,1", "4,1,1"), _HEADER, "row 3: TIMESTAMP is earlier"),
        (("0,1000,1,5",), _HEADER + ",HashIds", "row 2: HashIds has 1 entries for 1000 tokens"),
    ],
)
def test_a_bad_trace_gets_one_line_with_file_row_and_what_is_wrong(
    tmp_path: Path, rows: tuple[str, ...], header: str, message: str
) -> None:
    with pytest.raises(TraceError, match=message) as raised:
        read_trace(_file(tmp_path, *rows, header=header))
    assert "trace.csv" in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_file_that_is_not_there_is_a_trace_error(tmp_path: Path) -> None:
    with pytest.raises(TraceError, match="cannot be read"):
        read_trace(tmp_path / "nothing.csv")


def test_a_slice_is_compressed_to_the_rate_and_keeps_its_pattern(tmp_path: Path) -> None:
    path = _file(tmp_path, *(f"{time},10,10" for time in (0, 1, 2, 3, 10, 11, 30)))
    load = build_load(LoadPlan(trace=str(path), start=2, requests=4, rate=2.0))
    assert [one.time for one in load] == pytest.approx([0.0, 2 / 9, 16 / 9, 2.0])


def test_a_slice_beyond_the_end_says_how_many_rows_there_are(tmp_path: Path) -> None:
    with pytest.raises(TraceError, match="has 1 rows; 5 requests from row 0 on need 5"):
        build_load(LoadPlan(trace=str(_file(tmp_path, "0,1,1")), requests=5))


@settings(max_examples=20, deadline=None)
@given(st.sampled_from(sorted(SHAPES)), st.floats(0.5, 20), st.integers(0, 1000))
def test_every_arrival_pattern_ascends_from_zero_at_about_its_rate(pattern: str, rate: float, seed: int) -> None:
    times = arrival_times(pattern, 4000, rate, random.Random(seed))
    assert times[0] == 0.0
    assert times == sorted(times)
    assert 4000 / times[-1] == pytest.approx(rate, rel=0.2)


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_every_generated_load_repeats_with_its_seed(kind: str) -> None:
    times = [0.5 * index for index in range(300)]
    one, same, other = (generate(kind, times, random.Random(seed)) for seed in (1, 1, 2))
    assert one == same != other
    assert all(arrival.prompt_tokens >= 1 and arrival.output_tokens >= 1 for arrival in one)
    assert all(sum(count for _, count in arrival.content) in {0, arrival.prompt_tokens} for arrival in one)


def test_turns_of_a_session_begin_with_the_turn_before() -> None:
    load = generate("sessions", [2.0 * index for index in range(400)], random.Random(3))
    by_session: dict[int, list[int]] = {}
    for arrival in load:
        session, own = arrival.content[1]
        by_session.setdefault(session, []).append(own)
    followed = [turns for turns in by_session.values() if len(turns) > 1]
    assert len(followed) > 20
    assert all(turns == sorted(turns) for turns in followed)


def test_fitted_lengths_have_the_means_of_the_trace() -> None:
    load = generate("conversation", [0.0] * 20_000, random.Random(0))
    assert sum(one.prompt_tokens for one in load) / 20_000 == pytest.approx(1155, rel=0.08)
    assert sum(one.output_tokens for one in load) / 20_000 == pytest.approx(211, rel=0.08)


def test_unknown_names_say_which_are_known() -> None:
    with pytest.raises(ValueError, match="known are conversation"):
        generate("poetry", [], random.Random(0))
    with pytest.raises(ValueError, match="known are own, poisson"):
        arrival_times("sudden", 1, 1.0, random.Random(0))
