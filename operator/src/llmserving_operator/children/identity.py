"""Whose child an object is: names, labels and owner reference."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from llmserving_api import names

Manifest = dict[str, Any]

APP_NAME: Final = "vllm"
COMPONENT_ENGINE: Final = "engine"


class ChildKey(NamedTuple):
    """A child within the resource's namespace."""

    kind: str
    name: str


def child_key(manifest: Manifest) -> ChildKey:
    """Key of a child's manifest."""
    return ChildKey(manifest["kind"], manifest["metadata"]["name"])


@dataclass(frozen=True, slots=True)
class Identity:
    """The resource that children belong to."""

    namespace: str
    name: str
    uid: str
    generation: int

    @property
    def policy_config_map(self) -> str:
        """Name of the ConfigMap that seeds new pods with the policy."""
        return f"{self.name}-policy"


def labels(name: str) -> dict[str, str]:
    """Labels of every child, pods included."""
    return {
        names.LABEL_NAME: APP_NAME,
        names.LABEL_INSTANCE: name,
        names.LABEL_COMPONENT: COMPONENT_ENGINE,
        names.LABEL_PART_OF: names.PART_OF,
        names.LABEL_MANAGED_BY: names.FIELD_MANAGER,
        names.LABEL_RESOURCE: name,
    }


def pod_labels(owner: Identity) -> dict[str, str]:
    """Labels of the pods: those of every child, and whose they are should the resource be deleted and made anew."""
    return {**labels(owner.name), names.LABEL_RESOURCE_UID: owner.uid}


def selector(name: str) -> dict[str, str]:
    """Labels by which the Deployment and the scale subresource find the pods; never changes."""
    return {names.LABEL_RESOURCE: name}


def own_selector(owner: Identity) -> dict[str, str]:
    """Labels of the pods of this very resource, without those of a deleted one of the same name."""
    return {**selector(owner.name), names.LABEL_RESOURCE_UID: owner.uid}


def metadata(owner: Identity, name: str, annotations: Mapping[str, str] | None = None) -> Manifest:
    """Metadata of a child: deleting the resource deletes it."""
    result: Manifest = {
        "name": name,
        "namespace": owner.namespace,
        "labels": labels(owner.name),
        "ownerReferences": [
            {
                "apiVersion": names.API_VERSION,
                "kind": names.KIND,
                "name": owner.name,
                "uid": owner.uid,
                "controller": True,
                "blockOwnerDeletion": False,
            }
        ],
    }
    if annotations:
        result["annotations"] = dict(annotations)
    return result
