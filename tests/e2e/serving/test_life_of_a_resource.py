"""Scaling, an edit that restarts, a crash of the engine and a restart of the operator, under load on a real kubelet."""

import json
from pathlib import Path
from typing import Any

import pytest

from llmserving_api.names import LABEL_RESOURCE
from llmserving_lab.demo.serving import Serving, eventually, finished_load, restarts, steady_load
from llmserving_lab.demo.settings import NAMESPACE
from llmserving_lab.demo.site import EmbeddedSite

KILL_ENGINE_CORE = """
import os, signal
for pid in filter(str.isdigit, os.listdir("/proc")):
    try:
        with open(f"/proc/{pid}/cmdline") as line:
            if line.read().startswith("VLLM::EngineCore"):
                os.kill(int(pid), signal.SIGKILL)
                print(pid)
    except (FileNotFoundError, ProcessLookupError):
        pass
"""


def pods(site: EmbeddedSite, name: str) -> dict[str, dict[str, Any]]:
    """Ready pods of a resource by uid."""
    found = site.objects("pods", NAMESPACE, f"{LABEL_RESOURCE}={name}")
    return {
        pod["metadata"]["uid"]: pod
        for pod in found
        if "deletionTimestamp" not in pod["metadata"]
        and any(one["type"] == "Ready" and one["status"] == "True" for one in pod["status"].get("conditions", ()))
    }


def ceilings(pod: dict[str, Any]) -> str:
    (engine,) = [one for one in pod["spec"]["containers"] if one["name"] == "engine"]
    return json.dumps(engine["args"])


@pytest.mark.timeout(600)
def test_scaled_out_and_rolled_to_new_ceilings_no_request_is_lost(
    chat: Serving, site: EmbeddedSite, tmp_path: Path
) -> None:
    (first,) = pods(site, "chat")
    site.kubectl("scale", "llms/chat", "--replicas=2")
    eventually("two engines are Ready", lambda: len(pods(site, "chat")) == 2, seconds=180)
    assert first in pods(site, "chat")
    before = set(pods(site, "chat"))

    load = chat.start_load(steady_load(rate=2, seconds=110), tmp_path)
    chat.patch({"batching": {"maxNumSeqs": {"max": 240}}})

    def rolled() -> bool:
        now = pods(site, "chat")
        return len(now) == 2 and not before & set(now)

    eventually("both engines are replaced", rolled, seconds=240)
    assert all("--max-num-seqs=240" in ceilings(pod) for pod in pods(site, "chat").values())
    assert [record.error for record in finished_load(load) if not record.completed] == []

    site.kubectl("scale", "llms/chat", "--replicas=1")
    eventually("one engine is left", lambda: len(pods(site, "chat")) == 1, seconds=120)
    eventually(
        "nothing of the other is left",
        lambda: len(site.objects("pods", NAMESPACE, f"{LABEL_RESOURCE}=chat")) == 1,
        seconds=120,
    )


@pytest.mark.timeout(300)
def test_an_engine_that_crashed_is_started_again_and_obeys_the_same_targets(chat: Serving) -> None:
    chat.wait_applied(chat.patch({"sla": {"interTokenLatency": {"target": "90ms"}}}))
    uid, count = chat.pod()["metadata"]["uid"], restarts(chat.pod())
    assert chat.execute("engine", KILL_ENGINE_CORE).strip()

    eventually("the engine's container is started again", lambda: restarts(chat.pod()) == count + 1, seconds=120)
    eventually("the resource is Ready", chat.is_ready, seconds=180)
    assert chat.pod()["metadata"]["uid"] == uid
    status = chat.wait_applied(chat.patch({"sla": {"interTokenLatency": {"target": "100ms"}}}))
    assert status.engines[0].reachable


@pytest.mark.timeout(180)
def test_a_new_operator_changes_nothing_and_goes_on_with_edits(chat: Serving, site: EmbeddedSite) -> None:
    uid, count = chat.pod()["metadata"]["uid"], restarts(chat.pod())
    deployment = ("get", "deployment", "chat", f"--namespace={NAMESPACE}", "--output=jsonpath={.metadata.generation}")
    generation = site.kubectl(*deployment)
    site.kubectl("delete", "pod", "--namespace=llmserving-system", "--all", "--wait=true")

    chat.wait_applied(chat.patch({"sla": {"interTokenLatency": {"target": "70ms"}}}))
    chat.wait_applied(chat.patch({"sla": {"interTokenLatency": {"target": "100ms"}}}))
    assert site.kubectl(*deployment) == generation
    assert (chat.pod()["metadata"]["uid"], restarts(chat.pod())) == (uid, count)
