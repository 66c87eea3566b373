"""Volumes of the pod, and where they are mounted in which container."""

from typing import Final

from llmserving_api import names
from llmserving_operator.children.arguments import MODEL_PATH
from llmserving_operator.children.identity import Identity, Manifest

POLICY_KEY: Final = "policy.json"
"""Key of the policy document in its ConfigMap."""
CONTROL_SIZE: Final = "64Mi"
"""Sockets and telemetry rings of all ranks."""
HOME: Final = "/home/llmserving"
"""Writable home of the engine: caches of the model hub, of compiled kernels and of vLLM."""

VOLUME_HOME: Final = "llmserving-home"
VOLUME_TMP: Final = "llmserving-tmp"
VOLUME_SHM: Final = "llmserving-shm"
VOLUME_MODEL: Final = "llmserving-model"


def build_volumes(owner: Identity, model_uri: str, shm_size: str) -> list[Manifest]:
    """Volumes: the control folder in memory, the plug-in, the policy, and what the engine writes."""
    volumes: list[Manifest] = [
        {"name": names.VOLUME_CONTROL, "emptyDir": {"medium": "Memory", "sizeLimit": CONTROL_SIZE}},
        {"name": names.VOLUME_PLUGIN, "emptyDir": {"sizeLimit": "16Mi"}},
        {"name": names.VOLUME_POLICY, "projected": {"defaultMode": 0o444, "sources": _policy_sources(owner)}},
        {"name": VOLUME_SHM, "emptyDir": {"medium": "Memory", "sizeLimit": shm_size}},
        {"name": VOLUME_HOME, "emptyDir": {}},
        {"name": VOLUME_TMP, "emptyDir": {}},
    ]
    claim = model_claim(model_uri)
    if claim is not None:
        volumes.append({"name": VOLUME_MODEL, "persistentVolumeClaim": {"claimName": claim, "readOnly": True}})
    return volumes


def model_claim(model_uri: str) -> str | None:
    """Volume claim of a ``pvc://claim/path`` model."""
    scheme, _, rest = model_uri.partition("://")
    return rest.partition("/")[0] if scheme == "pvc" else None


def engine_mounts(model_uri: str) -> list[Manifest]:
    """Mounts of the engine's container."""
    mounts: list[Manifest] = [
        {"name": names.VOLUME_CONTROL, "mountPath": names.PATH_CONTROL},
        {"name": names.VOLUME_PLUGIN, "mountPath": names.PATH_PLUGIN, "readOnly": True},
        {"name": VOLUME_SHM, "mountPath": "/dev/shm"},  # noqa: S108  # tensor-parallel workers talk through it
        {"name": VOLUME_HOME, "mountPath": HOME},
        {"name": VOLUME_TMP, "mountPath": "/tmp"},  # noqa: S108
    ]
    if model_claim(model_uri) is not None:
        mounts.append({"name": VOLUME_MODEL, "mountPath": MODEL_PATH, "readOnly": True})
    return mounts


def agent_mounts() -> list[Manifest]:
    """Mounts of the agent."""
    return [
        {"name": names.VOLUME_CONTROL, "mountPath": names.PATH_CONTROL},
        {"name": names.VOLUME_POLICY, "mountPath": names.PATH_POLICY, "readOnly": True},
    ]


def plugin_mounts() -> list[Manifest]:
    """Mounts of the init container that copies the plug-in."""
    return [{"name": names.VOLUME_PLUGIN, "mountPath": names.PATH_PLUGIN}]


def _policy_sources(owner: Identity) -> list[Manifest]:
    """The seed from the ConfigMap; the pod's annotation, whose file the kubelet rewrites within a second of a patch."""
    annotation = f"metadata.annotations['{names.ANNOTATION_POLICY}']"
    return [
        {
            "configMap": {
                "name": owner.policy_config_map,
                "items": [{"key": POLICY_KEY, "path": names.FILE_POLICY_SEED}],
            }
        },
        {
            "downwardAPI": {
                "items": [{"path": names.FILE_POLICY_LIVE, "fieldRef": {"apiVersion": "v1", "fieldPath": annotation}}]
            }
        },
    ]
