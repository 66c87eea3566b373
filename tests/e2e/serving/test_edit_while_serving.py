"""The main job: an edit reaches the running engine; no request is lost, nothing restarts, and deletion leaves nothing."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from llmserving_api.policy import DEFAULT_LAW, LawName, Mode
from llmserving_lab.demo.serving import Manifest, Serving, eventually, finished_load, restarts, steady_load
from llmserving_lab.demo.site import EmbeddedSite

CONTROL_FILES = """
import json, os, stat
folder = "/run/llmserving"
modes = {name: oct(stat.S_IMODE(os.stat(f"{folder}/{name}").st_mode)) for name in os.listdir(folder)}
print(json.dumps({"user": os.getuid(), "modes": modes}))
"""
CHILDREN = "all,configmaps,serviceaccounts,controllerrevisions,networkpolicies,poddisruptionbudgets"


def test_edits_under_load_reach_the_engine_and_lose_no_request(chat: Serving, tmp_path: Path) -> None:
    before = chat.pod()
    load = chat.start_load(steady_load(rate=4, seconds=25), tmp_path)
    tight = chat.wait_applied(chat.patch({"sla": {"interTokenLatency": {"target": "25ms"}}}))
    assert tight.engines[0].applied is not None
    assert tight.law is DEFAULT_LAW
    advice = chat.wait_applied(chat.patch({"batching": {"mode": "Advise"}}))
    assert advice.mode is Mode.ADVISE
    static = chat.wait_applied(chat.patch({"batching": {"mode": "Auto", "policy": "Static"}}))
    assert (static.mode, static.law) == (Mode.AUTO, LawName.STATIC)
    chat.wait_applied(
        chat.patch({"batching": {"policy": "Predictive"}, "sla": {"interTokenLatency": {"target": "100ms"}}})
    )
    records = finished_load(load)
    assert len(records) == 100
    assert [record.error for record in records if not record.completed] == []
    after = chat.pod()
    assert after["metadata"]["uid"] == before["metadata"]["uid"]
    assert restarts(after) == 0


def test_switched_off_the_engine_runs_with_what_stock_vllm_takes_on_the_card(chat: Serving) -> None:
    status = chat.wait_applied(chat.patch({"batching": {"mode": "Off"}}))
    applied = status.engines[0].applied
    assert applied is not None
    assert (applied.max_num_seqs, applied.max_num_batched_tokens) == (256, 8192)
    chat.wait_applied(chat.patch({"batching": {"mode": "Auto"}}))


def test_gpu_facts_come_through_nvml(chat: Serving) -> None:
    def seen() -> str | None:
        status = chat.agent()
        return status.gpu.devices[0].name if status is not None and status.gpu.devices else None

    assert "RTX PRO 6000" in eventually("GPU facts", seen)
    status = chat.agent()
    assert status is not None
    assert status.gpu.source == "nvml"


def test_an_engine_of_an_ordinary_user_shares_its_socket_with_the_agent_alone(chat: Serving) -> None:
    seen = json.loads(chat.execute("engine", CONTROL_FILES))
    assert seen["user"] == 65532
    assert seen["modes"]["engine-0.sock"] == "0o660"


@pytest.fixture
def rooted(apply: Callable[[str, Manifest], Serving], manifest: Manifest, site: EmbeddedSite) -> Serving:
    """An engine that runs as root, as vLLM's own image does."""
    (engine,) = manifest["spec"]["template"]["spec"]["containers"]
    template = {
        **manifest["spec"]["template"]["spec"],
        "containers": [{**engine, "securityContext": {"runAsUser": 0}}],
    }
    spec = {**manifest["spec"], "template": {"spec": template}}
    serving = apply("rooted", {**manifest, "spec": spec})
    serving.wait_ready()
    return serving


@pytest.mark.timeout(420)
def test_an_engine_of_root_obeys_too_and_its_deletion_leaves_nothing(rooted: Serving, site: EmbeddedSite) -> None:
    seen = json.loads(rooted.execute("engine", CONTROL_FILES))
    assert seen["user"] == 0
    assert seen["modes"]["engine-0.sock"] == "0o660"
    rooted.wait_applied(rooted.patch({"sla": {"interTokenLatency": {"target": "40ms"}}}))

    site.kubectl("delete", "llmserving", "rooted", "--wait=false")

    def left() -> list[str]:
        names = site.kubectl("get", CHILDREN, "--selector=llmserving.io/name=rooted", "--output=name")
        return names.split()

    eventually("nothing left of the resource", lambda: not left(), seconds=150)
