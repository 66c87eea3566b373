"""The latency histogram: edges, error, merging, quantiles."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmserving_api.latency import (
    BUCKETS,
    FIRST_EDGE_SECONDS,
    bucket_of,
    edge_seconds,
    merge,
    quantile_seconds,
    share_above,
    value_seconds,
)

latencies = st.floats(FIRST_EDGE_SECONDS * 1.001, 900.0)
histograms = st.dictionaries(st.integers(0, BUCKETS - 1), st.integers(1, 1000), max_size=20)


@given(latencies)
def test_a_latency_is_reported_within_two_percent(seconds: float) -> None:
    assert value_seconds(bucket_of(seconds)) == pytest.approx(seconds, rel=0.0201)


@given(latencies)
def test_a_latency_lies_below_its_buckets_edge_and_above_the_one_before(seconds: float) -> None:
    bucket = bucket_of(seconds)
    assert edge_seconds(bucket - 1) * (1 - 1e-6) <= seconds <= edge_seconds(bucket) * (1 + 1e-6)


@pytest.mark.parametrize(("seconds", "bucket"), [(0.0, 0), (1e-4, 0), (-1.0, 0), (1e9, BUCKETS - 1)])
def test_the_ends_are_open(seconds: float, bucket: int) -> None:
    assert bucket_of(seconds) == bucket


@given(st.integers(0, BUCKETS - 1))
def test_an_edge_belongs_to_its_own_bucket(bucket: int) -> None:
    assert bucket_of(edge_seconds(bucket)) == bucket


def test_the_last_edge_lies_beyond_a_thousand_seconds() -> None:
    assert edge_seconds(BUCKETS - 1) > 1000


@given(st.lists(histograms, max_size=4))
def test_merging_adds_counts(parts: list[dict[int, int]]) -> None:
    assert sum(merge(parts).values()) == sum(sum(part.values()) for part in parts)


@given(st.lists(latencies, min_size=1, max_size=200), st.integers(1, 100))
def test_a_quantile_is_the_nearest_rank_within_the_buckets_error(values: list[float], percentile: int) -> None:
    counts: dict[int, int] = {}
    for value in values:
        counts[bucket_of(value)] = counts.get(bucket_of(value), 0) + 1
    exact = sorted(values)[max(1, math.ceil(percentile / 100 * len(values))) - 1]
    assert quantile_seconds(counts, percentile) == pytest.approx(exact, rel=0.0201)


def test_of_nothing_there_is_no_quantile_and_no_share() -> None:
    assert quantile_seconds({}, 95) is None
    assert share_above({}, 1.0) is None


def test_the_share_above_a_latency_leaves_its_own_bucket_out() -> None:
    counts = {bucket_of(0.1): 3, bucket_of(0.2): 1}
    assert share_above(counts, 0.1) == 0.25
    assert share_above(counts, 0.05) == 1.0
    assert share_above(counts, 0.3) == 0.0


@given(histograms, latencies)
def test_shares_lie_between_none_and_all(counts: dict[int, int], seconds: float) -> None:
    share = share_above(counts, seconds)
    assert share is None or 0.0 <= share <= 1.0
