"""One API server for all tests of this tier: real etcd, kube-apiserver, controller manager and scheduler."""

from collections.abc import Iterator

import pytest

from llmserving_lab.cluster.embedded import EmbeddedCluster


@pytest.fixture(scope="session")
def control_plane() -> Iterator[EmbeddedCluster]:
    with EmbeddedCluster.start(node=False) as cluster:
        yield cluster
