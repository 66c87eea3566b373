"""A dead or crash-looping agent never takes its engine out of service."""

import time
from pathlib import Path

from llmserving_lab.demo.serving import Serving, eventually, finished_load, restarts, steady_load

CRASH_LOOP = """
import os, signal, time
def parent(pid):
    with open(f"/proc/{pid}/stat") as stat:
        return int(stat.read().rpartition(")")[2].split()[1])
killed, end = 0, time.monotonic() + SECONDS
while time.monotonic() < end:
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            if parent(pid) == 1:
                os.kill(int(pid), signal.SIGKILL)
                killed += 1
        except (FileNotFoundError, ProcessLookupError):
            pass
    time.sleep(0.3)
print(killed)
"""


def pod_is_ready(serving: Serving) -> bool:
    conditions = serving.pod()["status"]["conditions"]
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)


def test_requests_go_on_while_the_agent_crashes_again_and_again(chat: Serving, tmp_path: Path) -> None:
    restarts_before = restarts(chat.pod())
    load = chat.start_load(steady_load(rate=4, seconds=15), tmp_path)
    killed = int(chat.execute("agent", CRASH_LOOP.replace("SECONDS", "10")))
    assert killed >= 2
    assert pod_is_ready(chat)
    records = finished_load(load)
    assert [record.error for record in records if not record.completed] == []
    assert pod_is_ready(chat)
    assert restarts(chat.pod()) == restarts_before


def test_an_agent_that_comes_back_catches_up_with_edits_it_missed(chat: Serving) -> None:
    assert int(chat.execute("agent", CRASH_LOOP.replace("SECONDS", "1"))) >= 1
    generation = chat.patch({"sla": {"interTokenLatency": {"target": "77ms"}}})
    chat.wait_applied(generation)
    chat.wait_applied(chat.patch({"sla": {"interTokenLatency": {"target": "100ms"}}}))
    time.sleep(1)
    eventually("the resource is Ready", chat.is_ready)
