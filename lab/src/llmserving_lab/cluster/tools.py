"""The pinned programs the lab needs, found or built.

Where a program comes from, first hit wins: `KUBEBUILDER_ASSETS` (users of setup-envtest; the API server, etcd and
kubectl only), the cache, `go build` from the Go modules in `tools/`, whose `go.sum` pins every source file. Official
release archives are no source: their checksums are not published inside any module this repository pins.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from filelock import FileLock

from llmserving_lab.cluster.errors import ClusterError
from llmserving_lab.cluster.locations import cache_root, repository_root
from llmserving_lab.cluster.progress import step

GO_VERSION = "1.26.6"
"""The newest that a module in `tools/` asks for."""
KUBERNETES_VERSION = "v1.36.3"
ETCD_VERSION = "v3.6.8"
CONTAINERD_VERSION = "v2.4.2"
PROMETHEUS_VERSION = "v3.15.0"
HELM_VERSION = "v4.3.1"
KUBECONFORM_VERSION = "v0.8.0"

ENVTEST_PROGRAMS = frozenset({"etcd", "kube-apiserver", "kubectl"})
"""What `KUBEBUILDER_ASSETS` holds."""


@dataclass(frozen=True)
class GoProgram:
    """One program and how it is built."""

    name: str
    """File name of the binary."""
    package: str
    """Import path of its main package."""
    module: str
    """Folder below `tools/` whose go.mod and go.sum pin it."""
    version: str
    tags: tuple[str, ...] = ()
    stamps: Mapping[str, str] = field(default_factory=dict)
    """Variables set by the linker: without them a Kubernetes server reports v0.0.0 and clients complain."""

    def build_arguments(self, output: Path) -> list[str]:
        """The `go` command line that writes the binary to `output`."""
        linker = " ".join(["-s", "-w", *(f"-X {name}={value}" for name, value in self.stamps.items())])
        tags = [f"-tags={','.join(self.tags)}"] if self.tags else []
        return ["go", "build", "-trimpath", *tags, f"-ldflags={linker}", "-o", str(output), self.package]


def _kubernetes(name: str) -> GoProgram:
    base = "k8s.io/component-base/version"
    major, minor, _ = KUBERNETES_VERSION.removeprefix("v").split(".")
    stamps = {f"{base}.gitVersion": KUBERNETES_VERSION, f"{base}.gitMajor": major, f"{base}.gitMinor": minor}
    return GoProgram(name, f"k8s.io/kubernetes/cmd/{name}", "kubernetes", KUBERNETES_VERSION, stamps=stamps)


def _containerd(name: str) -> GoProgram:
    package = f"github.com/containerd/containerd/v2/cmd/{name}"
    stamps = {"github.com/containerd/containerd/v2/version.Version": CONTAINERD_VERSION}
    tags = ("no_btrfs", "no_devmapper", "no_zfs")
    return GoProgram(name, package, "containerd", CONTAINERD_VERSION, tags=tags, stamps=stamps)


def _prometheus(name: str) -> GoProgram:
    stamps = {"github.com/prometheus/common/version.Version": PROMETHEUS_VERSION.removeprefix("v")}
    tags = ("remove_all_sd", "enable_kubernetes_sd", "netgo")
    package = f"github.com/prometheus/prometheus/cmd/{name}"
    return GoProgram(name, package, "prometheus", PROMETHEUS_VERSION, tags=tags, stamps=stamps)


PROGRAMS: Mapping[str, GoProgram] = {
    program.name: program
    for program in (
        GoProgram("etcd", "go.etcd.io/etcd/server/v3", "kubernetes", ETCD_VERSION),
        _kubernetes("kube-apiserver"),
        _kubernetes("kube-controller-manager"),
        _kubernetes("kube-scheduler"),
        _kubernetes("kubectl"),
        _kubernetes("kubelet"),
        _kubernetes("kube-proxy"),
        _containerd("containerd"),
        _containerd("containerd-shim-runc-v2"),
        _containerd("ctr"),
        GoProgram("pause", "llmserving.io/tools/pause", "pause", "v1"),
        _prometheus("prometheus"),
        _prometheus("promtool"),
        GoProgram("helm", "helm.sh/helm/v4/cmd/helm", "helm", HELM_VERSION),
        GoProgram("kubeconform", "github.com/yannh/kubeconform/cmd/kubeconform", "kubeconform", KUBECONFORM_VERSION),
    )
}

CONTROL_PLANE = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubectl")
NODE = ("kubelet", "kube-proxy", "containerd", "containerd-shim-runc-v2", "ctr", "pause")


class Toolchain:
    """Finds the pinned programs, building those that are missing.

    Args:
        cache: the folder that keeps them, keyed by everything that decides their content.
        modules: the folder with one Go module per group of programs (the repository's `tools/`).
        environ: where `KUBEBUILDER_ASSETS` and `PATH` are read from.
    """

    def __init__(
        self,
        cache: Path | None = None,
        modules: Path | None = None,
        environ: Mapping[str, str] = os.environ,
    ) -> None:
        self._cache = cache or cache_root(environ) / "tools"
        self._modules = modules or repository_root() / "tools"
        self._environ = environ

    def find(self, names: Iterable[str]) -> dict[str, Path]:
        """The path of each named program, built now where it is missing.

        Raises:
            ClusterError: a program is missing and cannot be built, with what to set up.
        """
        return {name: self._find(PROGRAMS[name]) for name in names}

    def _find(self, program: GoProgram) -> Path:
        assets = self._environ.get("KUBEBUILDER_ASSETS")
        if assets and program.name in ENVTEST_PROGRAMS and (Path(assets) / program.name).is_file():
            return Path(assets) / program.name
        folder = self._folder(program.module)
        binary = folder / program.name
        if not _intact(binary):
            folder.mkdir(parents=True, exist_ok=True)
            with FileLock(folder / f".{program.name}.lock"):
                for abandoned in folder.glob(f".build-{program.name}.*"):  # of a build that was killed
                    shutil.rmtree(abandoned)
                if not _intact(binary):
                    self._build(program, binary)
        return binary

    def _folder(self, module: str) -> Path:
        """One folder per module (containerd finds its shim beside itself), keyed by sources and build options."""
        built = sorted(p.name for p in PROGRAMS.values() if p.module == module)
        options = [PROGRAMS[name].build_arguments(Path(name)) for name in built]
        digest = hashlib.sha256(repr(options).encode())
        for source in sorted((self._modules / module).iterdir()):
            digest.update(source.name.encode() + b"\0" + source.read_bytes())
        return self._cache / f"{module}-{digest.hexdigest()[:12]}"

    def _build(self, program: GoProgram, binary: Path) -> None:
        if shutil.which("go", path=self._environ.get("PATH")) is None:
            raise ClusterError(
                f"{program.name} {program.version} is not in the cache ({binary.parent}) and cannot be built: "
                f"install Go {GO_VERSION} or newer"
                + (" or set KUBEBUILDER_ASSETS" if program.name in ENVTEST_PROGRAMS else "")
            )
        with (
            step(f"building {program.name} {program.version}"),
            tempfile.TemporaryDirectory(dir=binary.parent, prefix=f".build-{program.name}.") as scratch,
        ):
            output = Path(scratch) / program.name
            finished = subprocess.run(
                program.build_arguments(output),
                cwd=self._modules / program.module,
                env={**self._environ, "CGO_ENABLED": "0"},
                capture_output=True,
                text=True,
                check=False,
            )
            if finished.returncode != 0:
                reason = (finished.stderr.strip().splitlines() or ["no output"])[-1]
                raise ClusterError(
                    f"{program.name} {program.version} could not be built ({reason}): Go {GO_VERSION} or newer and "
                    "the Go module proxy (GOPROXY) are needed when the cache is empty"
                )
            (Path(scratch) / "sum").write_text(_sha256(output))
            (Path(scratch) / "sum").rename(_checksum(binary))
            output.rename(binary)


def _checksum(binary: Path) -> Path:
    return binary.with_name(f"{binary.name}.sha256")


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _intact(binary: Path) -> bool:
    """Whether the cache holds the program as it was built."""
    return binary.is_file() and _checksum(binary).is_file() and _checksum(binary).read_text() == _sha256(binary)


def main() -> None:
    """Find or build the programs named on the command line, all of them where none is named; print their paths."""
    unknown = [name for name in sys.argv[1:] if name not in PROGRAMS]
    if unknown:
        raise SystemExit(f"no such program: {', '.join(unknown)} (known: {', '.join(PROGRAMS)})")
    try:
        found = Toolchain().find(sys.argv[1:] or PROGRAMS)
    except ClusterError as error:
        raise SystemExit(f"tools: {error}") from error
    for path in found.values():
        print(path)


if __name__ == "__main__":
    main()
