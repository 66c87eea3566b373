"""The normal life of a resource: create, edit, scale, delete."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

Eventually = Callable[..., Any]
CHILDREN = ("deployment", "service", "serviceaccount", "networkpolicy", "poddisruptionbudget")


def condition(resource: dict[str, Any], kind: str) -> dict[str, Any]:
    found = [c for c in resource.get("status", {}).get("conditions", ()) if c["type"] == kind]
    return found[0] if found else {}


def pods_of(kubectl: Any, name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = kubectl.list("pods", f"llmserving.io/name={name}")
    return found


def policies_of(kubectl: Any, name: str) -> list[dict[str, Any]]:
    annotations = [pod["metadata"]["annotations"].get("llmserving.io/policy") for pod in pods_of(kubectl, name)]
    return [json.loads(text) for text in annotations if text]


@pytest.fixture
def created(kubectl: Any, new_resource: Callable[..., Any], eventually: Eventually) -> str:
    """Name of a resource with two pods that have the policy."""
    resource = new_resource(replicas=2)
    kubectl.apply(resource)
    name: str = resource["metadata"]["name"]
    eventually(lambda: len(policies_of(kubectl, name)) == 2)
    return name


def test_a_resource_becomes_its_children(kubectl: Any, created: str, eventually: Eventually) -> None:
    uid = kubectl.get("llms", created)["metadata"]["uid"]

    for kind in CHILDREN:
        (reference,) = kubectl.get(kind, created)["metadata"]["ownerReferences"]
        assert (reference["uid"], reference["controller"]) == (uid, True)
    seed = json.loads(kubectl.get("configmap", f"{created}-policy")["data"]["policy.json"])
    assert policies_of(kubectl, created) == [seed, seed]
    assert seed["sla"]["inter_token_latency"]["target_seconds"] == 0.05

    status = eventually(lambda: kubectl.get("llms", created).get("status"))
    assert len(status["conditions"]) == 12
    assert status["url"] == f"http://{created}.shared.svc"


def test_a_live_edit_reaches_running_pods_and_restarts_none(kubectl: Any, created: str, eventually: Eventually) -> None:
    before = kubectl.get("deployment", created)["metadata"]["generation"]
    uids = {pod["metadata"]["uid"] for pod in pods_of(kubectl, created)}

    for change in (
        {"sla": {"interTokenLatency": {"target": "33ms"}}},
        {"batching": {"mode": "Advise", "maxNumSeqs": {"min": 16}}},
        {"batching": {"policy": "SLA"}},
    ):
        kubectl.patch("llms", created, {"spec": change})
        generation = kubectl.get("llms", created)["metadata"]["generation"]
        eventually(lambda g=generation: [p["revision"] for p in policies_of(kubectl, created)] == [g, g])

    policy = policies_of(kubectl, created)[0]
    assert policy["sla"]["inter_token_latency"]["target_seconds"] == 0.033
    assert (policy["mode"], policy["law"], policy["max_num_seqs"]["min"]) == ("Advise", "SLA", 16)
    eventually(lambda: json.loads(kubectl.get("configmap", f"{created}-policy")["data"]["policy.json"]) == policy)
    assert kubectl.get("deployment", created)["metadata"]["generation"] == before
    assert {pod["metadata"]["uid"] for pod in pods_of(kubectl, created)} == uids


def test_a_ceiling_given_and_taken_back_rolls_the_pods_and_is_remembered(
    kubectl: Any, created: str, eventually: Eventually
) -> None:
    kubectl.patch("llms", created, {"spec": {"batching": {"maxNumSeqs": {"max": 128}}}})

    def arguments() -> list[str]:
        template = kubectl.get("deployment", created)["spec"]["template"]
        found: list[str] = template["spec"]["containers"][0]["args"]
        return found

    eventually(lambda: "--max-num-seqs=128" in arguments())
    eventually(lambda: [r["revision"] for r in revisions(kubectl, created)] == [2])

    kubectl.patch("llms", created, {"spec": {"batching": {"maxNumSeqs": {"max": None}}}})
    eventually(lambda: [r["revision"] for r in revisions(kubectl, created)] == [3])
    assert not [argument for argument in arguments() if argument.startswith("--max-num")]


def revisions(kubectl: Any, name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = kubectl.list("controllerrevisions", f"llmserving.io/name={name}")
    return found


def test_kubectl_scale_changes_the_replicas_alone(kubectl: Any, created: str, eventually: Eventually) -> None:
    uids = {pod["metadata"]["uid"] for pod in pods_of(kubectl, created)}

    kubectl.run("scale", "llms", created, "--replicas=3")

    eventually(lambda: len(policies_of(kubectl, created)) == 3)
    assert uids < {pod["metadata"]["uid"] for pod in pods_of(kubectl, created)}
    assert kubectl.get("deployment", created)["spec"]["replicas"] == 3


def test_what_others_change_is_put_back(kubectl: Any, created: str, eventually: Eventually) -> None:
    kubectl.run("delete", "service", created)
    kubectl.run("scale", "deployment", created, "--replicas=5")
    kubectl.patch("configmap", f"{created}-policy", {"data": {"policy.json": "{}"}})

    eventually(lambda: kubectl.get("service", created))
    eventually(lambda: kubectl.get("deployment", created)["spec"]["replicas"] == 2)
    eventually(lambda: "revision" in kubectl.get("configmap", f"{created}-policy")["data"]["policy.json"])


def test_while_paused_nothing_is_changed(kubectl: Any, created: str, eventually: Eventually) -> None:
    kubectl.patch("llms", created, {"spec": {"paused": True, "replicas": 4}})

    eventually(lambda: condition(kubectl.get("llms", created), "Progressing").get("reason") == "Paused")
    assert kubectl.get("deployment", created)["spec"]["replicas"] == 2

    kubectl.patch("llms", created, {"spec": {"paused": False}})
    eventually(lambda: kubectl.get("deployment", created)["spec"]["replicas"] == 4)


def test_deleted_and_made_anew_at_once_it_is_no_conflict(
    kubectl: Any, created: str, eventually: Eventually, new_resource: Callable[..., Any]
) -> None:
    old = kubectl.get("llms", created)["metadata"]["uid"]
    resource = new_resource()
    resource["metadata"]["name"] = created
    kubectl.run("delete", "llms", created)
    kubectl.apply(resource)
    new = kubectl.get("llms", created)["metadata"]["uid"]

    def owners() -> set[str]:
        found = [kubectl.get(kind, created)["metadata"] for kind in CHILDREN]
        return {reference["uid"] for metadata in found for reference in metadata["ownerReferences"]}

    eventually(lambda: owners() == {new})
    assert new != old
    events = [event for event in kubectl.list("events") if event["involvedObject"].get("name") == created]
    assert "NameTaken" not in {event["reason"] for event in events}


def test_pods_of_a_deleted_namesake_are_left_alone_while_they_live(
    kubectl: Any, created: str, eventually: Eventually, new_resource: Callable[..., Any]
) -> None:
    """A finalizer keeps the old ReplicaSet, and with it its pods, which nobody has told to stop."""
    (old_set,) = (one["metadata"]["name"] for one in kubectl.list("replicasets", f"llmserving.io/name={created}"))
    kubectl.patch("replicaset", old_set, {"metadata": {"finalizers": ["example.com/hold"]}})
    before = {pod["metadata"]["name"]: pod["metadata"]["annotations"] for pod in pods_of(kubectl, created)}
    resource = new_resource(sla={"interTokenLatency": {"target": "77ms"}})
    resource["metadata"]["name"] = created
    kubectl.run("delete", "llms", created)
    kubectl.apply(resource)
    uid = kubectl.get("llms", created)["metadata"]["uid"]

    def new_pods() -> list[dict[str, Any]]:
        return [pod for pod in pods_of(kubectl, created) if pod["metadata"]["labels"]["llmserving.io/uid"] == uid]

    eventually(lambda: "llmserving.io/policy" in new_pods()[0]["metadata"]["annotations"] if new_pods() else False)
    after = {pod["metadata"]["name"]: pod["metadata"] for pod in pods_of(kubectl, created)}
    assert before.keys() < after.keys()
    assert all("deletionTimestamp" not in after[name] for name in before)
    assert {name: after[name]["annotations"] for name in before} == before

    kubectl.patch("replicaset", old_set, {"metadata": {"finalizers": []}})
    eventually(lambda: not before.keys() & {pod["metadata"]["name"] for pod in pods_of(kubectl, created)})


def endpoints_of(kubectl: Any, name: str) -> dict[str, dict[str, Any]]:
    """Conditions of the addresses behind the Service that there is now; its predecessor's slices may still be there."""
    service = kubectl.get("service", name)["metadata"]["uid"]
    slices = [
        one
        for one in kubectl.list("endpointslices", f"kubernetes.io/service-name={name}")
        if one["metadata"]["ownerReferences"][0]["uid"] == service
    ]
    return {end["addresses"][0]: end["conditions"] for one in slices for end in one["endpoints"] or ()}


@pytest.fixture
def node(kubectl: Any) -> Iterator[str]:
    """A node without a kubelet, which gets no pod but by hand: of pods without a node nothing is an endpoint."""
    node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "by-hand"}, "spec": {"unschedulable": True}}
    kubectl.apply(node)
    yield "by-hand"
    kubectl.run("delete", "pods", "--field-selector=spec.nodeName=by-hand", "--force", "--grace-period=0")
    kubectl.run("delete", "node", "by-hand")


def serve(kubectl: Any, pod: str, node: str, address: str) -> None:
    """Play scheduler and kubelet: a pod that is ready at an address, and does not go before it is told by force."""
    binding = {
        "apiVersion": "v1",
        "kind": "Binding",
        "metadata": {"name": pod},
        "target": {"kind": "Node", "name": node},
    }
    path = f"/api/v1/namespaces/{kubectl.namespace}/pods/{pod}/binding"
    kubectl.run("create", "--raw", path, "-f", "-", stdin=json.dumps(binding))
    ready = [{"type": kind, "status": "True"} for kind in ("Ready", "ContainersReady", "PodScheduled")]
    status = {"phase": "Running", "podIP": address, "podIPs": [{"ip": address}], "conditions": ready}
    kubectl.patch("pod", pod, {"status": status}, "--subresource=status")


def test_stopping_engines_of_a_deleted_namesake_are_not_behind_the_new_service(
    kubectl: Any, node: str, created: str, eventually: Eventually, new_resource: Callable[..., Any]
) -> None:
    """Proxies send requests to engines that stop and still serve, as long as no other is ready."""
    old = {pod["metadata"]["name"] for pod in pods_of(kubectl, created)}
    for number, name in enumerate(sorted(old), 1):
        serve(kubectl, name, node, f"10.9.0.{number}")
    eventually(lambda: endpoints_of(kubectl, created).keys() == {"10.9.0.1", "10.9.0.2"})
    resource = new_resource()
    resource["metadata"]["name"] = created
    kubectl.run("delete", "llms", created)
    kubectl.apply(resource)

    (new,) = eventually(lambda: {pod["metadata"]["name"] for pod in pods_of(kubectl, created)} - old)
    eventually(lambda: all("deletionTimestamp" in kubectl.get("pod", name)["metadata"] for name in old))
    serve(kubectl, new, node, "10.9.0.3")
    eventually(lambda: "10.9.0.3" in endpoints_of(kubectl, created))
    assert endpoints_of(kubectl, created).keys() == {"10.9.0.3"}, endpoints_of(kubectl, created)


def test_deleting_leaves_nothing(kubectl: Any, created: str, eventually: Eventually) -> None:
    assert "finalizers" not in kubectl.get("llms", created)["metadata"]
    kubectl.run("delete", "llms", created)

    kinds = ",".join((*CHILDREN, "configmap", "controllerrevision", "replicaset", "pod"))
    eventually(lambda: kubectl.list(kinds, f"llmserving.io/name={created}") == [])


def test_engines_of_any_user_but_root_meet_the_restricted_standard(
    own: Any, start_operator: Callable[..., Any], new_resource: Callable[..., Any], eventually: Eventually
) -> None:
    """The API server itself refuses pods that do not."""
    own.run("label", "namespace", own.namespace, "pod-security.kubernetes.io/enforce=restricted")
    as_root = new_resource()
    as_user = new_resource(template={"spec": {"securityContext": {"runAsUser": 1000, "runAsNonRoot": True}}})
    with start_operator(lease_namespace=""):
        own.apply(as_root)
        own.apply(as_user)

        eventually(lambda: len(policies_of(own, as_user["metadata"]["name"])) == 1)
        eventually(lambda: own.list("deployment", f"llmserving.io/name={as_root['metadata']['name']}"))
        assert pods_of(own, as_root["metadata"]["name"]) == []
