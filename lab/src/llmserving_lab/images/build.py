"""The project's images, built from its Dockerfile when something they are made of has changed."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from llmserving_lab.cluster import debian
from llmserving_lab.cluster.locations import cache_root, repository_root
from llmserving_lab.cluster.progress import say, step
from llmserving_lab.images.base import ensure_base_images, mmdebstrap_options
from llmserving_lab.images.builder import Builder

BUILD_REQUIREMENTS = "requirements/build.txt"

INPUTS: Mapping[str, Sequence[str]] = {
    "operator": ("requirements/operator.txt", "api", "operator"),
    "agent": ("requirements/agent.txt", "api", "agent", "engine"),
    "engine": (
        "lab/pyproject.toml",
        "lab/src/llmserving_lab/__init__.py",
        "lab/src/llmserving_lab/device",
        "lab/src/llmserving_lab/model",
        "lab/src/llmserving_lab/nvml",
        "lab/image",
    ),
}
"""Target of the Dockerfile → the files and folders it copies."""

KEPT_ARCHIVES = 3
"""Builds of one target that stay in the cache."""

_IGNORED = (".pyc", ".egg-info")


@dataclass(frozen=True)
class Image:
    """A built image as an archive, ready to be loaded into a cluster."""

    target: str
    name: str
    """With a tag that changes when the content does, so that a new build rolls the pods."""
    archive: Path
    size_bytes: int
    """Of the archive: all layers, uncompressed or as the builder stored them."""


def build_images(targets: Iterable[str] = tuple(INPUTS)) -> dict[str, Image]:
    """Build the targets whose inputs changed since they were last built.

    Raises:
        ClusterError: a program or a download is missing, or the build failed with its last lines.
    """
    debian.ensure(debian.IMAGE_PACKAGES)
    folder = cache_root() / "images"
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / "build.lock"):
        images = {target: _build(target, repository_root(), folder) for target in targets}
    sizes = ", ".join(f"{image.target} {image.size_bytes / 1e6:.0f} MB" for image in images.values())
    say(f"images: {sizes}")
    return images


def _build(target: str, repository: Path, folder: Path) -> Image:
    key = input_key(repository, target)
    name = _image_name(target, key)
    archive = folder / f"{target}-{key}.tar"
    if not archive.is_file():
        builder = Builder(folder)
        bases = ensure_base_images(builder, repository / BUILD_REQUIREMENTS)
        with step(f"building the image {target}"):
            arguments = {"PYTHON_IMAGE": bases.python, "BUILD_IMAGE": bases.build}
            builder.build(repository, target, name, arguments)
            draft = archive.with_suffix(".part")
            draft.unlink(missing_ok=True)
            builder.export(name, draft)
            draft.rename(archive)
        _forget_old(builder, target)
    return Image(target, name, archive, archive.stat().st_size)


def input_key(repository: Path, target: str) -> str:
    """Twelve hex digits that change when anything the target is made of does."""
    digest = hashlib.sha256("\0".join(mmdebstrap_options()).encode())
    for entry in ("Dockerfile", BUILD_REQUIREMENTS, *INPUTS[target]):
        path = repository / entry
        files = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())
        for file in files:
            if not any(part.endswith(_IGNORED) for part in file.parts):
                mode = file.stat().st_mode & 0o111
                digest.update(f"{file.relative_to(repository)}\0{mode}\0".encode() + file.read_bytes())
    return digest.hexdigest()[:12]


def _forget_old(builder: Builder, target: str) -> None:
    archives = sorted(builder.folder.glob(f"{target}-*.tar"), key=lambda file: file.stat().st_mtime, reverse=True)
    for archive in archives[KEPT_ARCHIVES:]:
        builder.forget(_image_name(target, archive.stem.removeprefix(f"{target}-")))
        archive.unlink()


def _image_name(target: str, key: str) -> str:
    return f"localhost/llmserving/{target}:{key}"
