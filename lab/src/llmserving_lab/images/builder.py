"""buildah with a storage of the project's own: no daemon, no registry, nothing in the user's containers."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from llmserving_lab.cluster.errors import ClusterError

_CERTIFICATES = Path("/etc/ssl/certs")
_BUNDLE = _CERTIFICATES / "ca-certificates.crt"
_BUILD_OPTIONS = ("--isolation=chroot", "--network=host", "--layers", "--pull-never", "--format=oci")


class Builder:
    """Runs buildah.

    Args:
        folder: where its storage lies; created.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def has_image(self, name: str) -> bool:
        """Whether the storage holds an image of that name."""
        return self._run(["inspect", "--type=image", name], check=False).returncode == 0

    def commit(self, base: str, name: str, archive: Path) -> None:
        """Make the image `name`: `base` (or `scratch`) with the files of a tar archive in one more layer."""
        container = self._run(["from", "--pull-never", base]).stdout.strip()
        try:
            self._run(["add", "--quiet", container, str(archive), "/"])
            self._run(["commit", "--quiet", container, name])
        finally:
            self._run(["rm", container], check=False)

    def build(
        self,
        context: Path,
        target: str,
        name: str,
        arguments: Mapping[str, str],
        environ: Mapping[str, str] = os.environ,
    ) -> None:
        """Build one target of the Dockerfile in `context`.

        Layers are kept, so that a change of the project's own code installs no package again.
        """
        settings = {**pip_settings(environ), **arguments}
        options = [f"--build-arg={key}={value}" for key, value in settings.items()]
        if _CERTIFICATES.is_dir():
            options.append(f"--volume={_CERTIFICATES}:{_CERTIFICATES}:ro")
        self._run(["build", *_BUILD_OPTIONS, f"--target={target}", f"--tag={name}", *options, str(context)])

    def export(self, name: str, archive: Path) -> None:
        """Write an image as an OCI archive."""
        self._run(["push", "--quiet", name, f"oci-archive:{archive}:{name}"])

    def forget(self, name: str) -> None:
        """Remove an image and the layers that no other image has, if it is there."""
        self._run(["rmi", name], check=False)

    def _run(self, arguments: Sequence[str], *, check: bool = True) -> subprocess.CompletedProcess[str]:
        storage = ["--storage-driver=overlay", f"--root={self.folder}/storage", f"--runroot={self.folder}/run"]
        finished = subprocess.run(["buildah", *storage, *arguments], capture_output=True, text=True, check=False)
        if check and finished.returncode != 0:
            said = (finished.stdout + finished.stderr).strip().splitlines()[-12:]
            raise ClusterError(f"buildah {arguments[0]} failed:\n" + "\n".join(said))
        return finished


def pip_settings(environ: Mapping[str, str]) -> dict[str, str]:
    """This machine's package index and certificates, as the build arguments that the Dockerfile takes.

    From the environment, else from pip's own configuration; certificates are the system's where nothing else is said,
    because pip's own do not know the authority of a company's proxy.
    """
    settings = {}
    for variable, key in (("PIP_INDEX_URL", "global.index-url"), ("PIP_CERT", "global.cert")):
        asked = [sys.executable, "-m", "pip", "config", "get", key]
        value = (
            environ.get(variable) or subprocess.run(asked, capture_output=True, text=True, check=False).stdout.strip()
        )
        if value:
            settings[variable] = value
    if _BUNDLE.is_file():
        settings.setdefault("PIP_CERT", str(_BUNDLE))
    return settings
