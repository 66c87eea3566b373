from pathlib import Path

import pytest

from llmserving_lab.cluster import debian, guardian, launch
from llmserving_lab.cluster.embedded import EmbeddedCluster
from llmserving_lab.cluster.errors import ClusterError
from llmserving_lab.cluster.locations import cache_root, repository_root


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path


def test_without_root_it_says_what_else_would_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch.os, "geteuid", lambda: 1000)
    with pytest.raises(ClusterError, match="needs root: run as root, or set KUBECONFIG"):
        EmbeddedCluster.start_detached(name="any")


def test_missing_packages_are_named_to_a_user_who_cannot_install_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(debian.os, "geteuid", lambda: 1000)
    packages = {"no-such-program": "package-b", "no-such-program-either": "package-a", "sh": "dash"}
    with pytest.raises(ClusterError, match="missing Debian packages: apt-get install package-a package-b"):
        debian.ensure(packages)


def test_nothing_is_installed_where_nothing_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(debian.subprocess, "run", lambda *_, **__: pytest.fail("apt was asked"))
    debian.ensure({"sh": "dash"})


@pytest.mark.parametrize("name", ["", "Upper", "-dash", "dot.ted", "x" * 33, "../up"])
def test_names_that_are_no_folder_names_are_refused(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "_prerequisites", lambda *, node: {})
    with pytest.raises(ClusterError, match="use up to 32 lower-case letters"):
        EmbeddedCluster.start_detached(name=name)


def test_a_cache_path_too_long_for_sockets_is_refused(own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "_prerequisites", lambda *, node: {})
    monkeypatch.setenv("XDG_CACHE_HOME", str(own_cache / ("long" * 25)))
    with pytest.raises(ClusterError, match="too long for a Unix socket: set XDG_CACHE_HOME"):
        EmbeddedCluster.start_detached(name="any")
    assert list(cache_root().glob("clusters/*")) == []


def test_the_sweep_clears_what_a_killed_guardian_left(own_cache: Path) -> None:
    clusters = cache_root() / "clusters"
    claim = guardian.claim(clusters, "dead")
    group = own_cache / "group"
    (group / "kubepods").mkdir(parents=True)
    (claim.state / guardian.GROUPS).write_text(f'["{group}"]')
    guardian.sweep(clusters)
    assert claim.state.exists(), "as long as somebody holds the lock it is alive"
    claim.lock.close()
    guardian.sweep(clusters)
    assert list(clusters.iterdir()) == []
    assert not group.exists()


def test_a_name_is_taken_until_it_is_swept(own_cache: Path) -> None:
    with guardian.claim(own_cache, "lab").lock, pytest.raises(ClusterError, match="cluster lab is already running"):
        guardian.claim(own_cache, "lab")
    guardian.sweep(own_cache)
    guardian.claim(own_cache, "lab").lock.close()


def test_the_repository_is_found_from_inside_and_missed_outside(tmp_path: Path) -> None:
    assert (repository_root() / "Dockerfile").is_file()
    with pytest.raises(ClusterError, match="run it from a checkout"):
        repository_root(tmp_path / "elsewhere" / "module.py")
