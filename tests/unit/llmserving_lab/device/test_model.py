import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmserving_lab.device.coefficients import load_coefficients, shipped_devices
from llmserving_lab.device.disturbance import HARDER, Noise, Slowdown, Together
from llmserving_lab.device.fit import fit_coefficients
from llmserving_lab.device.kernels import AttentionTable, equivalent_chunk
from llmserving_lab.device.memory import capture_sizes
from llmserving_lab.device.model import Links, StepBatch, UnknownMemoryError, load_device
from llmserving_lab.device.profile import ProfileError
from llmserving_lab.device.tables import Grid


def _mixed(chunk: int = 16, decodes: int = 64, context: int = 1024) -> StepBatch:
    return StepBatch(((chunk, 0),), decodes, decodes * context, context, decodes)


def test_a_step_is_the_sum_of_its_measured_parts(profile: Path) -> None:
    cost = load_device(profile).step_seconds(StepBatch((), 64, 64 * 1024, 1024, 64))
    block = 200 + 2 * 2 + (3 - 1) * (200 + 2 * 2) * 63 / 1023
    head = 725 + (994 - 725) * 63 / 255
    once = 3 + 6 * 63 / 1023
    assert cost.device_seconds * 1e6 == pytest.approx(32 * (block + 220) + once + head)
    assert not cost.extrapolated


def test_a_mixed_step_takes_the_measured_mixed_time_and_not_the_sum(profile: Path) -> None:
    device = load_device(profile)
    both = device.step_seconds(_mixed()).device_seconds
    attention_of_parts = 32 * (8 + 220) * 1e-6
    attention_mixed = 32 * 310 * 1e-6
    without = both - attention_mixed
    assert attention_mixed > attention_of_parts
    assert without == pytest.approx(
        device.step_seconds(StepBatch((), 80, 80 * 1024, 1024, 64)).device_seconds
        - 32 * device.kernels.attention.decode.at(80, 1024) * 1e-6
    )


def test_the_longest_sequence_of_a_step_is_waited_for(profile: Path) -> None:
    device = load_device(profile)
    even = device.step_seconds(StepBatch((), 64, 64 * 512, 512, 64)).seconds
    skewed = device.step_seconds(StepBatch((), 64, 64 * 512, 1024, 64)).seconds
    assert skewed > even


def test_steps_outside_the_measured_range_are_marked(profile: Path) -> None:
    device = load_device(profile)
    assert device.step_seconds(StepBatch(((4096, 0),), sampled=1)).extrapolated
    assert device.step_seconds(StepBatch((), 128, 128 * 100, 100, 128)).extrapolated
    assert not device.step_seconds(_mixed()).extrapolated


def test_mixed_steps_far_beyond_the_measured_contexts_take_at_least_as_long_as_their_parts() -> None:
    falls = {1000: 90.0, 2000: 80.0}  # as between two measurements that lie a little off
    table = AttentionTable(
        prefill=Grid.of([((64, 0), 10.0), ((64, 4000), 50.0)]),
        decode=Grid.of([((1, 1000), 20.0), ((1, 2000), 40.0)]),
        mixed=Grid.of([((64, 1, cached, at), time) for cached in (0, 4000) for at, time in falls.items()]),
        largest_chunk=64,
        largest_cached=4000,
        largest_context=2000,
        largest_decodes=(1, 1),
    )
    assert table.microseconds(StepBatch(((64, 0),), 1, 2000, 2000, 1)) == (80.0, False)
    assert table.microseconds(StepBatch(((64, 0),), 1, 10_000, 10_000, 1)) == (10.0 + 200.0, True)
    assert table.microseconds(StepBatch(((64, 40_000),), 1, 1000, 1000, 1)) == (410.0 + 20.0, True)


@given(st.lists(st.tuples(st.integers(1, 4096), st.integers(0, 8192)), min_size=1, max_size=6))
def test_chunks_put_together_keep_their_query_key_pairs(chunks: list[tuple[int, int]]) -> None:
    tokens, cached = equivalent_chunk(tuple(chunks))
    pairs = sum(chunk * (before + chunk / 2) for chunk, before in chunks)
    assert tokens * (cached + tokens / 2) == pytest.approx(pairs)


def test_synchronous_scheduling_adds_the_host_and_asynchronous_hides_it(profile: Path) -> None:
    batch = _mixed()
    hidden = load_device(profile).step_seconds(batch)
    added = load_device(profile, asynchronous=False).step_seconds(batch)
    assert hidden.seconds == hidden.device_seconds
    assert added.seconds == pytest.approx(added.device_seconds + added.host_seconds)


def test_an_empty_step_costs_nothing(profile: Path) -> None:
    assert load_device(profile).step_seconds(StepBatch()).seconds == 0.0


def test_kv_capacity_shrinks_with_the_ceilings(profile: Path) -> None:
    device = load_device(profile)
    assert device.kv_capacity_tokens(256, 2048) > device.kv_capacity_tokens(256, 16384) > 0
    assert device.kv_capacity_tokens(64, 2048) > device.kv_capacity_tokens(1024, 2048)


def test_an_unknown_card_asks_for_the_kv_capacity(profile: Path) -> None:
    (profile / "meta.yaml").write_text("gpu: Abacus 9000\nmodel: meta-llama/Llama-3.1-8B\n")
    with pytest.raises(UnknownMemoryError, match=r"Abacus 9000.*--kv-tokens"):
        load_device(profile).kv_capacity_tokens(256, 2048)


def test_an_unknown_model_works_from_its_folder_alone(profile: Path) -> None:
    (profile / "meta.yaml").write_text(
        "gpu: Abacus 9000\nmodel: nobody/new-1T\nnum_hidden_layers: 12\nmemory_gib: 100\n"
        "shape: {layers: 12, hidden: 1024, intermediate: 4096, kv_heads: 8, head_dim: 64, vocabulary: 32000, parameters: 1.0e9}\n"
    )
    device = load_device(profile)
    assert device.layers == 12
    assert device.kv_capacity_tokens(256, 2048) > 0


def test_links_of_a_tensor_parallel_profile_add_time_and_their_absence_is_said(profile: Path) -> None:
    (profile / "meta.yaml").write_text("gpu: H200\nmodel: meta-llama/Llama-3.1-8B\ntensor_parallel_size: 2\n")
    bare = load_device(profile)
    assert any("communication" in caveat for caveat in bare.caveats)
    linked = replace(bare, links=Links(20e-6, 50e9))
    added = linked.step_seconds(_mixed()).seconds - bare.step_seconds(_mixed()).seconds
    assert added == pytest.approx(2 * 32 * (20e-6 + 80 * 8192 / 50e9))


def test_captured_graphs_pad_a_decode_step_up_to_the_next_size(profile: Path) -> None:
    device = replace(load_device(profile), graph_sizes=capture_sizes(256), eager_seconds=1e-3)
    at = {n: device.step_seconds(StepBatch((), n, n * 16, 16, 1)).seconds for n in (33, 39, 40, 41)}
    dense = {n: device.kernels.block.at(n) for n in (40, 48)}
    assert at[33] < at[40] < at[41]
    assert at[41] - at[40] > 32 * (dense[48] - dense[40]) * 1e-6
    mixed = replace(device, eager_seconds=0.0).step_seconds(_mixed()).seconds
    assert device.step_seconds(_mixed()).seconds == pytest.approx(mixed + 1e-3)


@pytest.mark.parametrize("name", shipped_devices())
def test_every_shipped_device_has_a_source_and_a_plausible_step(name: str) -> None:
    device = load_device(name)
    assert len(load_coefficients(name).source) > 40
    small = device.step_seconds(StepBatch((), 1, 100, 100, 1)).seconds
    large = device.step_seconds(_mixed(chunk=2048, decodes=128)).seconds
    assert 0.001 < small < large < 0.5
    assert device.kv_capacity_tokens(256, 8192) > 20_000


def test_a_fit_reproduces_the_profile_it_was_made_from(profile: Path, tmp_path: Path) -> None:
    file = tmp_path / "fitted.json"
    file.write_text(json.dumps(fit_coefficients(profile, source="the test's profile")))
    fitted, measured = load_device(str(file)), load_device(profile)
    for batch in (StepBatch(((2048, 0),), sampled=1), StepBatch((), 64, 64 * 1024, 1024, 64), _mixed()):
        assert fitted.step_seconds(batch).seconds == pytest.approx(measured.step_seconds(batch).seconds, rel=0.15)


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("dense.csv", "layer,tokens\nmlp,1\n", r"dense\.csv: row 1: column 'time_us' is missing"),
        ("dense.csv", "layer,tokens,time_us\nmlp,1,5\nmlp,x,6\n", r"dense\.csv: row 3: tokens is 'x'"),
        ("dense.csv", "layer,tokens,time_us\nmlp,1,5\n", r"fewer than two token counts"),
        ("dense.csv", "layer,tokens,time_us\na,1,5\nb,1,5\na,2,6\n", r"1 layers at 2 tokens"),
        ("attention.csv", "prefill_chunk,kv_prefill,n_decode,kv_decode,time_us\n0,0,0,0,1\n", r"row 2: .*both 0"),
        (
            "attention.csv",
            "prefill_chunk,kv_prefill,n_decode,kv_decode,time_us\n16,0,0,0,1\n",
            r"no rows with decode only",
        ),
        (
            "attention.csv",
            "prefill_chunk,kv_prefill,n_decode,kv_decode,time_us\n16,0,0,0,-1\n",
            r"row 2: time_us is -1",
        ),
        ("per_sequence.csv", "layer,sequences,time_us\n", r"has no rows"),
        ("meta.yaml", "a: [", r"meta\.yaml: not YAML"),
        ("meta.yaml", "gpu: x\nmodel: y\nnum_hidden_layers: few\n", r"num_hidden_layers is 'few'"),
        ("meta.yaml", "gpu: x\nmodel: y\nshape: {layers: many}\n", r"shape: .*its fields are numbers"),
        ("meta.yaml", "gpu: x\nmodel: y\n", r"num_hidden_layers is missing"),
    ],
)
def test_a_bad_profile_gets_one_line_with_file_row_and_what_is_wrong(
    profile: Path, file: str, text: str, message: str
) -> None:
    (profile / file).write_text(text)
    with pytest.raises(ProfileError, match=message) as raised:
        load_device(profile)
    assert "\n" not in str(raised.value)


def test_a_missing_folder_names_the_shipped_devices(tmp_path: Path) -> None:
    with pytest.raises(ProfileError, match="no such profile folder or coefficient file; shipped devices are h200"):
        load_device(tmp_path / "nothing")


def test_an_empty_folder_says_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(ProfileError, match=r"meta\.yaml: missing"):
        load_device(tmp_path)


def test_a_missing_coefficient_file_names_the_shipped_ones() -> None:
    with pytest.raises(ProfileError, match="h200-qwen3-8b"):
        load_device("nothing.json")


def test_noise_is_the_same_for_the_same_seed_and_rarely_far_from_one() -> None:
    one, same = ([noise.factor(0.0) for _ in range(2000)] for noise in (Noise(7), Noise(7)))
    assert one == same
    assert 0.98 < sum(one) / len(one) < 1.03
    assert max(one) > 1.2


def test_disturbances_together_multiply() -> None:
    slow = Slowdown(times_slower=2.0, period=10.0, duration=1.0)
    assert Together((slow, slow)).factor(10.5) == 4.0
    assert Together((slow, slow)).factor(15.0) == 1.0
    assert all(HARDER[name](1).factor(0.0) > 0 for name in HARDER)
