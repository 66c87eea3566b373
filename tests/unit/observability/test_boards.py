"""Boards show what exists: series, labels, words for every panel."""

import re

import pytest

from llmserving_api import series
from llmserving_dashboards import vllm_series
from llmserving_dashboards.promql import TARGET_LABELS, rate, select
from llmserving_dashboards.queries import Query, board_queries
from llmserving_dashboards.service import service_board

BOARDS = [service_board()]
KNOWN = {definition.name: definition for definition in (*series.ALL, *vllm_series.ALL)}
VARIABLES = {"namespace": "default", "name": "chat", "__rate_interval": "1m"}
QUERIES = [query for board in BOARDS for query in board_queries(board, VARIABLES)]
PANELS = [panel for board in BOARDS for panel in board["panels"] if panel["type"] != "row"]


def selectors(expr: str) -> list[tuple[str, str]]:
    """Metric names of an expression with their matchers."""
    return re.findall(r"([a-z_]+:?[a-z0-9_]+)\{([^}]*)\}", expr)


@pytest.mark.parametrize("query", QUERIES, ids=lambda query: query.place)
def test_every_series_and_label_queried_is_exported(query: Query) -> None:
    found = selectors(query.expr)
    assert found
    for name, matchers in found:
        definition = KNOWN[re.sub(r"_(bucket|sum|count)$", "", name)]
        labels = re.findall(r"(\w+)=", matchers)
        assert set(labels) <= {*definition.labels, *TARGET_LABELS}


@pytest.mark.parametrize("query", QUERIES, ids=lambda query: query.place)
def test_every_query_is_about_the_chosen_service(query: Query) -> None:
    for _, matchers in selectors(query.expr):
        assert 'namespace="default",name="chat"' in matchers


@pytest.mark.parametrize("query", QUERIES, ids=lambda query: query.place)
def test_grouping_labels_exist(query: Query) -> None:
    for grouping in re.finditer(r"by \(([^)]*)\)", query.expr):
        labels = {label.strip() for label in grouping.group(1).split(",")}
        name, _ = selectors(query.expr[grouping.end() :])[0]
        known = {*KNOWN[re.sub(r"_(bucket|sum|count)$", "", name)].labels, *TARGET_LABELS}
        assert labels <= known | ({"le"} if name.endswith("_bucket") else set())


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel["title"])
def test_every_panel_says_what_it_shows_and_from_which_series(panel: dict) -> None:
    assert len(panel["description"]) > 40
    assert panel["fieldConfig"]["defaults"]["unit"]
    for target in panel["targets"]:
        for name, _ in selectors(target["expr"]):
            assert re.sub(r"_(bucket|sum|count)$", "", name) in panel["description"]


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel["title"])
def test_absent_values_are_said_in_words(panel: dict) -> None:
    defaults = panel["fieldConfig"]["defaults"]
    assert defaults["noValue"] in {"No traffic", "No data"}
    assert defaults["mappings"][0]["options"]["match"] == "null+nan"


def test_panels_and_queries_can_be_told_apart() -> None:
    for board in BOARDS:
        identities = [panel["id"] for panel in board["panels"]]
        assert len(set(identities)) == len(identities)
    for panel in PANELS:
        places = [target["refId"] for target in panel["targets"]]
        assert len(set(places)) == len(places)


def test_every_series_of_agent_and_engine_is_drawn() -> None:
    drawn = {re.sub(r"_(bucket|sum|count)$", "", name) for query in QUERIES for name, _ in selectors(query.expr)}
    about_the_operator = {name for name in KNOWN if name.startswith("llmserving_operator_")}
    said_by_a_condition = {series.GPU_SOURCE.name}
    assert set(KNOWN) - drawn == about_the_operator - drawn | said_by_a_condition


def test_targets_of_the_resource_are_lines() -> None:
    exprs = [query.expr for query in QUERIES]
    for metric in ("ttft", "itl", "e2e"):
        assert any(series.SLA_TARGET.name in expr and f'metric="{metric}"' in expr for expr in exprs)


def test_decisions_and_edits_are_marked_on_the_time_axis() -> None:
    marks = {annotation["name"]: annotation for annotation in BOARDS[0]["annotations"]["list"]}
    assert series.DECISIONS.name in marks["Decisions"]["expr"]
    assert series.BOUND_REQUESTED.name in marks["Decisions"]["expr"], "only decisions that moved something"
    assert "WithinBand" in marks["Decisions"]["expr"].partition("reason!~")[2]
    assert "{{reason}}" in marks["Decisions"]["titleFormat"]
    assert series.POLICY_REVISION.name in marks["Edits"]["expr"]


def test_only_marks_and_the_end_to_end_target_may_be_without_data() -> None:
    places = [query.place for query in QUERIES if query.optional]
    assert places == ["Decisions", "Edits", "End-to-end latency"]


def test_variables_are_filled_in_everywhere() -> None:
    assert all("$" not in query.expr for query in QUERIES)
    with pytest.raises(ValueError, match="a variable is left"):
        list(board_queries(BOARDS[0], {"namespace": "default"}))


def test_a_label_that_a_series_lacks_is_refused() -> None:
    with pytest.raises(ValueError, match="has no label 'reason'"):
        select(series.ATTAINMENT, reason="x")


def test_a_rate_over_a_gauge_with_buckets_is_refused() -> None:
    with pytest.raises(ValueError, match="is a gauge"):
        rate(series.ATTAINMENT, "_bucket")
