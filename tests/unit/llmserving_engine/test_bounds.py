"""Laws of the bounds: always inside the ceilings, drifting to the fallback and to nothing else."""

from hypothesis import given
from hypothesis import strategies as st

from llmserving_engine.bounds import GLIDE_SECONDS, AppliedBounds, Bounds, Desired

SECOND = 10**9
ceilings = st.builds(Bounds, st.integers(1, 4096), st.integers(1, 65_536))
anything = st.builds(Bounds, st.integers(1, 10_000), st.integers(1, 200_000))


@given(ceilings, anything, anything, st.floats(1, 3600), st.integers(0, 10_000 * SECOND))
def test_applied_bounds_lie_inside_the_ceilings_whatever_was_asked_for(top, requested, fallback, lease, now):
    desired = Desired(requested=requested, fallback=fallback, lease_seconds=lease)
    applied = AppliedBounds(top).advance(desired, now, 1)
    assert 1 <= applied.max_num_seqs <= top.max_num_seqs
    assert 1 <= applied.max_num_batched_tokens <= top.max_num_batched_tokens


@given(anything, anything, st.floats(1, 3600), st.lists(st.integers(0, 5000 * SECOND), min_size=2).map(sorted))
def test_after_the_lease_the_bounds_move_one_way_from_the_requested_to_the_fallback(requested, fallback, lease, times):
    top = Bounds(10_000, 200_000)
    desired = Desired(requested=requested, fallback=fallback, lease_seconds=lease)
    path = [desired.bounds_at(now, top).max_num_seqs for now in times]
    falling = requested.max_num_seqs >= fallback.max_num_seqs
    assert path == sorted(path, reverse=falling)
    low, high = sorted((requested.max_num_seqs, fallback.max_num_seqs))
    assert all(low <= value <= high for value in path)


def test_under_the_lease_the_bounds_are_as_requested_and_after_the_glide_as_the_fallback():
    top, asked, fallback = Bounds(512, 8192), Bounds(8, 512), Bounds(256, 2048)
    desired = Desired(requested=asked, fallback=fallback, lease_seconds=30, confirmed_ns=SECOND)
    assert desired.bounds_at(31 * SECOND, top) == asked
    assert desired.bounds_at(int((31 + GLIDE_SECONDS) * SECOND), top) == fallback
    middle = desired.bounds_at(int((31 + GLIDE_SECONDS / 2) * SECOND), top)
    assert middle == Bounds(45, 1024)  # equal ratios in equal times: the geometric mean


def test_the_lease_holds_up_to_the_time_it_expires():
    asked, fallback = Bounds(8, 512), Bounds(256, 2048)
    desired = Desired(requested=asked, fallback=fallback, lease_seconds=0.1, confirmed_ns=SECOND)
    assert desired.expires_ns == SECOND + SECOND // 10
    keeper = AppliedBounds(Bounds(512, 8192))
    assert keeper.advance(desired, desired.expires_ns, 1) == asked
    assert not keeper.is_gliding
    keeper.advance(desired, desired.expires_ns + 1, 2)
    assert keeper.is_gliding
    assert keeper.advance(desired, desired.expires_ns + SECOND, 3) != asked


def test_bounds_are_effective_once_a_step_has_kept_both():
    keeper = AppliedBounds(Bounds(512, 8192))
    first, second = Bounds(100, 1000), Bounds(10, 100)
    keeper.advance(Desired(requested=first, fallback=first), 0, 1)
    keeper.observe(running=50, tokens=1000)
    assert keeper.effective == first
    keeper.advance(Desired(requested=second, fallback=second), 0, 2)
    for running, tokens in ((50, 90), (10, 101)):
        keeper.observe(running, tokens)
        assert keeper.effective == first
    keeper.observe(running=10, tokens=100)
    assert keeper.effective == second
    assert keeper.applied_step == 2


def test_the_applied_step_changes_only_with_the_bounds():
    keeper = AppliedBounds(Bounds(512, 8192))
    bounds = Bounds(100, 1000)
    for step in range(1, 5):
        keeper.advance(Desired(requested=bounds, fallback=bounds, operation_id=step), 0, step)
    assert keeper.applied_step == 1
