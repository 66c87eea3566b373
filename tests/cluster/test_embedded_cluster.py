"""The embedded cluster itself: it serves, it runs pods, it reports what fails, and it leaves nothing behind."""

import json
import os
import shutil
import signal
import ssl
import subprocess
import sys
import textwrap
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from llmserving_lab.cluster.addresses import API_SERVICE_ADDRESS, PAUSE_IMAGE
from llmserving_lab.cluster.embedded import EmbeddedCluster
from llmserving_lab.cluster.errors import ClusterError
from llmserving_lab.cluster.guardian import Processes
from llmserving_lab.cluster.locations import cache_root
from llmserving_lab.cluster.tools import KUBERNETES_VERSION

PATIENCE_SECONDS = 60.0

STARTER = """
import sys, time
from llmserving_lab.cluster.embedded import EmbeddedCluster
with EmbeddedCluster.start(node=True) as cluster:
    print(cluster.state, flush=True)
    time.sleep(600)
"""


@pytest.fixture(scope="module")
def with_node() -> Iterator[EmbeddedCluster]:
    with EmbeddedCluster.start(capacity={"nvidia.com/gpu": "1"}) as cluster:
        cluster.kubectl("create", "namespace", "lab")
        yield cluster


def pod(name: str, **container: object) -> str:
    volumes = container.pop("volumes", [])
    spec = {
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": 0,
        "containers": [{"name": "only", "image": PAUSE_IMAGE, **container}],
        "volumes": volumes,
    }
    return json.dumps({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "lab"}, "spec": spec})


def leftovers(state: Path) -> dict[str, list[str]]:
    """What still speaks of a cluster: processes, mounts, control groups, files."""
    processes = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = entry.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if str(state) in command:
            processes.append(command)
    mounts = [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if str(state) in line]
    groups = [str(group) for group in Path("/sys/fs/cgroup").rglob(f"llmserving-{state.name}")]
    return {"processes": processes, "mounts": mounts, "groups": groups, "files": [str(state)] if state.exists() else []}


def wait_until_gone(state: Path) -> dict[str, list[str]]:
    """What is still there when patience ends; empty is good."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while any(leftovers(state).values()) and time.monotonic() < deadline:
        time.sleep(0.2)
    return {kind: found for kind, found in leftovers(state).items() if found}


def interfaces() -> set[str]:
    return {entry.name for entry in Path("/sys/class/net").iterdir()}


def kernel_settings() -> list[str]:
    names = ("vm/overcommit_memory", "vm/panic_on_oom", "kernel/panic", "kernel/panic_on_oops")
    return [(Path("/proc/sys") / name).read_text() for name in names]


def test_the_api_server_is_ready_and_of_the_pinned_version(control_plane: EmbeddedCluster) -> None:
    assert control_plane.kubectl("get", "--raw", "/readyz") == "ok"
    assert control_plane.kubernetes_version == KUBERNETES_VERSION
    assert control_plane.ready_seconds > 0


def test_a_cluster_without_a_node_still_has_its_controllers(control_plane: EmbeddedCluster) -> None:
    control_plane.kubectl("create", "namespace", "short-lived")
    control_plane.kubectl("wait", "--for=create", "serviceaccount/default", "-n", "short-lived", "--timeout=30s")
    control_plane.kubectl("delete", "namespace", "short-lived", "--timeout=30s")


def test_two_clusters_side_by_side_share_nothing(control_plane: EmbeddedCluster) -> None:
    with EmbeddedCluster.start(node=False) as other:
        assert {cluster.name for cluster in EmbeddedCluster.running()} >= {control_plane.name, other.name}
        other.kubectl("create", "namespace", "only-here")
        with pytest.raises(ClusterError, match='namespaces "only-here" not found'):
            control_plane.kubectl("get", "namespace", "only-here")
    assert EmbeddedCluster.attach(other.name) is None


def test_a_name_is_taken_once(control_plane: EmbeddedCluster) -> None:
    with pytest.raises(ClusterError, match=f"cluster {control_plane.name} is already running"):
        EmbeddedCluster.start_detached(name=control_plane.name)


def test_the_node_is_ready(with_node: EmbeddedCluster) -> None:
    node = json.loads(with_node.kubectl("get", "node", "node", "-o", "json"))
    assert {"type": "Ready", "status": "True"}.items() <= node["status"]["conditions"][-1].items()
    assert node["status"]["nodeInfo"]["kubeletVersion"] == KUBERNETES_VERSION


def test_a_pod_reads_a_folder_of_the_host_and_cannot_write_it(with_node: EmbeddedCluster) -> None:
    tools = with_node.host_path(with_node.programs["kubectl"].parent)
    volumes = [{"name": "tools", "hostPath": {"path": tools, "type": "Directory"}}]
    mounts = [{"name": "tools", "mountPath": "/tools", "readOnly": True}]
    reads = pod("reads", command=["/tools/kubectl", "version", "--client"], volumeMounts=mounts, volumes=volumes)
    change = ["/tools/kubectl", "config", "set-cluster", "any", "--kubeconfig=/tools/written"]
    writes = pod("writes", command=change, securityContext={"runAsUser": 0}, volumeMounts=mounts, volumes=volumes)
    for manifest in (reads, writes):
        with_node.kubectl("apply", "-f", "-", stdin=manifest)
    with_node.kubectl("wait", "--for=jsonpath={.status.phase}=Succeeded", "pod/reads", "-n", "lab", "--timeout=60s")
    with_node.kubectl("wait", "--for=jsonpath={.status.phase}=Failed", "pod/writes", "-n", "lab", "--timeout=60s")
    assert KUBERNETES_VERSION in with_node.kubectl("logs", "reads", "-n", "lab")
    assert "read-only file system" in with_node.kubectl("logs", "writes", "-n", "lab")


def test_pods_get_no_more_gpus_than_the_node_claims(with_node: EmbeddedCluster) -> None:
    one_gpu = {"limits": {"nvidia.com/gpu": 1}}
    with_node.kubectl("apply", "-f", "-", stdin=pod("first", resources=one_gpu))
    with_node.kubectl("wait", "--for=condition=Ready", "pod/first", "-n", "lab", "--timeout=60s")
    with_node.kubectl("apply", "-f", "-", stdin=pod("second", resources=one_gpu))
    with_node.kubectl(
        "wait",
        "--for=jsonpath={.status.conditions[0].reason}=Unschedulable",
        "pod/second",
        "-n",
        "lab",
        "--timeout=60s",
    )
    with_node.set_node_capacity({"nvidia.com/gpu": "2"})
    with_node.kubectl("wait", "--for=condition=Ready", "pod/second", "-n", "lab", "--timeout=60s")


def test_a_service_is_reached_from_the_host(with_node: EmbeddedCluster) -> None:
    port = with_node.forward(API_SERVICE_ADDRESS, 443)
    context = ssl.create_default_context(cafile=str(with_node.state / "pki" / "ca.crt"))
    with urllib.request.urlopen(f"https://127.0.0.1:{port}/version", context=context, timeout=10) as answer:
        assert json.load(answer)["gitVersion"] == KUBERNETES_VERSION


def test_a_command_runs_in_the_clusters_network(with_node: EmbeddedCluster) -> None:
    script = f"import socket; socket.create_connection(('{API_SERVICE_ADDRESS}', 443), timeout=10); print('reached')"
    command = with_node.command([sys.executable, "-c", script])
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "reached\n"


def test_folders_the_node_cannot_see_are_refused(with_node: EmbeddedCluster) -> None:
    with pytest.raises(ClusterError, match="does not exist"):
        with_node.host_path(Path("/nowhere"))
    with pytest.raises(ClusterError, match="lies under /run"):
        with_node.host_path(Path("/run"))


def test_an_archive_that_is_no_image_is_refused_by_name(with_node: EmbeddedCluster, tmp_path: Path) -> None:
    broken = tmp_path / "broken.tar"
    broken.write_text("no archive")
    with pytest.raises(ClusterError, match=r"broken\.tar could not be loaded"):
        with_node.load_image(broken)


def start_in_a_process_of_its_own() -> tuple[subprocess.Popen[str], Path]:
    process = subprocess.Popen([sys.executable, "-c", STARTER], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    return process, Path(process.stdout.readline().strip())


def test_killing_the_starter_ends_the_cluster_without_a_trace() -> None:
    before = interfaces(), kernel_settings()
    starter, state = start_in_a_process_of_its_own()
    assert leftovers(state)["processes"]
    assert leftovers(state)["groups"]
    starter.kill()
    starter.wait()
    assert wait_until_gone(state) == {}
    assert (interfaces(), kernel_settings()) == before


def test_killing_the_guardian_ends_every_process_and_the_next_look_clears_the_rest() -> None:
    starter, state = start_in_a_process_of_its_own()
    processes = Processes.read(state)
    assert processes is not None
    os.kill(processes.guardian, signal.SIGKILL)
    deadline = time.monotonic() + PATIENCE_SECONDS
    while leftovers(state)["processes"] and time.monotonic() < deadline:
        time.sleep(0.2)
    EmbeddedCluster.running()
    assert wait_until_gone(state) == {}
    starter.kill()
    starter.wait()


def test_a_component_that_fails_is_named_with_its_last_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = tmp_path / "kube-apiserver"
    broken.write_text(
        textwrap.dedent("""\
        #!/bin/sh
        echo the disk is on fire
        exit 3
    """)
    )
    broken.chmod(0o755)
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(tmp_path))
    name = f"broken-{os.getpid()}"
    with (
        pytest.raises(ClusterError, match=r"kube-apiserver ended with exit code 3.*the disk is on fire"),
        EmbeddedCluster.start(node=False, name=name),
    ):
        pass
    assert EmbeddedCluster.attach(name) is None
    kept = cache_root() / "failed-clusters" / name
    assert "the disk is on fire" in (kept / "kube-apiserver.log").read_text()
    shutil.rmtree(kept)
