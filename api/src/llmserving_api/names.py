"""Names that several parts share: API group, labels, annotations, paths, ports and environment variables."""

from typing import Final

GROUP: Final = "llmserving.io"
VERSION: Final = "v1alpha1"
API_VERSION: Final = f"{GROUP}/{VERSION}"
KIND: Final = "LLMServing"
PLURAL: Final = "llmservings"
SINGULAR: Final = "llmserving"
SHORT_NAME: Final = "llms"
CATEGORY: Final = "all"

FIELD_MANAGER: Final = "llmserving-operator"
"""The one field manager of every server-side apply."""

# Labels of every child object, as recommended by Kubernetes, and our own selector label.
LABEL_NAME: Final = "app.kubernetes.io/name"
LABEL_INSTANCE: Final = "app.kubernetes.io/instance"
LABEL_COMPONENT: Final = "app.kubernetes.io/component"
LABEL_PART_OF: Final = "app.kubernetes.io/part-of"
LABEL_MANAGED_BY: Final = "app.kubernetes.io/managed-by"
LABEL_RESOURCE: Final = f"{GROUP}/name"
"""Value: the LLMServing's name. Everything selects pods by it."""
LABEL_RESOURCE_UID: Final = f"{GROUP}/uid"
"""Value: the LLMServing's uid, on pods alone: it tells the pods of a deleted resource of the same name.

The Service selects by it too, once all pods bear it; a Deployment's selector can never change."""
PART_OF: Final = "llmserving"

ANNOTATION_POLICY: Final = f"{GROUP}/policy"
"""On live pods, never in the template: the policy document, delivered through the downward API."""

# Containers and their names in the pod.
CONTAINER_ENGINE: Final = "engine"
CONTAINER_AGENT: Final = "agent"
CONTAINER_PLUGIN: Final = "plugin"

# Volumes and paths inside the pod.
VOLUME_CONTROL: Final = "llmserving-control"
VOLUME_PLUGIN: Final = "llmserving-plugin"
VOLUME_POLICY: Final = "llmserving-policy"
PATH_CONTROL: Final = "/run/llmserving"
"""Memory-backed emptyDir with the control sockets and telemetry rings, one pair for each engine rank."""
PATH_PLUGIN: Final = "/opt/llmserving/plugin"
"""emptyDir filled by the init container; first on the engine's PYTHONPATH."""
PATH_POLICY: Final = "/etc/llmserving/policy"
FILE_POLICY_SEED: Final = "seed.json"
"""From the ConfigMap: what a new pod starts with."""
FILE_POLICY_LIVE: Final = "live.json"
"""From the pod's annotation: what the operator patched last. The higher revision wins."""

SOCKET_PATTERN: Final = "engine-{rank}.sock"
RING_PATTERN: Final = "telemetry-{rank}.ring"

PORT_ENGINE: Final = 8000
PORT_AGENT: Final = 9410
PORT_OPERATOR: Final = 9411
PORT_NAME_ENGINE: Final = "http"
PORT_NAME_AGENT: Final = "agent"

ENV_CONTROL_DIR: Final = "LLMSERVING_CONTROL_DIR"
"""Set in the engine's container: the folder for sockets and rings. Unset: the plug-in stays out of the way."""

AGENT_UID: Final = 65532
"""Uid of the agent and operator images (the usual `nonroot` user)."""


def socket_name(rank: int) -> str:
    """File name of the control socket of one engine rank (``data_parallel_index``)."""
    return SOCKET_PATTERN.format(rank=rank)


def ring_name(rank: int) -> str:
    """File name of the telemetry ring of one engine rank (``data_parallel_index``)."""
    return RING_PATTERN.format(rank=rank)
