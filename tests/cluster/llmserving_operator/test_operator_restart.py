"""A restarted or upgraded operator changes nothing; of two, one acts."""

from collections.abc import Callable
from typing import Any

import httpx
import pytest

Eventually = Callable[..., Any]
EVERYTHING = "llms,deployment,service,configmap,serviceaccount,networkpolicy,poddisruptionbudget,controllerrevision"


def versions(kubectl: Any) -> dict[str, str]:
    """Versions of all objects; of pods, to which the scheduler writes, what is not the scheduler's."""
    objects = {
        f"{body['kind']}/{body['metadata']['name']}": body["metadata"]["resourceVersion"]
        for body in kubectl.list(EVERYTHING)
    }
    pods = {
        f"Pod/{body['metadata']['name']}": f"{body['metadata']['uid']} {body['metadata']['annotations']}"
        for body in kubectl.list("pods")
    }
    return {**objects, **pods}


def condition(resource: dict[str, Any], kind: str) -> dict[str, Any]:
    found = [c for c in resource.get("status", {}).get("conditions", ()) if c["type"] == kind]
    return found[0] if found else {}


def settle(kubectl: Any, eventually: Eventually) -> dict[str, str]:
    """Versions of all objects once two looks agree."""
    seen: list[dict[str, str]] = [{}]

    def calm() -> bool:
        seen.append(versions(kubectl))
        return seen[-1] == seen[-2] and "LLMServing" in "".join(seen[-1])

    eventually(calm)
    return seen[-1]


@pytest.fixture
def tuned(
    own: Any,
    start_operator: Callable[..., Any],
    new_resource: Callable[..., Any],
    eventually: Eventually,
    make_ready: Callable[..., Any],
    agent_for: Callable[[int], dict[str, Any]],
) -> tuple[str, dict[str, str]]:
    """A resource that an operator, gone again, brought to tuning; and the versions of everything."""
    resource = new_resource()
    name = resource["metadata"]["name"]
    with start_operator(lease_namespace=""):
        own.apply(resource)
        (pod,) = eventually(lambda: own.list("pods"))
        make_ready(own, pod["metadata"]["name"], agent_for(1))
        eventually(lambda: condition(own.get("llms", name), "TuningActive").get("status") == "True")
        eventually(lambda: condition(own.get("llms", name), "Progressing").get("status") == "False")
        return name, settle(own, eventually)


def test_a_restarted_operator_changes_no_resource_version(
    tuned: tuple[str, dict[str, str]], own: Any, start_operator: Callable[..., Any], eventually: Eventually
) -> None:
    _, before = tuned
    with start_operator(lease_namespace="") as operator:
        eventually(lambda: operator.count("reconciled") >= 2)  # the second for the agent's first answer
        assert settle(own, eventually) == before


def test_an_upgraded_operator_restarts_no_pod_until_the_next_restart(
    tuned: tuple[str, dict[str, str]], own: Any, start_operator: Callable[..., Any], eventually: Eventually
) -> None:
    name, before = tuned
    with start_operator(lease_namespace="", agent_image="llmserving/agent:2"):
        eventually(lambda: condition(own.get("llms", name), "UpdatePending").get("status") == "True")
        after = settle(own, eventually)
        assert {key for key in after if after[key] != before.get(key)} == {f"LLMServing/{name}"}

        own.patch("llms", name, {"spec": {"rollout": {"sidecarUpgrade": "Rolling"}}})
        eventually(lambda: condition(own.get("llms", name), "UpdatePending").get("status") == "False")
        template = own.get("deployment", name)["spec"]["template"]["spec"]
        assert {container["image"] for container in template["initContainers"]} == {"llmserving/agent:2"}


def test_of_two_operators_one_acts_and_the_other_follows(
    own: Any,
    start_operator: Callable[..., Any],
    new_resource: Callable[..., Any],
    eventually: Eventually,
    unused_tcp_port: int,
) -> None:
    """The second is ready while it waits: a rolling update of the operator would not end otherwise."""
    with start_operator() as first:
        eventually(lambda: first.count("leading") == 1)
        with start_operator(port=str(unused_tcp_port)) as second:
            eventually(lambda: second.count("waiting for the Lease") == 1)
            own.apply(new_resource())
            eventually(lambda: own.list("deployment"))
            assert httpx.get(f"http://127.0.0.1:{unused_tcp_port}/readyz").status_code == 200
            assert second.count("reconciled") == 0

            first.process.terminate()
            first.process.wait()
            eventually(lambda: second.count("reconciled") >= 1)
            assert httpx.get(f"http://127.0.0.1:{unused_tcp_port}/readyz").status_code == 200
