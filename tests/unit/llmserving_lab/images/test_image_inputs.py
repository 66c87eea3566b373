import json
import tarfile
from pathlib import Path

import pytest

from llmserving_lab.cluster.locations import repository_root
from llmserving_lab.images.archive import single_file_image
from llmserving_lab.images.build import BUILD_REQUIREMENTS, INPUTS, input_key
from llmserving_lab.images.builder import pip_settings


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    for entry in ("Dockerfile", BUILD_REQUIREMENTS, "requirements/agent.txt", "requirements/operator.txt"):
        (tmp_path / entry).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / entry).write_text(entry)
    for folder in ("api", "agent", "engine", "operator"):
        (tmp_path / folder / "src").mkdir(parents=True)
        (tmp_path / folder / "src" / "module.py").write_text(folder)
    return tmp_path


@pytest.mark.parametrize(
    "changed", ["Dockerfile", BUILD_REQUIREMENTS, "requirements/agent.txt", "engine/src/module.py"]
)
def test_whatever_an_image_is_made_of_changes_its_key(repository: Path, changed: str) -> None:
    before = input_key(repository, "agent")
    (repository / changed).write_text("changed")
    assert input_key(repository, "agent") != before


def test_a_new_file_changes_the_key(repository: Path) -> None:
    before = input_key(repository, "agent")
    (repository / "api" / "src" / "new.py").touch()
    assert input_key(repository, "agent") != before


def test_byte_code_and_the_other_members_do_not(repository: Path) -> None:
    before = input_key(repository, "agent")
    (repository / "agent" / "src" / "module.pyc").touch()
    (repository / "operator" / "src" / "module.py").write_text("changed")
    assert input_key(repository, "agent") == before


def test_the_dockerfile_copies_exactly_what_the_keys_cover() -> None:
    root = repository_root()
    copied = set()
    for line in (root / "Dockerfile").read_text().splitlines():
        words = line.split()
        if words[:1] == ["COPY"] and not words[1].startswith("--"):
            copied.update(words[1:-1])
    covered = {BUILD_REQUIREMENTS}.union(*INPUTS.values())
    assert all(any(Path(source).is_relative_to(entry) for entry in covered) for source in copied), copied
    assert all((root / entry).exists() for entry in covered)


def test_an_archive_of_one_program_names_image_and_entry_point(tmp_path: Path) -> None:
    program = tmp_path / "pause"
    program.write_bytes(b"\x7fELF")
    single_file_image(program, "localhost/pause:v1", tmp_path / "pause.tar")
    with tarfile.open(tmp_path / "pause.tar") as archive:
        manifest = json.load(archive.extractfile("manifest.json"))[0]
        config = json.load(archive.extractfile(manifest["Config"]))
        with tarfile.open(fileobj=archive.extractfile(manifest["Layers"][0])) as layer:
            assert layer.extractfile("pause").read() == b"\x7fELF"
            assert layer.getmember("pause").mode == 0o755
    assert manifest["RepoTags"] == ["localhost/pause:v1"]
    assert config["config"]["Entrypoint"] == ["/pause"]


def test_an_index_and_certificates_of_ones_own_reach_the_build() -> None:
    settings = pip_settings({"PIP_INDEX_URL": "https://index.example/simple", "PIP_CERT": "/certificates.pem"})
    assert settings == {"PIP_INDEX_URL": "https://index.example/simple", "PIP_CERT": "/certificates.pem"}
