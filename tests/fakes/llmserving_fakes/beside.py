"""The agent's real process beside a real server under a load; the same on a card and on the simulated one."""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from llmserving_api.policy import AskedLimits, Target, Targets
from llmserving_api.status import AgentStatus
from llmserving_fakes.documents import make_policy
from llmserving_lab.serving.agent import AgentProcess, Usage
from llmserving_lab.serving.server import VLLMServer
from llmserving_lab.traces.arrival import Arrival
from llmserving_lab.traffic.client import Endpoint, send_load
from llmserving_lab.traffic.record import RequestRecord

POLICY = make_policy(
    name="check",
    sla=Targets(inter_token_latency=Target(percentile=95, target_seconds=0.05)),
    max_num_seqs=AskedLimits(min=8, max=64),
    max_num_batched_tokens=AskedLimits(min=256, max=1024),
)


@dataclass(frozen=True, slots=True)
class Beside:
    """What the agent used while the load was served, what it said at the end, and what clients got."""

    usage: Usage
    status: AgentStatus
    records: list[RequestRecord]


def agent_under_load(
    server: VLLMServer, folder: Path, environment: Mapping[str, str], load: list[Arrival], *, start_seconds: float = 0.0
) -> Beside:
    """Serve a load with an agent beside; the first `start_seconds` of the agent are not measured."""
    records: list[RequestRecord] = []
    with AgentProcess(server, folder, POLICY, environment) as agent:
        time.sleep(start_seconds)
        agent.start_measuring()
        asyncio.run(send_load(load, Endpoint(server.url, "m"), records.append, start=time.monotonic()))
        return Beside(agent.usage(), agent.status(), records)
