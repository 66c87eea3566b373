"""What the resource says of its engines, from real agents' answers over HTTP."""

import time
from collections.abc import Callable
from typing import Any

Eventually = Callable[..., Any]
Resource = dict[str, Any]


def condition(resource: Resource, kind: str) -> Resource:
    found = [c for c in resource.get("status", {}).get("conditions", ()) if c["type"] == kind]
    return found[0] if found else {}


def start(kubectl: Any, resource: Resource, eventually: Eventually, play: Callable[..., Any], status: Resource) -> Any:
    """Apply a resource of one pod, make the pod ready with an agent of that status."""
    kubectl.apply(resource)
    name = resource["metadata"]["name"]
    (pod,) = eventually(lambda: kubectl.list("pods", f"llmserving.io/name={name}"))
    return play(kubectl, pod["metadata"]["name"], status)


def test_latencies_bounds_and_conditions_come_from_the_agents(
    kubectl: Any,
    new_resource: Callable[..., Any],
    eventually: Eventually,
    make_ready: Callable[..., Any],
    agent_for: Callable[..., Resource],
) -> None:
    resource = new_resource()
    name = resource["metadata"]["name"]
    start(kubectl, resource, eventually, make_ready, agent_for(1))

    eventually(lambda: condition(kubectl.get("llms", name), "SLAMet").get("status") == "True")
    eventually(lambda: condition(kubectl.get("llms", name), "TuningActive").get("reason") == "Tuning")
    found = kubectl.get("llms", name)
    assert condition(found, "Ready")["status"] == "True"
    assert condition(found, "AgentsConnected")["status"] == "True"
    assert condition(found, "GPUTelemetryAvailable")["reason"] == "NVML"
    assert found["status"]["sla"] == {
        "timeToFirstToken": {"observed": "110ms", "target": "2s", "met": True},
        "interTokenLatency": {"observed": "35ms", "target": "50ms", "met": True},
        "attainment": "99.0%",
    }
    assert found["status"]["batching"]["maxNumSeqs"] == "64"
    (engine,) = found["status"]["engines"]
    assert (engine["rank"], engine["reachable"], engine["policyRevision"]) == (0, True, 1)
    row = kubectl.run("get", "llms", name, "--no-headers").split()
    assert row[:7] == [name, "hf://Qwen/Qwen2.5-7B-Instruct", "True", "1", "110ms", "35ms", "True"]


def test_a_missed_target_is_said_at_once(
    kubectl: Any,
    new_resource: Callable[..., Any],
    eventually: Eventually,
    make_ready: Callable[..., Any],
    agent_for: Callable[..., Resource],
) -> None:
    resource = new_resource(sla={"interTokenLatency": {"target": "20ms"}})
    name = resource["metadata"]["name"]
    start(kubectl, resource, eventually, make_ready, agent_for(1))

    eventually(lambda: condition(kubectl.get("llms", name), "SLAMet").get("reason") == "TargetMissed")
    found = condition(kubectl.get("llms", name), "SLAMet")
    assert (found["status"], found["message"]) == ("False", "interTokenLatency 35ms at p95, target 20ms")


def test_an_image_without_the_contract_is_served_but_not_tuned(
    kubectl: Any,
    new_resource: Callable[..., Any],
    eventually: Eventually,
    make_ready: Callable[..., Any],
    agent_for: Callable[..., Resource],
) -> None:
    resource = new_resource()
    name = resource["metadata"]["name"]
    contract = {"mode": "observe", "ok": False, "reason": "vLLM 0.20: the scheduler has no max_num_running_reqs"}
    start(kubectl, resource, eventually, make_ready, agent_for(1, contract=contract))

    eventually(lambda: condition(kubectl.get("llms", name), "TuningActive").get("reason") == "EngineUnsupported")
    found = kubectl.get("llms", name)
    assert "vLLM 0.20" in condition(found, "TuningActive")["message"]
    assert condition(found, "Ready")["status"] == "True"


def test_a_silent_agent_is_said_and_the_engine_stays_ready(
    kubectl: Any,
    new_resource: Callable[..., Any],
    eventually: Eventually,
    make_ready: Callable[..., Any],
    agent_for: Callable[..., Resource],
) -> None:
    resource = new_resource()
    name = resource["metadata"]["name"]
    agent = start(kubectl, resource, eventually, make_ready, agent_for(1))
    eventually(lambda: condition(kubectl.get("llms", name), "AgentsConnected").get("status") == "True")

    agent.stop()

    eventually(lambda: condition(kubectl.get("llms", name), "AgentsConnected").get("status") == "False")
    found = kubectl.get("llms", name)
    assert condition(found, "Ready")["status"] == "True"
    assert condition(found, "TuningActive")["reason"] == "AgentUnreachable"


def test_a_pod_whose_agent_lags_is_patched_again(
    kubectl: Any,
    new_resource: Callable[..., Any],
    eventually: Eventually,
    make_ready: Callable[..., Any],
    agent_for: Callable[..., Resource],
) -> None:
    resource = new_resource()
    name = resource["metadata"]["name"]
    agent = start(kubectl, resource, eventually, make_ready, agent_for(1))
    eventually(lambda: condition(kubectl.get("llms", name), "TuningActive").get("status") == "True")
    kubectl.patch("llms", name, {"spec": {"sla": {"timeToFirstToken": {"target": "1s"}}}})

    def attempts() -> str | None:
        (pod,) = kubectl.list("pods", f"llmserving.io/name={name}")
        found: str | None = pod["metadata"]["annotations"].get("llmserving.io/policy-attempt")
        return found

    eventually(lambda: condition(kubectl.get("llms", name), "TuningActive").get("reason") == "PolicyOnItsWay")
    eventually(lambda: attempts() == "1")
    agent.status = agent_for(2)
    eventually(lambda: condition(kubectl.get("llms", name), "TuningActive").get("status") == "True")
    assert kubectl.get("llms", name)["status"]["engines"][0]["policyRevision"] == 2


def test_changing_latencies_alone_are_not_written_all_the_time(
    kubectl: Any,
    new_resource: Callable[..., Any],
    eventually: Eventually,
    make_ready: Callable[..., Any],
    agent_for: Callable[..., Resource],
) -> None:
    resource = new_resource()
    name = resource["metadata"]["name"]
    agent = start(kubectl, resource, eventually, make_ready, agent_for(1))
    eventually(lambda: condition(kubectl.get("llms", name), "Progressing").get("status") == "False")
    eventually(lambda: condition(kubectl.get("llms", name), "TuningActive").get("status") == "True")
    before = kubectl.get("llms", name)["metadata"]["resourceVersion"]

    for seqs in range(10):
        bounds = {"max_num_seqs": 10 + seqs, "max_num_batched_tokens": 2048}
        agent.status = agent_for(1, applied=bounds, requested=bounds, effective=bounds)
        time.sleep(0.4)

    assert kubectl.get("llms", name)["metadata"]["resourceVersion"] == before
