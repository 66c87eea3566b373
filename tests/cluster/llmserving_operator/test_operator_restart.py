"""A restarted or upgraded operator changes nothing; of two, one acts."""

from collections.abc import Callable
from typing import Any

Eventually = Callable[..., Any]
EVERYTHING = "llms,deployment,service,configmap,serviceaccount,networkpolicy,poddisruptionbudget,controllerrevision,replicaset,pod"


def versions(kubectl: Any) -> dict[str, str]:
    return {
        f"{body['kind']}/{body['metadata']['name']}": body["metadata"]["resourceVersion"]
        for body in kubectl.list(EVERYTHING)
    }


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


def reconciled(log: str) -> bool:
    return "leading" in log


def test_a_second_operator_changes_no_resource_version(
    own: Any,
    start_operator: Callable[..., Any],
    new_resource: Callable[..., Any],
    eventually: Eventually,
    make_ready: Callable[..., Any],
    agent_for: Callable[[int], dict[str, Any]],
) -> None:
    resource = new_resource()
    name = resource["metadata"]["name"]
    with start_operator(lease_namespace=""):
        own.apply(resource)
        (pod,) = eventually(lambda: own.list("pods"))
        make_ready(own, pod["metadata"]["name"], agent_for(1))
        eventually(lambda: condition(own.get("llms", name), "TuningActive").get("status") == "True")
        before = settle(own, eventually)

    with start_operator(lease_namespace=""):
        own.run("annotate", "llms", name, "looked=again")  # a reconcile after the first, on full memory
        eventually(lambda: own.get("llms", name)["metadata"]["annotations"]["looked"])
        after = settle(own, eventually)

    changed = {key for key in before if before[key] != after[key]}
    assert changed == {f"LLMServing/{name}"}  # by the annotation
    assert before.keys() == after.keys()
