"""`python -m llmserving_lab.images [TARGET ...]`: build the images, print their names and archives."""

from __future__ import annotations

import sys

from llmserving_lab.cluster.errors import ClusterError
from llmserving_lab.images.build import INPUTS, build_images


def main() -> None:
    """Build the targets named on the command line, all of them where none is named."""
    unknown = [target for target in sys.argv[1:] if target not in INPUTS]
    if unknown:
        raise SystemExit(f"no such image: {', '.join(unknown)} (known: {', '.join(INPUTS)})")
    try:
        images = build_images(sys.argv[1:] or INPUTS)
    except ClusterError as error:
        raise SystemExit(f"images: {error}") from error
    for image in images.values():
        print(f"{image.name} {image.size_bytes / 1e6:.0f} MB {image.archive}")


if __name__ == "__main__":
    main()
