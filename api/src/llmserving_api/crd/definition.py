"""The CustomResourceDefinition of LLMServing."""

from typing import Any, Final

from llmserving_api.conditions import ConditionType
from llmserving_api.crd.structural import structural_schema
from llmserving_api.names import CATEGORY, GROUP, KIND, PLURAL, SHORT_NAME, SINGULAR, VERSION
from llmserving_api.v1alpha1 import NAME_RULE, LLMServingSpec, LLMServingStatus


def _condition(kind: ConditionType, field: str) -> str:
    return f'.status.conditions[?(@.type=="{kind}")].{field}'


def _column(name: str, kind: str, path: str, description: str, priority: int = 0) -> dict[str, Any]:
    wide = {"priority": priority} if priority else {}
    return {"name": name, "type": kind, "jsonPath": path, "description": description, **wide}


PRINTER_COLUMNS: Final = (
    _column("Model", "string", ".spec.model.uri", "Model that is served."),
    _column("Ready", "string", _condition(ConditionType.READY, "status"), "Whether requests are served."),
    _column("Replicas", "integer", ".status.readyReplicas", "Engines that are ready."),
    _column(
        "TTFT", "string", ".status.sla.timeToFirstToken.observed", "Time to first token at the target's percentile."
    ),
    _column(
        "ITL", "string", ".status.sla.interTokenLatency.observed", "Inter-token latency at the target's percentile."
    ),
    _column("SLA", "string", _condition(ConditionType.SLA_MET, "status"), "Whether every target is met."),
    _column("Batch", "string", ".status.batching.bounds", "Live bounds: requests in a batch / tokens of a step."),
    _column("Age", "date", ".metadata.creationTimestamp", "Time since creation."),
    _column("Policy", "string", ".spec.batching.policy", "Law that decides.", priority=1),
    _column("Attainment", "string", ".status.sla.attainment", "Share of good requests over the window.", priority=1),
    _column("KV", "string", ".status.kvUsage", "Used KV blocks of the fullest engine.", priority=1),
    _column("URL", "string", ".status.url", "Address inside the cluster.", priority=1),
    _column("Reason", "string", _condition(ConditionType.READY, "reason"), "Reason of Ready.", priority=1),
)


def custom_resource_definition() -> dict[str, Any]:
    """The CRD as a manifest."""
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{PLURAL}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "names": {
                "kind": KIND,
                "listKind": f"{KIND}List",
                "plural": PLURAL,
                "singular": SINGULAR,
                "shortNames": [SHORT_NAME],
                "categories": [CATEGORY],
            },
            "scope": "Namespaced",
            "versions": [
                {
                    "name": VERSION,
                    "served": True,
                    "storage": True,
                    "additionalPrinterColumns": list(PRINTER_COLUMNS),
                    "subresources": {
                        "status": {},
                        "scale": {
                            "specReplicasPath": ".spec.replicas",
                            "statusReplicasPath": ".status.replicas",
                            "labelSelectorPath": ".status.selector",
                        },
                    },
                    "schema": {"openAPIV3Schema": _root_schema()},
                }
            ],
        },
    }


def _root_schema() -> dict[str, Any]:
    return {
        "description": "LLMServing serves a model with vLLM and keeps latency targets by moving the batch bounds.",
        "type": "object",
        "required": ["spec"],
        "x-kubernetes-validations": [NAME_RULE.as_validation()],
        "properties": {
            "apiVersion": {"description": "apiVersion of this representation of an object.", "type": "string"},
            "kind": {"description": "kind of the REST resource this object represents.", "type": "string"},
            "metadata": {"type": "object"},
            "spec": structural_schema(LLMServingSpec),
            "status": structural_schema(LLMServingStatus, defaults=False),
        },
    }
