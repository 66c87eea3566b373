"""The Service in front of the engines."""

from typing import Final

from llmserving_api import names
from llmserving_operator.children.identity import Identity, Manifest, metadata, selector

PORT: Final = 80
"""Port of the Service, so that clients need no port in the URL."""


def build_service(owner: Identity) -> Manifest:
    """A ClusterIP Service ; only Ready pods are behind it."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata(owner, owner.name),
        "spec": {
            "type": "ClusterIP",
            "selector": selector(owner.name),
            "ports": [
                {
                    "name": names.PORT_NAME_ENGINE,
                    "port": PORT,
                    "targetPort": names.PORT_NAME_ENGINE,
                    "protocol": "TCP",
                }
            ],
        },
    }


def service_url(owner: Identity) -> str:
    """Where clients inside the cluster find the engines."""
    return f"http://{owner.name}.{owner.namespace}.svc"
