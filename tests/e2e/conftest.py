"""One cluster with a node for all tests of this tier, and the project's images in it."""

from collections.abc import Iterator, Mapping

import pytest

from llmserving_lab.cluster.embedded import EmbeddedCluster
from llmserving_lab.images.build import Image, build_images


@pytest.fixture(scope="session")
def cluster() -> Iterator[EmbeddedCluster]:
    with EmbeddedCluster.start(capacity={"nvidia.com/gpu": "4"}) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def images(cluster: EmbeddedCluster) -> Mapping[str, Image]:
    """The images by target, loaded into the cluster."""
    built = build_images()
    for image in built.values():
        cluster.load_image(image.archive)
    return built
