"""The Deployment that keeps the engines running."""

from typing import Final

from llmserving_api.v1alpha1 import LLMServingSpec
from llmserving_operator.children.identity import Identity, Manifest, metadata, selector

PROGRESS_DEADLINE_SECONDS: Final = 2100
"""Longer than the startup probe allows an engine to take."""


def build_deployment(owner: Identity, spec: LLMServingSpec, template: Manifest) -> Manifest:
    """A Deployment of the remembered pod template; its replicas are always the resource's."""
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": metadata(owner, owner.name),
        "spec": {
            "replicas": spec.replicas,
            "revisionHistoryLimit": 2,
            "progressDeadlineSeconds": PROGRESS_DEADLINE_SECONDS,
            "selector": {"matchLabels": selector(owner.name)},
            "strategy": {
                "type": "RollingUpdate",
                "rollingUpdate": {
                    "maxSurge": spec.rollout.max_surge,
                    "maxUnavailable": spec.rollout.max_unavailable,
                },
            },
            "template": template,
        },
    }
