"""The pod template: a stock engine, the plug-in copied beside it, and the agent as a native sidecar."""

from dataclasses import dataclass
from typing import Any, Final

from llmserving_api import names
from llmserving_api.v1alpha1 import LLMServingSpec
from llmserving_operator.children import volumes
from llmserving_operator.children.arguments import build_arguments
from llmserving_operator.children.environment import build_environment
from llmserving_operator.children.identity import Identity, Manifest, pod_labels
from llmserving_operator.children.liveness import liveness_probe

ENGINE_COMMAND: Final = ("vllm", "serve")
"""Entry point of the stock image; written out so that the image's own does not matter."""

STARTUP_PERIOD_SECONDS: Final = 2
STARTUP_FAILURES: Final = 900
"""Together half an hour: downloading and loading a large model, compiling, capturing graphs."""
ENDPOINTS_SECONDS: Final = 5
"""A stopping pod still serves this long, until proxies have taken its address out."""
KILL_MARGIN_SECONDS: Final = 25
"""Beyond the drain: for the engine's own shutdown and then the agent's."""

RESTRICTED: Final[Manifest] = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "seccompProfile": {"type": "RuntimeDefault"},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentImages:
    """What the operator brings into the pod beside the engine, and its size."""

    agent: str
    plugin: str
    pull_policy: str
    cpu: str
    memory: str


def build_pod_template(
    owner: Identity, spec: LLMServingSpec, images: AgentImages, shm_size: str, drain_seconds: int
) -> Manifest:
    """Pod template of a resource, before its ``template`` override.

    The control folder is shared through the pod's ``fsGroup``: the engine may run as root (without capabilities, so
    group rights are what counts) or as any user, the agent never as root. No container gets a token.

    Raises:
        RefusedError: the spec's arguments or environment touch what the operator owns.
    """
    return {
        "metadata": {
            "labels": pod_labels(owner),
            "annotations": {"kubectl.kubernetes.io/default-container": names.CONTAINER_ENGINE},
        },
        "spec": {
            "serviceAccountName": owner.name,
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "terminationGracePeriodSeconds": ENDPOINTS_SECONDS + drain_seconds + KILL_MARGIN_SECONDS,
            "securityContext": {
                "fsGroup": names.AGENT_UID,
                "fsGroupChangePolicy": "OnRootMismatch",
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "initContainers": [_plugin(images), _agent(images)],
            "containers": [_engine(owner, spec, drain_seconds)],
            "volumes": volumes.build_volumes(owner, spec.model.uri, shm_size),
        },
    }


def _plugin(images: AgentImages) -> Manifest:
    """Copies the plug-in into an emptyDir on the engine's PYTHONPATH, then ends."""
    return {
        "name": names.CONTAINER_PLUGIN,
        "image": images.plugin,
        "imagePullPolicy": images.pull_policy,
        "command": ["llmserving-agent", "install-plugin", names.PATH_PLUGIN],
        "resources": _fixed(images),
        "securityContext": _agent_security(),
        "volumeMounts": volumes.plugin_mounts(),
        "terminationMessagePolicy": "FallbackToLogsOnError",
    }


def _agent(images: AgentImages) -> Manifest:
    """A native sidecar: starts before the engine and stops after it.

    No probe: the pod's readiness must not depend on the agent, whose process 1 respawns the loop.
    """
    return {
        "name": names.CONTAINER_AGENT,
        "image": images.agent,
        "imagePullPolicy": images.pull_policy,
        "restartPolicy": "Always",
        "command": ["llmserving-agent", "supervise"],
        "env": [
            {"name": names.ENV_CONTROL_DIR, "value": names.PATH_CONTROL},
            _field("POD_NAME", "metadata.name"),
            _field("POD_NAMESPACE", "metadata.namespace"),
        ],
        "ports": [{"name": names.PORT_NAME_AGENT, "containerPort": names.PORT_AGENT, "protocol": "TCP"}],
        "resources": _fixed(images),
        "securityContext": _agent_security(),
        "volumeMounts": volumes.agent_mounts(),
        "terminationMessagePolicy": "FallbackToLogsOnError",
    }


def _engine(owner: Identity, spec: LLMServingSpec, drain_seconds: int) -> Manifest:
    container: Manifest = {
        "name": names.CONTAINER_ENGINE,
        "image": spec.engine.image,
        "command": list(ENGINE_COMMAND),
        "args": build_arguments(owner.name, spec, drain_seconds),
        "env": build_environment(spec),
        "ports": [{"name": names.PORT_NAME_ENGINE, "containerPort": names.PORT_ENGINE, "protocol": "TCP"}],
        "securityContext": RESTRICTED,
        "volumeMounts": volumes.engine_mounts(spec.model.uri),
        "startupProbe": _health(period=STARTUP_PERIOD_SECONDS, failures=STARTUP_FAILURES),
        "readinessProbe": _health(period=2, failures=3),
        "livenessProbe": liveness_probe(),
        "lifecycle": {"preStop": {"sleep": {"seconds": ENDPOINTS_SECONDS}}},
        "terminationMessagePolicy": "FallbackToLogsOnError",
    }
    if spec.engine.resources is not None:
        container["resources"] = spec.engine.resources.manifest()
    return container


def _health(*, period: int, failures: int) -> Manifest:
    """Probe of vLLM's own health: 200 while its engine process lives."""
    return {
        "httpGet": {"path": "/health", "port": names.PORT_NAME_ENGINE, "scheme": "HTTP"},
        "periodSeconds": period,
        "timeoutSeconds": 5,
        "failureThreshold": failures,
    }


def _agent_security() -> Manifest:
    return {
        **RESTRICTED,
        "runAsNonRoot": True,
        "runAsUser": names.AGENT_UID,
        "runAsGroup": names.AGENT_UID,
        "readOnlyRootFilesystem": True,
    }


def _fixed(images: AgentImages) -> dict[str, Any]:
    """Requests equal limits, so that the pod keeps the class the engine's resources give it."""
    size = {"cpu": images.cpu, "memory": images.memory}
    return {"requests": size, "limits": size}


def _field(name: str, path: str) -> Manifest:
    return {"name": name, "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": path}}}
