import hashlib
import os
import re
from pathlib import Path

import pytest

from llmserving_lab.cluster.errors import ClusterError
from llmserving_lab.cluster.locations import repository_root
from llmserving_lab.cluster.tools import CONTROL_PLANE, GO_VERSION, KUBERNETES_VERSION, NODE, PROGRAMS, Toolchain

GO = """\
#!/bin/sh
echo built >> "$LOG"
while [ "$1" != -o ]; do shift; done
printf 'binary of %s' "$3" > "$2"
"""


@pytest.fixture
def modules(tmp_path: Path) -> Path:
    for module in {program.module for program in PROGRAMS.values()}:
        (tmp_path / "modules" / module).mkdir(parents=True)
        (tmp_path / "modules" / module / "go.sum").write_text("sums\n")
    return tmp_path / "modules"


@pytest.fixture
def go(tmp_path: Path) -> dict[str, str]:
    """An environment whose `go` writes a file and notes that it was asked to."""
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin" / "go"
    program.write_text(GO)
    program.chmod(0o755)
    return {"PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}", "LOG": str(tmp_path / "log")}


def builds(go: dict[str, str]) -> int:
    log = Path(go["LOG"])
    return len(log.read_text().splitlines()) if log.exists() else 0


def test_a_missing_program_is_built_once(tmp_path: Path, modules: Path, go: dict[str, str]) -> None:
    toolchain = Toolchain(tmp_path / "cache", modules, go)
    binary = toolchain.find(["kubectl"])["kubectl"]
    assert binary.read_text() == "binary of k8s.io/kubernetes/cmd/kubectl"
    assert toolchain.find(["kubectl"]) == {"kubectl": binary}
    assert builds(go) == 1


def test_programs_of_a_module_share_a_folder_because_containerd_looks_for_its_shim_there(
    tmp_path: Path, modules: Path, go: dict[str, str]
) -> None:
    found = Toolchain(tmp_path / "cache", modules, go).find(["containerd", "containerd-shim-runc-v2"])
    assert len({binary.parent for binary in found.values()}) == 1


def test_a_damaged_binary_is_built_again(tmp_path: Path, modules: Path, go: dict[str, str]) -> None:
    toolchain = Toolchain(tmp_path / "cache", modules, go)
    binary = toolchain.find(["helm"])["helm"]
    binary.write_text("half of it")
    assert toolchain.find(["helm"])["helm"].read_text() == "binary of helm.sh/helm/v4/cmd/helm"
    assert builds(go) == 2


def test_other_sources_mean_another_folder(tmp_path: Path, modules: Path, go: dict[str, str]) -> None:
    toolchain = Toolchain(tmp_path / "cache", modules, go)
    before = toolchain.find(["helm"])["helm"]
    (modules / "helm" / "go.sum").write_text("other sums\n")
    assert toolchain.find(["helm"])["helm"] != before


def test_programs_of_setup_envtest_come_first(tmp_path: Path, modules: Path, go: dict[str, str]) -> None:
    assets = tmp_path / "envtest"
    assets.mkdir()
    for name in ("etcd", "kubelet"):
        (assets / name).touch()
    found = Toolchain(tmp_path / "cache", modules, {**go, "KUBEBUILDER_ASSETS": str(assets)}).find(["etcd", "kubelet"])
    assert found["etcd"] == assets / "etcd"
    assert found["kubelet"].is_relative_to(tmp_path / "cache")


def test_an_empty_cache_without_go_says_what_to_install(tmp_path: Path, modules: Path) -> None:
    with pytest.raises(ClusterError, match=r"etcd v\S+ is not in the cache .* install Go .* or set KUBEBUILDER_ASSETS"):
        Toolchain(tmp_path / "cache", modules, {"PATH": str(tmp_path)}).find(["etcd"])


def test_a_failed_build_gives_its_reason_and_leaves_nothing(tmp_path: Path, modules: Path, go: dict[str, str]) -> None:
    (tmp_path / "bin" / "go").write_text("#!/bin/sh\necho 'dial tcp: no route to host' >&2\nexit 1\n")
    with pytest.raises(ClusterError, match=r"kubelet .* could not be built \(dial tcp: no route to host\)"):
        Toolchain(tmp_path / "cache", modules, go).find(["kubelet"])
    assert [file for file in (tmp_path / "cache").rglob("*") if file.is_file() and file.name != ".kubelet.lock"] == []


def test_versions_here_are_those_the_modules_pin() -> None:
    for name in (*CONTROL_PLANE, *NODE, "helm", "kubeconform"):
        program = PROGRAMS[name]
        if program.module == "pause":
            continue
        requirement = program.package.split("/cmd/")[0]
        lines = (repository_root() / "tools" / program.module / "go.mod").read_text().splitlines()
        assert any(requirement in line and f" {program.version}" in line for line in lines), name


def test_kubernetes_programs_are_stamped_with_their_version() -> None:
    arguments = " ".join(PROGRAMS["kube-apiserver"].build_arguments(Path("out")))
    assert f"gitVersion={KUBERNETES_VERSION}" in arguments


def test_checksum_is_of_the_binary(tmp_path: Path, modules: Path, go: dict[str, str]) -> None:
    binary = Toolchain(tmp_path / "cache", modules, go).find(["pause"])["pause"]
    noted = binary.with_name("pause.sha256").read_text()
    assert noted == hashlib.sha256(binary.read_bytes()).hexdigest()


def test_the_go_that_is_asked_for_builds_every_module() -> None:
    files = repository_root().glob("tools/*/go.mod")
    wanted = [re.search(r"^go (\S+)$", file.read_text(), re.MULTILINE) for file in files]
    versions = [tuple(int(part) for part in one[1].split(".")) for one in wanted if one]
    assert max(versions) == tuple(int(part) for part in GO_VERSION.split("."))
