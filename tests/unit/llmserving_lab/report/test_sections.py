"""Runs that can be compared stand in one section, slices of a rate count together."""

from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from llmserving_lab.report.reading import read_result
from llmserving_lab.report.sections import Section, moments, points, sections

Document = dict[str, Any]
Write = Callable[[str, Document], Path]
Arrange = Callable[..., tuple[Section, ...]]


@pytest.fixture
def arrange(write: Write) -> Arrange:
    def from_documents(**documents: Document) -> tuple[Section, ...]:
        return sections([read_result(write(name, document)) for name, document in documents.items()])

    return from_documents


def test_a_rate_takes_the_good_requests_of_all_its_slices_together(rates: Document, arrange: Arrange) -> None:
    for run, good, arrived in zip(rates["runs"], (30, 90), (40, 110), strict=False):
        run.update(good=good, arrived=arrived, aborted=arrived // 11, attainment=good / (arrived - arrived // 11))
    (section,) = arrange(a=rates)
    low, high = points(section.series[0])
    assert (low.rate, high.rate) == (4.0, 6.0)
    assert high.attainment.value == pytest.approx(120 / (37 + 100))
    assert high.attainment.low == pytest.approx(30 / 37)
    assert high.attainment.high == pytest.approx(0.9)


def test_goodput_is_the_mean_of_the_slices(rates: Document, arrange: Arrange) -> None:
    (section,) = arrange(a=rates)
    first = [run["goodput_rps"] for run in rates["runs"][:2]]
    spread = points(section.series[0])[-1].goodput
    assert (spread.low, spread.high) == (min(first), max(first))
    assert spread.value == pytest.approx(sum(first) / 2)


def test_runs_at_the_traces_own_rate_are_on_no_rate_axis_but_over_time(rates: Document, arrange: Arrange) -> None:
    for run in rates["runs"]:
        run["rate_rps"] = None
    (section,) = arrange(a=rates)
    assert [points(series) for series in section.series] == [(), ()]
    assert [moment.label for moment in moments(section)] == ["at the trace's own rate"]


def test_files_of_one_setup_share_a_section_and_others_have_their_own(rates: Document, arrange: Arrange) -> None:
    more = deepcopy(rates)
    more["plan"]["policy"] = "default"
    more["plan"]["load"]["seed"] = 7
    for run in more["runs"]:
        run["seed"] += 10
    other = deepcopy(rates)
    other["plan"]["targets"][0]["itl"] = 0.03
    shared, alone = arrange(first=rates, more=more, other=other)
    assert (shared.files, alone.files) == (("first", "more"), ("other",))
    assert [(series.label, len(series.runs)) for series in shared.series] == [("memory-sla", 8), ("static:256x640", 8)]


def test_a_policy_measured_in_two_files_has_a_series_per_file(rates: Document, arrange: Arrange) -> None:
    after = deepcopy(rates)
    after["runs"] = [run for run in after["runs"] if run["policy"] == "memory-sla"]
    (section,) = arrange(before=rates, after=after)
    assert [series.label for series in section.series] == [
        "memory-sla (before)",
        "static:256x640",
        "memory-sla (after)",
    ]


def test_a_search_is_named_with_the_setting_it_settled_on(capacity: Document, arrange: Arrange) -> None:
    (section,) = arrange(a=capacity)
    bar = section.capacities[1]
    assert bar.label == f"static-grid: {capacity['capacity'][1]['chosen'].removeprefix('static:')}"
    assert bar.series in {series.label for series in section.series}
    assert section.limit == capacity["capacity"][0]["limit_rps"]


def test_policies_are_seen_side_by_side_each_at_its_capacity_and_in_overload(
    capacity: Document, arrange: Arrange
) -> None:
    (section,) = arrange(a=capacity)
    found = {moment.label: [label for label, _ in moment.runs] for moment in moments(section)}
    both = [series.label for series in section.series]
    assert found == {"each at its capacity": both, "each at 1.5 times its capacity": both}


def test_over_time_the_first_slice_of_each_rate_is_shown_lowest_rate_first(rates: Document, arrange: Arrange) -> None:
    (section,) = arrange(a=rates)
    assert [moment.label for moment in moments(section)] == ["4 requests/s", "6 requests/s"]
    assert {run.seed for moment in moments(section) for _, run in moment.runs} == {0}


def test_a_section_is_named_after_its_cell_or_its_load(rates: Document, arrange: Arrange) -> None:
    assert arrange(a=rates)[0].title == "conversation"
    rates["plan"]["load"].update(trace="/data/code.csv", arrivals="poisson")
    assert arrange(a=rates)[0].title == "code, arrivals: poisson"
    rates["cell"] = "code-poisson"
    assert arrange(a=rates)[0].title == "code-poisson"


def test_slices_with_capacities_of_their_own_are_seen_at_these(capacity: Document, arrange: Arrange) -> None:
    entry = capacity["capacity"][0]
    runs = [run for run in capacity["runs"] if run["policy"] == entry["measured_as"]]
    entry.update(low=1.0, slice_capacities=[[runs[0]["rate_rps"], None], [7.0, 7.2]])
    (section,) = arrange(a=capacity)
    labels = {moment.label: [name for name, _ in moment.runs] for moment in moments(section)}
    assert entry["measured_as"] in labels["each at its capacity"]
