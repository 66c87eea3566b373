from dataclasses import replace
from typing import Any

import pytest

from llmserving_operator.children.identity import Identity, labels, pod_labels
from llmserving_operator.observe import Trouble, describe_owner, is_owned, is_predecessors, observe_pods


def pod(name: str = "chat-a", **status: Any) -> dict[str, Any]:
    owner = {"kind": "ReplicaSet", "name": "chat-1", "uid": "r", "controller": True}
    return {
        "metadata": {"name": name, "uid": "u", "namespace": "prod", "ownerReferences": [owner]},
        "status": status,
    }


def waiting(container: str, reason: str, message: str = "") -> dict[str, Any]:
    return {"name": container, "state": {"waiting": {"reason": reason, "message": message}}}


def test_ended_pods_are_left_out_and_the_rest_is_sorted(owner: Identity) -> None:
    bodies = [pod("b"), pod("c", phase="Succeeded"), pod("a", phase="Running"), pod("d", phase="Failed")]

    assert [found.name for found in observe_pods(bodies, owner)] == ["a", "b"]


def test_a_pod_that_only_bears_the_labels_is_no_engine(owner: Identity) -> None:
    stranger = pod("stranger")
    stranger["metadata"]["ownerReferences"] = []

    assert observe_pods([stranger], owner) == ()


def test_pods_of_a_deleted_resource_of_the_same_name_are_anothers(owner: Identity) -> None:
    own, predecessors, unmarked = pod("a"), pod("b"), pod("c")
    own["metadata"]["labels"] = pod_labels(owner)
    predecessors["metadata"]["labels"] = pod_labels(replace(owner, uid="old"))
    unmarked["metadata"]["labels"] = labels(owner.name)

    found = observe_pods([own, predecessors, unmarked], owner)

    assert [(pod.name, pod.bears_uid) for pod in found] == [("a", True), ("c", False)]


def test_reads_readiness_address_and_the_running_agent(owner: Identity) -> None:
    (found,) = observe_pods(
        [
            pod(
                podIP="10.0.0.7",
                conditions=[{"type": "Ready", "status": "True"}],
                initContainerStatuses=[{"name": "agent", "state": {"running": {}}}],
            )
        ],
        owner,
    )

    assert (found.ip, found.ready, found.running, found.trouble) == ("10.0.0.7", True, True, None)


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (
            {"conditions": [{"type": "PodScheduled", "status": "False", "message": "0/3 nodes: no nvidia.com/gpu"}]},
            Trouble("Unschedulable", "0/3 nodes: no nvidia.com/gpu"),
        ),
        (
            {"containerStatuses": [waiting("engine", "ImagePullBackOff", "not found")]},
            Trouble("ImagePullFailed", "container engine: not found"),
        ),
        (
            {"containerStatuses": [waiting("engine", "CreateContainerConfigError", 'secret "hub" not found')]},
            Trouble("ContainerConfigWrong", 'container engine: secret "hub" not found'),
        ),
        (
            {"initContainerStatuses": [waiting("plugin", "CrashLoopBackOff")]},
            Trouble("CrashLooping", "container plugin: CrashLoopBackOff"),
        ),
        ({"containerStatuses": [waiting("engine", "ContainerCreating")]}, None),
        ({}, None),
    ],
)
def test_says_why_a_pod_is_in_trouble(status: dict[str, Any], expected: Trouble | None, owner: Identity) -> None:
    (found,) = observe_pods([pod(**status)], owner)

    assert found.trouble == expected


def test_a_crash_is_told_with_its_last_words(owner: Identity) -> None:
    container = waiting("engine", "CrashLoopBackOff")
    container["lastState"] = {"terminated": {"exitCode": 1, "message": "a\n\nb\nc\nOSError: no model 'x'\n"}}

    (found,) = observe_pods([pod(containerStatuses=[container])], owner)

    assert found.trouble == Trouble("CrashLooping", "container engine: exit code 1: b | c | OSError: no model 'x'")


def test_ownership_is_by_the_controllers_uid(owner: Identity) -> None:
    mine = {
        "metadata": {"ownerReferences": [{"kind": "LLMServing", "name": "chat", "uid": "uid-1", "controller": True}]}
    }
    earlier = {
        "metadata": {"ownerReferences": [{"kind": "LLMServing", "name": "chat", "uid": "old", "controller": True}]}
    }
    nobodys: dict[str, Any] = {"metadata": {}}

    assert is_owned(mine, owner)
    assert not is_owned(earlier, owner)
    assert not is_owned(nobodys, owner)
    assert is_predecessors(earlier, owner)
    assert not is_predecessors(nobodys, owner)
    assert describe_owner(earlier) == "which LLMServing chat owns"
    assert describe_owner(nobodys) == "which no LLMServing owns"
