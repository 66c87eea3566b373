"""The images as pods see them: nobody's root, nothing to build with, and the plug-in where vLLM will look for it."""

import json
from collections.abc import Mapping
from typing import Any

import pytest

from llmserving_lab.cluster.embedded import EmbeddedCluster
from llmserving_lab.images.build import Image

NAMESPACE = "images"

LOOK = """
import json, os, shutil, sys
print(json.dumps({
    "user": os.getuid(),
    "tools": [name for name in ("pip", "pip3", "gcc", "cc", "go", "apt-get", "curl") if shutil.which(name)],
    "safe_path": sys.flags.safe_path,
    "writable": [path for path in ("/", "/usr", "/opt/llmserving") if os.access(path, os.W_OK)],
}))
"""

FIND_PLUGIN = """
from importlib.metadata import entry_points
print(*(found.value for found in entry_points(group="vllm.general_plugins")))
"""


@pytest.fixture(scope="module")
def namespace(cluster: EmbeddedCluster) -> str:
    """Restricted pod security: a pod that asks for more is refused."""
    cluster.kubectl("create", "namespace", NAMESPACE)
    cluster.kubectl("label", "namespace", NAMESPACE, "pod-security.kubernetes.io/enforce=restricted")
    return NAMESPACE


def run(cluster: EmbeddedCluster, name: str, image: Image, command: list[str], **pod: Any) -> str:
    """Run a command to its end in a restricted pod and return what it printed."""
    restricted = {
        "runAsNonRoot": True,
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    container = {"name": "main", "image": image.name, "command": command, "securityContext": restricted}
    container |= pod.pop("container", {})
    for init in pod.get("initContainers", []):
        init["securityContext"] = restricted
    manifest = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {"restartPolicy": "Never", "containers": [container], **pod},
    }
    cluster.kubectl("apply", "-f", "-", stdin=json.dumps(manifest))
    cluster.kubectl(
        "wait", "--for=jsonpath={.status.phase}=Succeeded", f"pod/{name}", f"--namespace={NAMESPACE}", "--timeout=90s"
    )
    return cluster.kubectl("logs", name, f"--namespace={NAMESPACE}", "--container=main")


@pytest.mark.usefixtures("namespace")
@pytest.mark.parametrize("target", ["operator", "agent", "engine"])
def test_an_image_runs_as_nobody_and_holds_nothing_to_build_with(
    cluster: EmbeddedCluster, images: Mapping[str, Image], target: str
) -> None:
    seen = json.loads(run(cluster, f"look-{target}", images[target], ["python3", "-c", LOOK]))
    assert seen == {"user": 65532, "tools": [], "safe_path": True, "writable": []}


@pytest.mark.usefixtures("namespace")
def test_the_init_container_brings_the_plug_in_onto_the_engines_path(
    cluster: EmbeddedCluster, images: Mapping[str, Image]
) -> None:
    mount = {"name": "plugin", "mountPath": "/opt/llmserving/plugin"}
    init = {
        "name": "plugin",
        "image": images["agent"].name,
        "command": ["llmserving-agent", "install-plugin", "/opt/llmserving/plugin"],
        "volumeMounts": [mount],
    }
    container = {"volumeMounts": [mount], "env": [{"name": "PYTHONPATH", "value": "/opt/llmserving/plugin"}]}
    found = run(
        cluster,
        "plugin",
        images["engine"],
        ["python3", "-c", FIND_PLUGIN],
        container=container,
        initContainers=[init],
        volumes=[{"name": "plugin", "emptyDir": {}}],
    )
    assert "llmserving_engine.plugin:register" in found.split()
