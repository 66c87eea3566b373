"""Status on a real API server: every field survives, kubectl get shows it, the spec stays untouched."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from llmserving_api.names import API_VERSION, FIELD_MANAGER, GROUP, KIND, PLURAL
from llmserving_api.v1alpha1 import LLMServingStatus
from llmserving_lab.cluster.embedded import EmbeddedCluster
from llmserving_lab.cluster.errors import ClusterError

ROOT = Path(__file__).parents[2]
NAMESPACE = "crd-status"
BOUNDS = {"maxNumSeqs": 96, "maxNumBatchedTokens": 2048}
DECISION = {
    "time": "2026-01-01T00:00:00Z",
    "engine": "chat-0/0",
    "reason": "ITLHigh",
    "message": "p95 62 ms above 50 ms",
    "before": {"maxNumSeqs": 128, "maxNumBatchedTokens": 4096},
    "after": BOUNDS,
}
STATUS: dict[str, Any] = {
    "conditions": [
        {
            "type": kind,
            "status": status,
            "reason": reason,
            "message": "",
            "observedGeneration": 1,
            "lastTransitionTime": "2026-01-01T00:00:00Z",
        }
        for kind, status, reason in (("Ready", "True", "Serving"), ("SLAMet", "False", "TargetMissed"))
    ],
    "observedGeneration": 1,
    "sla": {
        "timeToFirstToken": {"observed": "310ms", "target": "2s", "met": True},
        "interTokenLatency": {"observed": "62ms", "target": "50ms", "met": False},
        "attainment": "91.5%",
    },
    "batching": {
        "bounds": "96 / 2048",
        "maxNumSeqs": "96",
        "maxNumBatchedTokens": "2048",
        "policy": "Predictive",
        "lastDecision": DECISION,
        "history": [DECISION],
    },
    "engines": [
        {
            "pod": "chat-0",
            "rank": 0,
            "reachable": True,
            "message": "",
            "requested": BOUNDS,
            "applied": BOUNDS,
            "effective": BOUNDS,
            "policyRevision": 1,
        }
    ],
    "replicas": 2,
    "readyReplicas": 1,
    "selector": "llmserving.io/name=chat",
    "url": "http://chat.default.svc:8000",
    "kvUsage": "71%",
}


def resource(**parts: Any) -> str:
    return yaml.safe_dump(
        {"apiVersion": API_VERSION, "kind": KIND, "metadata": {"name": "chat", "namespace": NAMESPACE}, **parts}
    )


def write_status(cluster: EmbeddedCluster, status: dict[str, Any]) -> None:
    apply = ("apply", "--server-side", "--subresource=status", f"--field-manager={FIELD_MANAGER}", "-f", "-")
    cluster.kubectl(*apply, stdin=resource(status=status))


@pytest.fixture(scope="module")
def cluster(control_plane: EmbeddedCluster) -> EmbeddedCluster:
    """With one resource that has a status."""
    control_plane.kubectl("apply", "--server-side", "--force-conflicts", "-f", str(ROOT / "crds" / "llmservings.yaml"))
    established = 'jsonpath={.status.conditions[?(@.type=="Established")].status}=True'
    control_plane.kubectl("wait", f"--for={established}", f"crd/{PLURAL}.{GROUP}", "--timeout=30s")
    control_plane.kubectl("create", "namespace", NAMESPACE)
    spec = {"model": {"uri": "hf://Qwen/Qwen2.5-7B-Instruct"}, "engine": {"image": "vllm/vllm-openai:v0.32.0"}}
    control_plane.kubectl("apply", "-f", "-", stdin=resource(spec=spec))
    write_status(control_plane, STATUS)
    return control_plane


def test_the_models_write_what_the_schema_keeps(cluster: EmbeddedCluster) -> None:
    stored = json.loads(cluster.kubectl("get", PLURAL, "chat", "-n", NAMESPACE, "-o", "json"))["status"]
    assert stored == STATUS
    assert LLMServingStatus.model_validate(stored).manifest() == STATUS


def test_kubectl_get_shows_targets_and_bounds(cluster: EmbeddedCluster) -> None:
    head, row = cluster.kubectl("get", "llms", "-n", NAMESPACE).splitlines()
    assert head.split() == ["NAME", "MODEL", "READY", "REPLICAS", "TTFT", "ITL", "SLA", "BATCH", "AGE"]
    shown = [cell.strip() for cell in re.split(r" {3,}", row)][:8]
    assert shown == ["chat", "hf://Qwen/Qwen2.5-7B-Instruct", "True", "1", "310ms", "62ms", "False", "96 / 2048"]
    wide = cluster.kubectl("get", "llms", "-n", NAMESPACE, "-o", "wide").splitlines()[1].split()
    assert wide[-5:] == ["Predictive", "91.5%", "71%", "http://chat.default.svc:8000", "Serving"]


def test_a_status_is_no_edit(cluster: EmbeddedCluster) -> None:
    generation = ("get", PLURAL, "chat", "-n", NAMESPACE, "-o", "jsonpath={.metadata.generation}")
    before = cluster.kubectl(*generation)
    write_status(cluster, {**STATUS, "readyReplicas": 2})
    assert cluster.kubectl(*generation) == before
    write_status(cluster, STATUS)


def test_the_same_status_twice_changes_nothing(cluster: EmbeddedCluster) -> None:
    version = ("get", PLURAL, "chat", "-n", NAMESPACE, "-o", "jsonpath={.metadata.resourceVersion}")
    write_status(cluster, STATUS)
    before = cluster.kubectl(*version)
    write_status(cluster, STATUS)
    assert cluster.kubectl(*version) == before


def test_history_and_engines_are_bounded(cluster: EmbeddedCluster) -> None:
    with pytest.raises(ClusterError, match="must have at most 10 items"):
        write_status(cluster, {**STATUS, "batching": {**STATUS["batching"], "history": [DECISION] * 11}})
    engines = [{**STATUS["engines"][0], "rank": rank} for rank in range(33)]
    with pytest.raises(ClusterError, match="must have at most 32 items"):
        write_status(cluster, {**STATUS, "engines": engines})


def test_the_scale_subresource_reports_pods_and_their_selector(cluster: EmbeddedCluster) -> None:
    path = f"/apis/{API_VERSION}/namespaces/{NAMESPACE}/{PLURAL}/chat/scale"
    scale = json.loads(cluster.kubectl("get", "--raw", path))
    assert scale["spec"]["replicas"] == 1
    assert scale["status"] == {"replicas": 2, "selector": "llmserving.io/name=chat"}
