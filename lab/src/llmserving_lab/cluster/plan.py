"""What runs inside the embedded cluster: every component's command line and configuration, as data.

Nothing here touches the machine: `cluster_plan` says which files to write and which programs to start in which order;
`embedded` writes them and `namespace` starts them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from llmserving_lab.cluster.certificates import Identity

NODE_NAME = "node"
NODE_ADDRESS = "172.31.255.1"
"""The node's address. Every cluster has a network of its own, so all use the same addresses."""
NODE_NETWORK_BITS = 24
SERVICE_RANGE = "10.96.0.0/16"
API_SERVICE_ADDRESS = "10.96.0.1"
POD_RANGE = "10.244.0.0/24"
API_PORT = 6443
CONTAINERD_SOCKET = "/run/containerd/containerd.sock"
PAUSE_IMAGE = "localhost/llmserving/pause:v1"

_UNUSED_CONTROLLERS = (
    "cloud-node-lifecycle-controller",
    "node-route-controller",
    "service-lb-controller",
    "node-ipam-controller",
)
_ETCD_CLIENT = "http://127.0.0.1:2379"
_ETCD_PEER = "http://127.0.0.1:2380"

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
class Component:
    """One program of the cluster."""

    name: str
    """Names its log file as well."""
    arguments: tuple[str, ...]
    """The command line, program first."""


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
    before = [_etcd(state, programs), _api_server(state, programs, node=node)]
    after = [_controller_manager(state, programs), _scheduler(state, programs)]
    files = {f"{name}.kubeconfig": kubeconfig(state, f"https://127.0.0.1:{API_PORT}", name) for name in KUBECONFIGS}
    if node:
        before.append(Component("containerd", (str(programs["containerd"]), "--config", f"{state}/containerd.toml")))
        after.append(_kubelet(state, programs))
        after.append(_proxy(state, programs))
        files["containerd.toml"] = _containerd_configuration(state, programs)
        files["kubelet.json"] = _kubelet_configuration(state)
        files["cni/10-pods.conflist"] = _pod_network()
    return Plan(files, tuple(before), tuple(after))


def kubeconfig(state: Path, server: str, identity: str) -> str:
    """A kubeconfig (JSON is YAML) for one identity, pointing at the certificates in the state folder."""
    return json.dumps(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [
                {
                    "name": "llmserving",
                    "cluster": {"server": server, "certificate-authority": f"{state}/pki/ca.crt"},
                }
            ],
            "users": [
                {
                    "name": identity,
                    "user": {
                        "client-certificate": f"{state}/pki/{identity}.crt",
                        "client-key": f"{state}/pki/{identity}.key",
                    },
                }
            ],
            "contexts": [{"name": "llmserving", "context": {"cluster": "llmserving", "user": identity}}],
            "current-context": "llmserving",
        },
        indent=2,
    )


def _etcd(state: Path, programs: Mapping[str, Path]) -> Component:
    return Component(
        "etcd",
        (
            str(programs["etcd"]),
            f"--data-dir={state}/etcd",
            "--unsafe-no-fsync",  # the data lives no longer than the processes do
            f"--listen-client-urls={_ETCD_CLIENT}",
            f"--advertise-client-urls={_ETCD_CLIENT}",
            f"--listen-peer-urls={_ETCD_PEER}",
            f"--initial-advertise-peer-urls={_ETCD_PEER}",
            f"--initial-cluster=default={_ETCD_PEER}",
            "--log-level=warn",
        ),
    )


def _api_server(state: Path, programs: Mapping[str, Path], *, node: bool) -> Component:
    pki = f"{state}/pki"
    return Component(
        "kube-apiserver",
        (
            str(programs["kube-apiserver"]),
            f"--etcd-servers={_ETCD_CLIENT}",
            "--bind-address=0.0.0.0",
            f"--advertise-address={NODE_ADDRESS}",
            f"--secure-port={API_PORT}",
            f"--service-cluster-ip-range={SERVICE_RANGE}",
            f"--tls-cert-file={pki}/apiserver.crt",
            f"--tls-private-key-file={pki}/apiserver.key",
            f"--client-ca-file={pki}/ca.crt",
            "--authorization-mode=Node,RBAC",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={pki}/service-account.pub",
            f"--service-account-signing-key-file={pki}/service-account.key",
            "--kubelet-preferred-address-types=InternalIP",
            f"--kubelet-certificate-authority={pki}/ca.crt",
            f"--kubelet-client-certificate={pki}/apiserver-kubelet.crt",
            f"--kubelet-client-key={pki}/apiserver-kubelet.key",
            f"--requestheader-client-ca-file={pki}/ca.crt",
            "--requestheader-allowed-names=front-proxy-client",
            "--requestheader-username-headers=X-Remote-User",
            "--requestheader-group-headers=X-Remote-Group",
            "--requestheader-extra-headers-prefix=X-Remote-Extra-",
            f"--proxy-client-cert-file={pki}/aggregator.crt",
            f"--proxy-client-key-file={pki}/aggregator.key",
            f"--endpoint-reconciler-type={'lease' if node else 'none'}",
            f"--cert-dir={state}/run",
            "--allow-privileged=true",
            "--profiling=false",
        ),
    )


def _controller_manager(state: Path, programs: Mapping[str, Path]) -> Component:
    pki = f"{state}/pki"
    config = f"{state}/controller-manager.kubeconfig"
    return Component(
        "kube-controller-manager",
        (
            str(programs["kube-controller-manager"]),
            f"--kubeconfig={config}",
            f"--authentication-kubeconfig={config}",
            f"--authorization-kubeconfig={config}",
            "--use-service-account-credentials=true",
            "--leader-elect=false",
            "--kube-api-qps=200",
            "--kube-api-burst=400",
            "--allocate-node-cidrs=false",
            f"--controllers={','.join(['*', *(f'-{name}' for name in _UNUSED_CONTROLLERS)])}",
            f"--service-account-private-key-file={pki}/service-account.key",
            f"--root-ca-file={pki}/ca.crt",
            f"--cluster-signing-cert-file={pki}/ca.crt",
            f"--cluster-signing-key-file={pki}/ca.key",
            f"--cert-dir={state}/run",
        ),
    )


def _scheduler(state: Path, programs: Mapping[str, Path]) -> Component:
    config = f"{state}/scheduler.kubeconfig"
    return Component(
        "kube-scheduler",
        (
            str(programs["kube-scheduler"]),
            f"--kubeconfig={config}",
            f"--authentication-kubeconfig={config}",
            f"--authorization-kubeconfig={config}",
            "--leader-elect=false",
            f"--cert-dir={state}/run",
        ),
    )


def _kubelet(state: Path, programs: Mapping[str, Path]) -> Component:
    return Component(
        "kubelet",
        (
            str(programs["kubelet"]),
            f"--config={state}/kubelet.json",
            f"--kubeconfig={state}/kubelet.kubeconfig",
            f"--hostname-override={NODE_NAME}",
            f"--node-ip={NODE_ADDRESS}",
            f"--root-dir={state}/kubelet",
            f"--cert-dir={state}/run",
        ),
    )


def _proxy(state: Path, programs: Mapping[str, Path]) -> Component:
    return Component(
        "kube-proxy",
        (
            str(programs["kube-proxy"]),
            f"--kubeconfig={state}/proxy.kubeconfig",
            f"--hostname-override={NODE_NAME}",
            "--proxy-mode=nftables",
            f"--cluster-cidr={POD_RANGE}",
            "--conntrack-max-per-core=0",  # a limit of the whole machine: not ours to set
        ),
    )


def _kubelet_configuration(state: Path) -> str:
    return json.dumps(
        {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "authentication": {
                "anonymous": {"enabled": False},
                "webhook": {"enabled": True},
                "x509": {"clientCAFile": f"{state}/pki/ca.crt"},
            },
            "authorization": {"mode": "Webhook"},
            "tlsCertFile": f"{state}/pki/kubelet.crt",
            "tlsPrivateKeyFile": f"{state}/pki/kubelet.key",
            "containerRuntimeEndpoint": f"unix://{CONTAINERD_SOCKET}",
            "volumePluginDir": f"{state}/kubelet/plugins",
            "cgroupDriver": "cgroupfs",
            "failCgroupV1": False,  # 1.36 refuses cgroup v1 unless told otherwise
            "failSwapOn": False,
            "resolvConf": "",  # nothing leaves the machine, so the host's name servers are no use
            "clusterDNS": [NODE_ADDRESS],  # nobody answers there: look-ups fail at once instead of timing out
            "evictionHard": {"memory.available": "100Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
            "imageGCHighThresholdPercent": 100,  # images were loaded by hand and could not be pulled again
            "imageGCLowThresholdPercent": 99,
        },
        indent=2,
    )


def _containerd_configuration(state: Path, programs: Mapping[str, Path]) -> str:
    return f"""\
version = 3
root = "{state}/containerd"
state = "/run/containerd"

[grpc]
  address = "{CONTAINERD_SOCKET}"

[plugins."io.containerd.cri.v1.images"]
  snapshotter = "overlayfs"
  [plugins."io.containerd.cri.v1.images".pinned_images]
    sandbox = "{PAUSE_IMAGE}"

[plugins."io.containerd.cri.v1.runtime"]
  # Lowering a process's OOM score needs CAP_SYS_RESOURCE, which a container's root often lacks.
  restrict_oom_score_adj = true
  [plugins."io.containerd.cri.v1.runtime".cni]
    bin_dirs = ["/usr/lib/cni", "/opt/cni/bin"]
    conf_dir = "{state}/cni"
  [plugins."io.containerd.cri.v1.runtime".containerd]
    default_runtime_name = "runc"
    [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc.options]
        BinaryName = "{programs["runc"]}"
        SystemdCgroup = false
"""


def _pod_network() -> str:
    return json.dumps(
        {
            "cniVersion": "0.4.0",
            "name": "pods",
            "plugins": [
                {
                    "type": "bridge",
                    "bridge": "pods0",
                    "isGateway": True,
                    "hairpinMode": True,
                    "ipam": {
                        "type": "host-local",
                        "ranges": [[{"subnet": POD_RANGE}]],
                        "routes": [{"dst": "0.0.0.0/0"}],
                    },
                },
            ],
        },
        indent=2,
    )
