"""The token budget starves no decode and never stops prefill for good."""

from hypothesis import given
from hypothesis import strategies as st

from llmserving_engine.budget import PATIENCE_STEPS, SMALLEST_CHUNK, PrefillGuard, Quantum

tokens = st.integers(1, 8192)


@given(tokens, st.integers(0, 1024), st.integers(1, 4096), st.booleans())
def test_the_budget_covers_the_decodes_and_stays_under_the_ceiling(wanted, decodes, quantum, possible):
    granted, opened = PrefillGuard(8192).grant(wanted, decodes, quantum, possible)
    assert min(8192, max(decodes, min(wanted, 8192))) <= granted <= 8192
    assert not opened


@given(tokens, st.integers(0, 1024), st.integers(1, 4096))
def test_room_for_prefill_is_none_or_at_least_a_quantum(wanted, decodes, quantum):
    granted, _ = PrefillGuard(8192).grant(wanted, decodes, quantum, prefill_possible=True)
    room = granted - decodes
    assert room == 0 or room >= min(quantum, 8192 - decodes)


@given(tokens, st.integers(0, 1024), st.integers(1, 4096), st.integers(1, 8192))
def test_prefill_gets_whatever_it_needs_in_the_end(wanted, decodes, quantum, needed):
    guard = PrefillGuard(8192)
    for _ in range(PATIENCE_STEPS * 20):
        granted, _ = guard.grant(wanted, decodes, quantum, prefill_possible=True)
        if granted - decodes >= min(needed, 8192 - decodes):
            return
        guard.progressed(memory_free=True, prefill_tokens=0)
    raise AssertionError("prefill was starved")


def test_the_budget_is_opened_only_after_patience():
    guard = PrefillGuard(8192)
    for _ in range(PATIENCE_STEPS):
        assert guard.grant(64, 100, 16, prefill_possible=True) == (100, False)
        guard.progressed(memory_free=True, prefill_tokens=0)
    assert guard.grant(64, 100, 16, prefill_possible=True) == (116, True)
    guard.progressed(memory_free=True, prefill_tokens=16)
    assert guard.grant(64, 100, 16, prefill_possible=True) == (100, False)


def test_without_free_memory_the_budget_is_not_to_blame():
    guard = PrefillGuard(8192)
    for _ in range(PATIENCE_STEPS * 5):
        assert guard.grant(64, 100, 16, prefill_possible=True) == (100, False)
        guard.progressed(memory_free=False, prefill_tokens=0)


def test_the_quantum_is_the_smallest_chunk_that_vllm_accepts():
    assert Quantum().tokens(0, 5000) == SMALLEST_CHUNK
    assert Quantum(aligned_block=528).tokens(0, 5000) == 528
    assert Quantum(aligned_block=528, lookahead=3).tokens(0, 0) == 531
    assert Quantum().tokens(1200, 5000) == SMALLEST_CHUNK
    assert Quantum(whole_items=True).tokens(1200, 5000) == 1200
    assert Quantum(whole_items=True, lookahead=1).tokens(1200, 5000) == 1201
    assert Quantum(whole_prompt=True).tokens(0, 5000) == 5000
    assert Quantum(decode_tokens=33).tokens(0, 0) == 33
