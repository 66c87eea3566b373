"""What runs inside the embedded cluster: every component's command line and configuration, as data.

Nothing here touches the machine: `cluster_plan` says which files to write and which programs to start in which order;
`launch` writes them and `namespace` starts them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from llmserving_lab.cluster import components
from llmserving_lab.cluster.addresses import API_PORT, API_SERVICE_ADDRESS, NODE_ADDRESS, NODE_NAME
from llmserving_lab.cluster.certificates import Identity
from llmserving_lab.cluster.components import Component
from llmserving_lab.cluster.configuration import (
    containerd_configuration,
    kubeconfig,
    kubelet_configuration,
    pod_network,
)

IDENTITIES = (
    Identity(
        "apiserver",
        "kube-apiserver",
        hosts=(
            "kubernetes",
            "kubernetes.default",
            "kubernetes.default.svc",
            "localhost",
            "127.0.0.1",
            API_SERVICE_ADDRESS,
            NODE_ADDRESS,
        ),
    ),
    Identity("apiserver-kubelet", "kube-apiserver-kubelet-client", "system:masters"),
    Identity("aggregator", "front-proxy-client"),
    Identity("admin", "llmserving-admin", "system:masters"),
    Identity("controller-manager", "system:kube-controller-manager"),
    Identity("scheduler", "system:kube-scheduler"),
    Identity("proxy", "system:kube-proxy"),
    Identity("kubelet", f"system:node:{NODE_NAME}", "system:nodes", (NODE_NAME, NODE_ADDRESS, "127.0.0.1")),
)
"""The certificates of a cluster."""

KUBECONFIGS = ("admin", "controller-manager", "scheduler", "proxy", "kubelet")
"""Which of them are clients of the API server, each with a kubeconfig of its own inside the namespaces."""


@dataclass(frozen=True)
class Plan:
    """Everything a cluster needs before its first process starts."""

    files: Mapping[str, str]
    """Path below the state folder → content."""
    before_api: tuple[Component, ...]
    """Started at once."""
    after_api: tuple[Component, ...]
    """Started when the API server answers `/readyz`."""


def cluster_plan(state: Path, programs: Mapping[str, Path], *, node: bool) -> Plan:
    """The plan of a cluster whose files live in `state`.

    Args:
        state: the state folder, at the same path inside the cluster's mount namespace.
        programs: program name → path, as `Toolchain.find` gives them, plus `runc` where there is a node.
        node: whether a kubelet, containerd and kube-proxy run beside the control plane.
    """
    before = [components.etcd(state, programs), components.api_server(state, programs, node=node)]
    after = [components.controller_manager(state, programs), components.scheduler(state, programs)]
    files = {f"{name}.kubeconfig": kubeconfig(state, f"https://127.0.0.1:{API_PORT}", name) for name in KUBECONFIGS}
    if node:
        before.append(Component("containerd", (str(programs["containerd"]), "--config", f"{state}/containerd.toml")))
        after.append(components.kubelet(state, programs))
        after.append(components.proxy(state, programs))
        files["containerd.toml"] = containerd_configuration(state, programs)
        files["kubelet.json"] = kubelet_configuration(state)
        files["cni/10-pods.conflist"] = pod_network()
    return Plan(files, tuple(before), tuple(after))
