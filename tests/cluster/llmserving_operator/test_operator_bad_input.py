"""Valid resources that cannot be served: a condition and an Event, and nobody else suffers."""

from collections.abc import Callable
from typing import Any

import pytest

Eventually = Callable[..., Any]
CONFINED = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "seccompProfile": {"type": "RuntimeDefault"},
}


def condition(resource: dict[str, Any], kind: str) -> dict[str, Any]:
    found = [c for c in resource.get("status", {}).get("conditions", ()) if c["type"] == kind]
    return found[0] if found else {}


def events_about(kubectl: Any, name: str) -> list[tuple[str, str, str]]:
    found = [event for event in kubectl.list("events") if event["involvedObject"].get("name") == name]
    return [(event["type"], event["reason"], event["message"]) for event in found]


def test_a_foreign_service_is_left_as_it_is(
    kubectl: Any, new_resource: Callable[..., Any], eventually: Eventually
) -> None:
    resource = new_resource()
    name = resource["metadata"]["name"]
    kubectl.run("create", "service", "clusterip", name, "--tcp=1234")
    version = kubectl.get("service", name)["metadata"]["resourceVersion"]
    kubectl.apply(resource)

    found = eventually(lambda: condition(kubectl.get("llms", name), "Conflict"))
    assert (found["status"], found["reason"]) == ("True", "NameTaken")
    assert f"Service {name} exists, which no LLMServing owns" in found["message"]
    assert condition(kubectl.get("llms", name), "Ready")["status"] == "False"
    eventually(lambda: ("Warning", "NameTaken", found["message"]) in events_about(kubectl, name))
    assert kubectl.get("service", name)["metadata"]["resourceVersion"] == version
    assert kubectl.get("deployment", name)

    kubectl.run("delete", "service", name)
    eventually(lambda: condition(kubectl.get("llms", name), "Conflict")["status"] == "False")
    assert kubectl.get("service", name)["spec"]["ports"][0]["port"] == 80


def test_another_resources_children_are_not_taken_over(
    kubectl: Any, new_resource: Callable[..., Any], eventually: Eventually
) -> None:
    """``x`` has a ConfigMap ``x-policy``; a Deployment of somebody else has the name of ``y``."""
    resource = new_resource()
    name = resource["metadata"]["name"]
    kubectl.run("create", "deployment", name, "--image=nginx")
    kubectl.apply(resource)

    eventually(lambda: condition(kubectl.get("llms", name), "Conflict").get("status") == "True")
    assert kubectl.get("deployment", name)["spec"]["template"]["spec"]["containers"][0]["image"] == "nginx"
    assert "ownerReferences" not in kubectl.get("deployment", name)["metadata"]


@pytest.mark.parametrize(
    ("template", "reason", "words"),
    [
        ({"spec": {"hostNetwork": True}}, "TemplateRefused", "spec.template.spec.hostNetwork"),
        ({"spec": {"containers": [{"image": "x"}]}}, "TemplateRefused", "every element needs 'name'"),
        ({"spec": {"containers": [{"name": "x", "env": "no"}]}}, "TemplateRefused", "spec.template"),
        (
            {"spec": {"containers": [{"name": "Not_A_Name", "image": "x", "securityContext": CONFINED}]}},
            "RejectedByAPIServer",
            "Not_A_Name",
        ),
        ({"spec": {"restartPolicy": "Never"}}, "RejectedByAPIServer", "restartPolicy"),
        ({"spec": {"tolerations": "all"}}, "RejectedByAPIServer", "tolerations"),
    ],
)
def test_what_cannot_be_served_is_said_and_others_go_on(
    template: dict[str, Any],
    reason: str,
    words: str,
    kubectl: Any,
    new_resource: Callable[..., Any],
    eventually: Eventually,
) -> None:
    bad, good = new_resource(template=template), new_resource()
    name = bad["metadata"]["name"]
    kubectl.apply(bad)

    found = eventually(lambda: condition(kubectl.get("llms", name), "Accepted"))
    assert (found["status"], found["reason"]) == ("False", reason)
    assert words in found["message"]
    eventually(lambda: any(kind == "Warning" and why == reason for kind, why, _ in events_about(kubectl, name)))

    kubectl.apply(good)
    eventually(lambda: condition(kubectl.get("llms", good["metadata"]["name"]), "Accepted").get("status") == "True")

    kubectl.run("patch", "llms", name, "--type=json", "-p", '[{"op": "remove", "path": "/spec/template"}]')
    eventually(lambda: condition(kubectl.get("llms", name), "Accepted").get("status") == "True")
    assert kubectl.get("deployment", name)


def test_a_bad_edit_leaves_the_running_pods_alone(
    kubectl: Any, new_resource: Callable[..., Any], eventually: Eventually
) -> None:
    resource = new_resource()
    name = resource["metadata"]["name"]
    kubectl.apply(resource)
    before = eventually(lambda: kubectl.get("deployment", name))["metadata"]["generation"]

    kubectl.patch("llms", name, {"spec": {"replicas": 3, "template": {"spec": {"hostPID": True}}}})

    eventually(lambda: condition(kubectl.get("llms", name), "Accepted").get("status") == "False")
    assert kubectl.get("deployment", name)["metadata"]["generation"] == before
