"""The configuration files of a cluster's programs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from llmserving_lab.cluster.addresses import CONTAINERD_SOCKET, NODE_ADDRESS, PAUSE_IMAGE, POD_RANGE


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


def kubelet_configuration(state: Path) -> str:
    """The kubelet's configuration file."""
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


def containerd_configuration(state: Path, programs: Mapping[str, Path]) -> str:
    """Containerd's configuration file."""
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


def pod_network() -> str:
    """The CNI configuration: one bridge for all pods."""
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
