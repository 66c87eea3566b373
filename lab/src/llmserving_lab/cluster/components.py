"""The programs of a cluster: their command lines."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from llmserving_lab.cluster.addresses import API_PORT, NODE_ADDRESS, NODE_NAME, POD_RANGE, SERVICE_RANGE

_UNUSED_CONTROLLERS = (
    "cloud-node-lifecycle-controller",
    "node-route-controller",
    "service-lb-controller",
    "node-ipam-controller",
)
_ETCD_CLIENT = "http://127.0.0.1:2379"
_ETCD_PEER = "http://127.0.0.1:2380"


@dataclass(frozen=True)
class Component:
    """One program of the cluster."""

    name: str
    """Names its log file as well."""
    arguments: tuple[str, ...]
    """The command line, program first."""


def etcd(state: Path, programs: Mapping[str, Path]) -> Component:
    """The store; its data lives no longer than the cluster."""
    return Component(
        "etcd",
        (
            str(programs["etcd"]),
            f"--data-dir={state}/etcd",
            "--unsafe-no-fsync",
            f"--listen-client-urls={_ETCD_CLIENT}",
            f"--advertise-client-urls={_ETCD_CLIENT}",
            f"--listen-peer-urls={_ETCD_PEER}",
            f"--initial-advertise-peer-urls={_ETCD_PEER}",
            f"--initial-cluster=default={_ETCD_PEER}",
            "--log-level=warn",
        ),
    )


def api_server(state: Path, programs: Mapping[str, Path], *, node: bool) -> Component:
    """The API server; without a node, nobody resolves its Service address."""
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


def controller_manager(state: Path, programs: Mapping[str, Path]) -> Component:
    """The controllers, those of clouds left out."""
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


def scheduler(state: Path, programs: Mapping[str, Path]) -> Component:
    """The scheduler."""
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


def kubelet(state: Path, programs: Mapping[str, Path]) -> Component:
    """The node's agent."""
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


def proxy(state: Path, programs: Mapping[str, Path]) -> Component:
    """What carries Service addresses to pods."""
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
