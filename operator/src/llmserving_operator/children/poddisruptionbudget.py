"""How many engines may be evicted at a time."""

from llmserving_operator.children.identity import Identity, Manifest, metadata, selector


def build_pod_disruption_budget(owner: Identity) -> Manifest:
    """One at a time; a single engine may be evicted, or its node could never be drained, and so may a broken one."""
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": metadata(owner, owner.name),
        "spec": {
            "maxUnavailable": 1,
            "unhealthyPodEvictionPolicy": "AlwaysAllow",
            "selector": {"matchLabels": selector(owner.name)},
        },
    }
