"""`result.json`: what the run measured. Every number is of this run; null where nothing was seen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from llmserving_lab.demo.timeline import Run, phase_figures
from llmserving_lab.traffic.record import quantile


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the run ran on, and what befell the pods.

    Attributes:
        kubernetes_version: As the API server says.
        kubernetes_ready_seconds: From the cluster's start until it was ready; None for a cluster that was there before.
        vllm_version: As the engine says.
        device: The simulated device.
        gpu_source: Where the agents' GPU facts come from.
        apply_to_ready_seconds: From `kubectl apply` until the resource was Ready.
        pod_restarts: Container restarts of all engine pods.
        pod_uids_unchanged: Whether the pods at the end are those of the beginning.
        replicas: Engines.
        traffic: What was replayed, in words.
        image_bytes: Image → size of its archive.
        steps: Step of the demo → its seconds.
        prometheus_targets_up: Targets Prometheus could scrape at the end.
    """

    kubernetes_version: str
    kubernetes_ready_seconds: float | None
    vllm_version: str
    device: str
    gpu_source: str
    apply_to_ready_seconds: float
    pod_restarts: int
    pod_uids_unchanged: bool
    replicas: int
    traffic: str
    image_bytes: dict[str, int]
    steps: dict[str, float]
    prometheus_targets_up: int | None


def result(run: Run, around: Surroundings) -> dict[str, Any]:
    """The document."""
    applied = [made.applied_seconds for made in run.edits]
    completed = sum(record.completed for record in run.records)
    return {
        "kubernetes": {
            "version": around.kubernetes_version,
            "ready_seconds": _rounded(around.kubernetes_ready_seconds, 2),
        },
        "engine": {
            "vllm_version": around.vllm_version,
            "device": around.device,
            "replicas": around.replicas,
            "gpu_source": around.gpu_source,
        },
        "apply_to_ready_seconds": _rounded(around.apply_to_ready_seconds, 1),
        "traffic": around.traffic,
        "requests": {"sent": run.sent, "completed": completed, "failed": run.sent - completed},
        "sla_edits": [
            {
                "change": made.edit.change,
                "applied_manifest": made.edit.apply,
                "at_seconds": _rounded(made.started - run.started, 1),
                "kubectl_seconds": _rounded(made.returned - made.started, 3),
                "kubectl_to_applied_seconds": _rounded(made.applied_seconds, 3),
                "kubectl_to_effective_seconds": _rounded(made.effective_seconds, 3),
            }
            for made in run.edits
        ],
        "edit_to_applied_p95_seconds": _rounded(
            None if None in applied else quantile([one for one in applied if one is not None], 95), 3
        ),
        "pod_restarts": around.pod_restarts,
        "pod_uids_unchanged": around.pod_uids_unchanged,
        "phases": [
            {
                "name": figures.phase.name,
                "start_seconds": figures.phase.start,
                "end_seconds": figures.phase.end,
                "requests": figures.requests,
                "ttft_target_s": figures.phase.ttft_seconds,
                "itl_target_s": figures.phase.itl_seconds,
                "ttft_p50_s": _rounded(figures.ttft_p50, 4),
                "ttft_p95_s": _rounded(figures.ttft_p95, 4),
                "itl_p50_s": _rounded(figures.itl_p50, 4),
                "itl_p95_s": _rounded(figures.itl_p95, 4),
                "attainment": _rounded(figures.attainment, 4),
                "max_num_seqs_median": figures.max_num_seqs,
                "max_num_batched_tokens_median": figures.max_num_batched_tokens,
                "granted_tokens_mean": _rounded(figures.granted_tokens, 1),
            }
            for figures in phase_figures(run)
        ],
        "prometheus_targets_up": around.prometheus_targets_up,
        "image_bytes": around.image_bytes,
        "steps_seconds": {step: _rounded(seconds, 1) for step, seconds in around.steps.items()},
    }


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)
