from pathlib import Path

import pytest

from llmserving_lab.cluster import cgroups
from llmserving_lab.cluster.errors import ClusterError

SELF = """\
9:name=systemd:/
5:memory:/agent/a
4:cpu,cpuacct:/docker/abc/inner
3:net_cls:/
0::/
"""
MOUNTS = """\
30 24 0:26 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,xattr,name=systemd
31 24 0:27 / /sys/fs/cgroup/memory rw,relatime shared:7 - cgroup cgroup rw,memory
32 24 0:28 /docker/abc /sys/fs/cgroup/cpu\\040and\\040more rw,relatime - cgroup cgroup rw,cpu,cpuacct
33 24 0:29 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
"""


def test_each_mounted_v1_hierarchy_is_found_where_this_process_is() -> None:
    assert cgroups.v1_hierarchies(SELF, MOUNTS) == [
        cgroups.Hierarchy("name=systemd", Path("/sys/fs/cgroup/systemd")),
        cgroups.Hierarchy("memory", Path("/sys/fs/cgroup/memory/agent/a")),
        cgroups.Hierarchy("cpu,cpuacct", Path("/sys/fs/cgroup/cpu and more/inner")),
    ]


def test_a_group_outside_the_mounted_part_means_the_top_of_that_part() -> None:
    mounts = "32 24 0:28 /docker/abc /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids\n"
    assert cgroups.v1_hierarchies("4:pids:/elsewhere\n", mounts) == [
        cgroups.Hierarchy("pids", Path("/sys/fs/cgroup/pids"))
    ]


@pytest.mark.parametrize(
    ("controllers", "options"),
    [("memory", "memory"), ("cpu,cpuacct", "cpu,cpuacct"), ("name=systemd", "none,name=systemd")],
)
def test_mount_options_of_a_hierarchy(controllers: str, options: str) -> None:
    assert cgroups.mount_options(controllers) == options


def test_removal_takes_the_deepest_groups_first(tmp_path: Path) -> None:
    group = tmp_path / "llmserving-x"
    (group / "kubepods" / "pod1" / "container").mkdir(parents=True)
    assert cgroups.remove([group]) == []
    assert not group.exists()


def test_removal_waits_for_a_busy_group_and_says_what_is_left(tmp_path: Path) -> None:
    group = tmp_path / "llmserving-x"
    (group / "busy").mkdir(parents=True)
    (group / "busy" / "process").touch()  # a folder with a file cannot be removed, like a group with a process
    moments = iter(range(100))
    slept: list[float] = []
    left = cgroups.remove([group], patience_seconds=3, clock=lambda: next(moments), sleep=slept.append)
    assert left == [group]
    assert len(slept) == 2


def test_v2_controllers_are_handed_down_together(tmp_path: Path) -> None:
    (tmp_path / "cgroup.controllers").write_text("cpu memory hugetlb pids\n")
    (tmp_path / "cgroup.subtree_control").touch()
    assert cgroups.is_v2(tmp_path)
    assert cgroups.create_v2("llmserving-x", tmp_path) == tmp_path / "llmserving-x"
    assert (tmp_path / "cgroup.subtree_control").read_text() == "+cpu +memory +pids"


def test_v2_group_that_cannot_be_made_says_where_to_run_instead(tmp_path: Path) -> None:
    (tmp_path / "cgroup.controllers").write_text("cpu\n")
    (tmp_path / "cgroup.subtree_control").mkdir()  # writing it fails, as in a group that holds processes
    with pytest.raises(ClusterError, match=r"controllers cpu cannot be handed to a new group .* or set KUBECONFIG"):
        cgroups.create_v2("llmserving-x", tmp_path)
