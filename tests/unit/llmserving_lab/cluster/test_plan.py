import json
from pathlib import Path

from llmserving_lab.cluster.addresses import PAUSE_IMAGE
from llmserving_lab.cluster.configuration import kubeconfig
from llmserving_lab.cluster.namespace import Manifest
from llmserving_lab.cluster.plan import IDENTITIES, KUBECONFIGS, Plan, cluster_plan
from llmserving_lab.cluster.tools import CONTROL_PLANE, NODE

STATE = Path("/cache/clusters/lab")
PROGRAMS = {name: Path("/tools") / name for name in (*CONTROL_PLANE, *NODE, "runc")}


def plan(*, node: bool) -> Plan:
    return cluster_plan(STATE, PROGRAMS, node=node)


def names(one: Plan) -> list[str]:
    return [component.name for component in (*one.before_api, *one.after_api)]


def test_a_control_plane_needs_no_program_of_the_node() -> None:
    programs = {name: PROGRAMS[name] for name in CONTROL_PLANE}
    assert names(cluster_plan(STATE, programs, node=False)) == [
        "etcd",
        "kube-apiserver",
        "kube-controller-manager",
        "kube-scheduler",
    ]


def test_what_needs_the_api_starts_after_it() -> None:
    one = plan(node=True)
    assert [component.name for component in one.before_api] == ["etcd", "kube-apiserver", "containerd"]
    assert {component.name for component in one.after_api} == {
        "kube-controller-manager",
        "kube-scheduler",
        "kubelet",
        "kube-proxy",
    }


def test_every_file_a_component_is_pointed_at_is_written_or_issued() -> None:
    one = plan(node=True)
    issued = {f"pki/{identity.file}.{kind}" for identity in IDENTITIES for kind in ("crt", "key")}
    known = {*one.files, *issued, "pki/ca.crt", "pki/ca.key", "pki/service-account.key", "pki/service-account.pub"}
    for component in (*one.before_api, *one.after_api):
        for argument in component.arguments[1:]:
            value = argument.split("=", 1)[-1]
            if value.startswith(f"{STATE}/") and Path(value).suffix:
                assert str(Path(value).relative_to(STATE)) in known, argument


def test_configuration_parses_and_keeps_images_that_cannot_be_pulled_again() -> None:
    files = plan(node=True).files
    assert json.loads(files["kubelet.json"])["imageGCHighThresholdPercent"] == 100
    assert json.loads(files["kubelet.json"])["failCgroupV1"] is False
    assert PAUSE_IMAGE in files["containerd.toml"]
    assert json.loads(files["cni/10-pods.conflist"])["plugins"][0]["type"] == "bridge"
    assert {f"{name}.kubeconfig" for name in KUBECONFIGS} <= set(files)


def test_a_kubeconfig_points_at_its_own_certificate() -> None:
    content = json.loads(kubeconfig(STATE, "https://127.0.0.1:1", "scheduler"))
    assert content["clusters"][0]["cluster"]["server"] == "https://127.0.0.1:1"
    assert content["users"][0]["user"]["client-certificate"] == f"{STATE}/pki/scheduler.crt"


def test_process_1_reads_the_manifest_that_was_written(tmp_path: Path) -> None:
    one = plan(node=True)
    manifest = Manifest(True, one.before_api, one.after_api, ("/cache",))
    manifest.write(tmp_path)
    assert Manifest.read(tmp_path) == manifest
