"""The policy sensor: seed and live document, symlink switches, bad documents."""

import json
from pathlib import Path
from typing import Any

import pytest

from llmserving_agent.sensors.policy_files import PolicyFiles


def document(revision: int, **changes: Any) -> str:
    policy = {
        "revision": revision,
        "namespace": "default",
        "name": "chat",
        "max_num_seqs": {"min": 8, "max": 512},
        "max_num_batched_tokens": {"min": 256, "max": 8192},
    }
    return json.dumps({**policy, **changes})


class Volume:
    """A projected volume as the kubelet makes it: files behind a `..data` link that is switched."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.version = folder, 0
        for name in ("seed.json", "live.json"):
            (folder / name).symlink_to(f"..data/{name}")

    def write(self, **files: str) -> None:
        self.version += 1
        data = self.folder / f"..version-{self.version}"
        data.mkdir()
        for name, content in files.items():
            (data / f"{name}.json").write_text(content)
        link = self.folder / "..incoming"
        link.symlink_to(data.name)
        link.rename(self.folder / "..data")


@pytest.fixture
def volume(tmp_path: Path) -> Volume:
    return Volume(tmp_path)


class Watch:
    def __init__(self, folder: Path) -> None:
        self.files, self.now = PolicyFiles(folder), 0.0

    def read(self) -> tuple[int | None, str]:
        self.now += 1
        reading = self.files.read(self.now)
        return (None if reading.policy is None else reading.policy.revision), reading.error


def test_without_files_there_is_no_policy_and_no_error(tmp_path: Path) -> None:
    assert Watch(tmp_path).read() == (None, "")


def test_the_seed_serves_until_the_live_document_is_newer(volume: Volume) -> None:
    watch = Watch(volume.folder)
    volume.write(seed=document(3))
    assert watch.read() == (3, "")
    volume.write(seed=document(3), live="")
    assert watch.read() == (3, "")
    volume.write(seed=document(3), live=document(5))
    assert watch.read() == (5, "")
    volume.write(seed=document(7), live=document(5))
    assert watch.read() == (7, "")


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        ("{", "live.json"),
        (document(9, max_num_seqs={"min": 9, "max": 3}), "min 9 is above max 3"),
        (document(9, mode="Sometimes"), "mode 'Sometimes'"),
        (document(9, version=2), "version 2"),
        (document(9, sla={"time_to_first_token": {"percentile": 95, "target_seconds": -1}}), "target_seconds -1"),
    ],
)
def test_a_bad_document_is_named_and_the_last_good_one_stays(volume: Volume, bad: str, says: str) -> None:
    watch = Watch(volume.folder)
    volume.write(seed=document(1), live=document(4))
    assert watch.read() == (4, "")
    volume.write(seed=document(1), live=bad)
    revision, error = watch.read()
    assert revision == 4
    assert says in error
    volume.write(seed=document(1), live=document(10))
    assert watch.read() == (10, "")


def test_a_bad_document_is_counted_once(volume: Volume) -> None:
    watch = Watch(volume.folder)
    volume.write(live="{")
    for _ in range(5):
        watch.read()
    assert watch.files.read(100).refused == 1


def test_the_policy_outlives_its_files(volume: Volume) -> None:
    watch = Watch(volume.folder)
    volume.write(live=document(4))
    watch.read()
    volume.write()
    assert watch.read() == (4, "")


def test_fields_of_a_newer_operator_are_ignored(volume: Volume) -> None:
    volume.write(live=document(2, invented={"later": 1}))
    assert Watch(volume.folder).read() == (2, "")


def test_files_are_looked_at_no_more_often_than_the_period(volume: Volume) -> None:
    files = PolicyFiles(volume.folder, period_seconds=0.2)
    volume.write(live=document(1))
    assert files.read(0.0).policy is not None
    volume.write(live=document(2))
    reading = files.read(0.1)
    assert reading.policy is not None
    assert reading.policy.revision == 1
    reading = files.read(0.21)
    assert reading.policy is not None
    assert reading.policy.revision == 2
