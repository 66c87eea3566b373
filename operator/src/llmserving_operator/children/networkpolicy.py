"""Who may reach the pods."""

from llmserving_api import names
from llmserving_api.v1alpha1.network import NetworkPolicySpec
from llmserving_operator.children.identity import Identity, Manifest, metadata, selector


def build_network_policy(owner: Identity, spec: NetworkPolicySpec | None) -> Manifest:
    """A NetworkPolicy: the engine's port for the peers of ``allowFrom``, the agent's for pods of the cluster.

    The agent's port shows figures and takes no orders; the operator and Prometheus reach it from other namespaces. It is
    given as a number: not every network plug-in knows the port names of a native sidecar, an init container.
    """
    engine: Manifest = {"ports": [{"port": names.PORT_NAME_ENGINE, "protocol": "TCP"}]}
    rules = [engine]
    if spec is not None and spec.allow_from is not None:
        engine["from"] = [peer.manifest() for peer in spec.allow_from]
        rules = rules if spec.allow_from else []  # to Kubernetes, an empty "from" is everybody
    agent = {"from": [{"namespaceSelector": {}}], "ports": [{"port": names.PORT_AGENT, "protocol": "TCP"}]}
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": metadata(owner, owner.name),
        "spec": {
            "podSelector": {"matchLabels": selector(owner.name)},
            "policyTypes": ["Ingress"],
            "ingress": [*rules, agent],
        },
    }
