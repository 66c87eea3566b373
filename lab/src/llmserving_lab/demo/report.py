"""The report page: one self-contained HTML file with figures on one time axis, the phases and the edits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

from llmserving_lab.demo.figure import figure_html
from llmserving_lab.demo.timeline import Run


def write_report(path: Path, run: Run, document: Mapping[str, Any], tables: Mapping[str, str]) -> None:
    """Write the page.

    Args:
        path: The file.
        run: What was recorded.
        document: The content of `result.json`.
        tables: Title → text as a terminal shows it.
    """
    page = Template(files("llmserving_lab.demo").joinpath("report.html").read_text())
    path.write_text(
        page.substitute(
            lead=_lead(document),
            cards="".join(_card(*card) for card in _cards(document)),
            figure=figure_html(run),
            phases=_phases(document["phases"]),
            edits=_edits(document["sla_edits"]),
            facts=_facts(document),
            tables="".join(f"<h3>{escape(title)}</h3><pre>{escape(text)}</pre>" for title, text in tables.items()),
        )
    )


def _lead(document: Mapping[str, Any]) -> str:
    engine, cluster = document["engine"], document["kubernetes"]
    count = "1 engine" if engine["replicas"] == 1 else f"{engine['replicas']} engines"
    return escape(
        f"{count}, vLLM {engine['vllm_version']} on Kubernetes {cluster['version']}, "
        f"{engine['device']}; {document['traffic']}."
    )


def _cards(document: Mapping[str, Any]) -> list[tuple[str, str, str, bool]]:
    """Number, what it is, a remark, and whether it is as it should be."""
    requests = document["requests"]
    applied = document["edit_to_applied_p95_seconds"]
    tight = min(document["phases"], key=lambda phase: (phase["itl_target_s"], "settling" in phase["name"]))
    low = tight["itl_p95_s"]
    return [
        (str(requests["failed"]), "failed requests", f"of {requests['sent']}", requests["failed"] == 0),
        (
            _seconds(applied),
            "from kubectl to every engine",
            f"p95 of {len(document['sla_edits'])} edits, goal 2 s",
            applied is not None and applied <= 2.0,
        ),
        (
            _ms(low),
            "p95 inter-token latency, tight phase",
            f"target {_ms(tight['itl_target_s'])}",
            low is not None and low <= tight["itl_target_s"],
        ),
        (
            str(document["pod_restarts"]),
            "pod restarts",
            "same pods to the end" if document["pod_uids_unchanged"] else "pods were replaced",
            document["pod_restarts"] == 0 and document["pod_uids_unchanged"],
        ),
        (
            f"{document['apply_to_ready_seconds']:.0f} s",
            "from kubectl apply to Ready",
            "goal 120 s",
            document["apply_to_ready_seconds"] <= 120,
        ),
    ]


def _card(number: str, what: str, remark: str, good: bool) -> str:
    mark = "good" if good else "bad"
    return (
        f'<div class="card {mark}"><div class="number">{escape(number)}</div>'
        f"<div>{escape(what)}</div><small>{escape(remark)}</small></div>"
    )


def _phases(phases: Sequence[Mapping[str, Any]]) -> str:
    head = (
        "phase",
        "seconds",
        "requests",
        "TTFT target",
        "TTFT p50",
        "TTFT p95",
        "ITL target",
        "ITL p50",
        "ITL p95",
        "attainment",
        "sequence bound",
        "token bound",
        "granted to a step",
    )
    rows = []
    for one in phases:
        share = one["attainment"]
        rows.append(
            [
                (one["name"], ""),
                (f"{one['start_seconds']:.0f} to {one['end_seconds']:.0f}", ""),
                (str(one["requests"]), ""),
                (_ms(one["ttft_target_s"]), "target"),
                (_ms(one["ttft_p50_s"]), ""),
                (_ms(one["ttft_p95_s"]), _verdict(one["ttft_p95_s"], one["ttft_target_s"])),
                (_ms(one["itl_target_s"]), "target"),
                (_ms(one["itl_p50_s"]), ""),
                (_ms(one["itl_p95_s"]), _verdict(one["itl_p95_s"], one["itl_target_s"])),
                ("-" if share is None else f"{share:.1%}", ""),
                (_count(one["max_num_seqs_median"]), ""),
                (_count(one["max_num_batched_tokens_median"]), ""),
                (_count(one["granted_tokens_mean"]), ""),
            ]
        )
    return _table(head, rows)


def _edits(edits: Sequence[Mapping[str, Any]]) -> str:
    head = ("", "edit", "at", "kubectl itself", "applied in every engine", "effective")
    rows = [
        [
            (str(number), ""),
            (("kubectl apply: " if one["applied_manifest"] else "kubectl patch: ") + one["change"], ""),
            (f"{one['at_seconds']:.0f} s", ""),
            (_seconds(one["kubectl_seconds"]), ""),
            (_seconds(one["kubectl_to_applied_seconds"]), _verdict(one["kubectl_to_applied_seconds"], 2.0)),
            (_seconds(one["kubectl_to_effective_seconds"]), ""),
        ]
        for number, one in enumerate(edits, start=1)
    ]
    return _table(head, rows)


def _facts(document: Mapping[str, Any]) -> str:
    ready = document["kubernetes"]["ready_seconds"]
    sizes = ", ".join(f"{name} {size / 1e6:.0f} MB" for name, size in document["image_bytes"].items())
    steps = ", ".join(f"{step} {seconds:.0f} s" for step, seconds in document["steps_seconds"].items())
    rows = [
        ("Kubernetes", f"{document['kubernetes']['version']}, ready after {_seconds(ready)}"),
        ("Engine", f"vLLM {document['engine']['vllm_version']}, {document['engine']['device']}"),
        ("GPU facts from", document["engine"]["gpu_source"] or "nothing"),
        ("Traffic", document["traffic"]),
        ("Images", sizes),
        ("Prometheus", f"{document['prometheus_targets_up']} targets up"),
        ("Steps", steps),
    ]
    return "".join(f"<dt>{escape(name)}</dt><dd>{escape(text)}</dd>" for name, text in rows)


def _table(head: Sequence[str], rows: Sequence[Sequence[tuple[str, str]]]) -> str:
    titles = "".join(f"<th>{escape(title)}</th>" for title in head)
    body = "".join(
        "<tr>" + "".join(f'<td class="{kind}">{escape(text)}</td>' for text, kind in row) + "</tr>" for row in rows
    )
    return f"<table><thead><tr>{titles}</tr></thead><tbody>{body}</tbody></table>"


def _verdict(value: float | None, target: float) -> str:
    if value is None:
        return ""
    return "met" if value <= target else "missed"


def _ms(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.2f} s"


def _seconds(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds:.2f} s"


def _count(value: float | None) -> str:
    return "-" if value is None else f"{value:,.0f}"
