import io

from rich.console import Console
from rich.table import Table

from llmserving_lab.bench.tables import capacity_table, run_table


def at_eighty_columns(table: Table) -> str:
    out = io.StringIO()
    Console(file=out, width=80).print(table)
    return out.getvalue()


def test_names_and_figures_of_runs_are_whole_at_eighty_columns() -> None:
    run = {
        "policy": "static:512x640",
        "rate_rps": 8.0,
        "attainment": 0.995,
        "goodput_rps": 7.96,
        "ttft_p50_s": 0.162,
        "ttft_p95_s": 12.865,
        "itl_p95_s": 0.0466,
        "itl_p99_s": 0.0481,
        "preemptions": 1204,
    }
    text = at_eighty_columns(run_table([run, {"policy": "limit", "throughput_rps": 9.0}], "runs"))
    assert "static:512x640  8.00  0.995     7.96  0.162  12.865  0.0466  0.0481    1204" in text
    assert "limit              -" in text
    assert "…" not in text


def test_capacities_are_whole_at_eighty_columns() -> None:
    entry = {
        "policy": "static-grid",
        "capacity_rps": 7.01,
        "low": 7.01,
        "high": None,
        "pooled_rps": 6.9,
        "limit_rps": 14.02,
        "overload": 0.71,
        "chosen": "static:256x8192",
    }
    text = at_eighty_columns(capacity_table([entry]))
    assert " ".join(text.splitlines()[5].split()) == "static-grid 7.01 - 6.90 0.50 0.71 static:256x8192"
    assert "…" not in text
