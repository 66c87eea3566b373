"""Engines in the cluster of this tier: the operator installed, resources applied, requests sent through the Service."""

from collections.abc import Callable, Iterator, Mapping

import pytest
import yaml

from llmserving_lab.cluster.embedded import EmbeddedCluster
from llmserving_lab.demo import install
from llmserving_lab.demo.serving import Manifest, Serving
from llmserving_lab.demo.site import EmbeddedSite
from llmserving_lab.environment import engine_environment
from llmserving_lab.images.build import Image


@pytest.fixture(scope="session")
def site(
    cluster: EmbeddedCluster, images: Mapping[str, Image], tmp_path_factory: pytest.TempPathFactory
) -> EmbeddedSite:
    """The cluster with the operator in it, installed as the demo installs it."""
    site = EmbeddedSite(cluster)
    install.install_operator(site, images, tmp_path_factory.mktemp("install"))
    return site


@pytest.fixture(scope="session")
def manifest(images: Mapping[str, Image]) -> Manifest:
    """The demo's resource with one engine, before it gets a name of its own."""
    return install.resource(images, engine_environment(), replicas=1)


@pytest.fixture(scope="session")
def apply(site: EmbeddedSite) -> Callable[[str, Manifest], Serving]:
    """Applies a resource under a name."""

    def apply(name: str, manifest: Manifest) -> Serving:
        named = {**manifest, "metadata": {"name": name}}
        site.kubectl("apply", "--filename=-", stdin=yaml.safe_dump(named))
        return Serving(site, name)

    return apply


@pytest.fixture(scope="session")
def chat(apply: Callable[[str, Manifest], Serving], manifest: Manifest, site: EmbeddedSite) -> Iterator[Serving]:
    """An engine that all tests share: Ready, run by an ordinary user."""
    serving = apply("chat", manifest)
    serving.wait_ready()
    yield serving
    site.kubectl("delete", "llmserving", "chat", "--ignore-not-found", "--wait=false")
