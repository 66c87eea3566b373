"""What the demo applies, and how it notices that waiting will not help."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from llmserving_api.v1alpha1 import LLMServingSpec
from llmserving_lab.cluster.errors import ClusterError
from llmserving_lab.demo import install


class PlayedSite:
    """Pods as told; logs that say something."""

    def __init__(self, *statuses: dict[str, Any]) -> None:
        self._statuses = statuses

    def objects(self, *_: str) -> list[dict[str, Any]]:
        return [{"metadata": {"name": "p"}, "status": {"containerStatuses": [status]}} for status in self._statuses]

    def kubectl(self, *arguments: str) -> str:
        return f"{'previous' if '--previous' in arguments else 'current'} words\n"


def container(waiting: str = "", restarts: int = 0) -> dict[str, Any]:
    state = {"waiting": {"reason": waiting}} if waiting else {"running": {}}
    return {"name": "engine", "state": state, "restartCount": restarts}


@pytest.mark.parametrize("status", [container(), container("ContainerCreating"), container("PodInitializing", 1)])
def test_a_pod_on_its_way_is_waited_for(status: dict[str, Any]) -> None:
    site: Any = PlayedSite(status)
    install.fail_if_stuck(site, "default", "x")


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (container("CrashLoopBackOff", 2), "CrashLoopBackOff.*\nprevious words"),
        (container("ImagePullBackOff"), "ImagePullBackOff.*\ncurrent words"),
        (container(restarts=3), "ends again and again.*\nprevious words"),
    ],
)
def test_a_container_that_will_not_start_ends_the_wait_with_its_own_words(status: dict[str, Any], said: str) -> None:
    site: Any = PlayedSite(container(), status)
    with pytest.raises(ClusterError, match=said):
        install.fail_if_stuck(site, "default", "x")


def test_the_resource_is_a_valid_one() -> None:
    manifest = yaml.safe_load(install.resource_text())
    spec = LLMServingSpec.model_validate(manifest["spec"])
    assert spec.batching.max_num_batched_tokens.max == 8192
    assert spec.sla.inter_token_latency is not None


class SiteWithResources:
    """A cluster with resources by name; keeps the calls."""

    def __init__(self, *names: str) -> None:
        self._names = names
        self.calls: list[tuple[str, ...]] = []

    def objects(self, *_: str) -> list[dict[str, Any]]:
        return [{"metadata": {"name": name}} for name in self._names]

    def kubectl(self, *arguments: str) -> str:
        self.calls.append(arguments)
        if arguments[0] == "delete":
            raise ClusterError("the cluster is gone")
        return ""


def test_a_resource_that_the_demo_did_not_make_is_left_alone(tmp_path: Path) -> None:
    site: Any = SiteWithResources("other", "chat")
    with pytest.raises(ClusterError, match=r"already in namespace default.*kubectl delete llmserving chat"):
        install.apply(site, {}, tmp_path / "chat.yaml")
    assert site.calls == []


def test_beside_other_resources_the_demos_own_is_applied(tmp_path: Path) -> None:
    site: Any = SiteWithResources("other")
    install.apply(site, {"kind": "LLMServing"}, tmp_path / "chat.yaml")
    assert [call[0] for call in site.calls] == ["apply"]


def test_taking_the_resource_away_from_a_cluster_that_is_gone_is_no_error() -> None:
    site: Any = SiteWithResources()
    install.delete(site)
    assert "--ignore-not-found" in site.calls[0]
