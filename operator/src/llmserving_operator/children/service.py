"""The Service in front of the engines."""

from typing import Final

from llmserving_api import names
from llmserving_operator.children.identity import Identity, Manifest, metadata, own_selector, selector

PORT: Final = 80
"""Port of the Service, so that clients need no port in the URL."""


def build_service(owner: Identity, *, by_uid: bool) -> Manifest:
    """A ClusterIP Service; only Ready pods are behind it, and the stopping ones while no other is ready.

    Args:
        owner: the resource.
        by_uid: select by the resource's uid too, which every pod of it must bear. Otherwise pods that a deleted resource
            of the same name left answer for this one until they have stopped, and so with another model perhaps.
    """
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata(owner, owner.name),
        "spec": {
            "type": "ClusterIP",
            "selector": own_selector(owner) if by_uid else selector(owner.name),
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
