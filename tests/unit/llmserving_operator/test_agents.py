import asyncio
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from llmserving_api.status import AgentStatus
from llmserving_operator.agents import AgentPoller
from llmserving_operator.observe import Pod, Report

InVirtualTime = Callable[..., Any]
MakePod = Callable[..., Pod]
MakeAgent = Callable[..., AgentStatus]
KEY = ("prod", "chat")


class Agents:
    """Agents by address, and who was asked when."""

    def __init__(self, answers: dict[str, Any]) -> None:
        self.answers = answers
        self.asked: list[tuple[str, float]] = []
        self.news: list[float] = []

    async def answer(self, request: httpx.Request) -> httpx.Response:
        now = asyncio.get_running_loop().time()
        self.asked.append((str(request.url), round(now, 3)))
        answer = self.answers[request.url.host]
        if isinstance(answer, AgentStatus):
            return httpx.Response(200, content=answer.model_dump_json())
        if isinstance(answer, httpx.Response):
            return answer
        raise answer

    async def run(self, poller: AgentPoller, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        task = asyncio.create_task(poller.run(lambda _key: self.news.append(round(loop.time(), 3))))
        await asyncio.sleep(seconds)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    def poller(self) -> AgentPoller:
        return AgentPoller(httpx.AsyncClient(transport=httpx.MockTransport(self.answer)))


def test_asks_running_pods_at_their_address(
    in_virtual_time: InVirtualTime, make_pod: MakePod, make_agent: MakeAgent
) -> None:
    agents = Agents({"10.0.0.1": make_agent(), "fd00::1": make_agent()})
    pods = (
        make_pod("a"),
        make_pod("b", ip="fd00::1"),
        make_pod("c", ip=None),
        make_pod("d", running=False),
        make_pod("e", terminating=True),
    )

    async def scenario() -> dict[str, Report]:
        poller = agents.poller()
        poller.watch(KEY, pods, 1.0)
        await agents.run(poller, 0.5)
        return dict(poller.reports(pods))

    reports = in_virtual_time(scenario())

    assert {url for url, _ in agents.asked} == {"http://10.0.0.1:9410/v1/status", "http://[fd00::1]:9410/v1/status"}
    assert reports.keys() == {"uid-a", "uid-b"}
    assert reports["uid-a"].status == make_agent()


def test_asks_as_often_as_it_is_told_and_at_once_when_that_rises(
    in_virtual_time: InVirtualTime, make_pod: MakePod, make_agent: MakeAgent
) -> None:
    agents = Agents({"10.0.0.1": make_agent()})

    async def scenario() -> None:
        poller = agents.poller()
        poller.watch(KEY, (make_pod("a"),), 10.0)
        asyncio.get_running_loop().call_later(3.05, poller.watch, KEY, (make_pod("a"),), 1.0)
        await agents.run(poller, 5.5)

    in_virtual_time(scenario())

    assert [when for _, when in agents.asked] == pytest.approx([0, 3.1, 4.1, 5.1], abs=0.11)


def test_what_was_said_before_the_pod_was_ready_is_asked_again(
    in_virtual_time: InVirtualTime, make_pod: MakePod, make_agent: MakeAgent
) -> None:
    """The engine was starting; its agent's complaint about it is out of date."""
    agents = Agents({"10.0.0.1": make_agent(engine={"reachable": False})})
    before, after = (make_pod("a", ready=False),), (make_pod("a"),)
    known: list[bool] = []

    async def scenario() -> dict[str, Report]:
        poller = agents.poller()
        poller.watch(KEY, before, 10.0)

        def becomes_ready() -> None:
            agents.answers["10.0.0.1"] = make_agent()
            poller.watch(KEY, after, 10.0)
            known.append("uid-a" in poller.reports(after))

        asyncio.get_running_loop().call_later(2.0, becomes_ready)
        await agents.run(poller, 3.0)
        return dict(poller.reports(after))

    assert in_virtual_time(scenario())["uid-a"].status == make_agent()
    assert known == [False]


def test_news_are_told_once_and_latencies_are_no_news(
    in_virtual_time: InVirtualTime, make_pod: MakePod, make_agent: MakeAgent
) -> None:
    agents = Agents({"10.0.0.1": make_agent()})

    async def scenario() -> None:
        poller = agents.poller()
        poller.watch(KEY, (make_pod("a"),), 1.0)
        loop = asyncio.get_running_loop()
        loop.call_later(2.5, agents.answers.update, {"10.0.0.1": make_agent(latency={"requests": 5})})
        loop.call_later(4.5, agents.answers.update, {"10.0.0.1": make_agent(policy_revision=4)})
        await agents.run(poller, 8)

    in_virtual_time(scenario())

    assert agents.news == pytest.approx([0, 5], abs=0.3)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (httpx.ConnectError("connection refused"), "no answer from the agent: connection refused"),
        (httpx.ReadTimeout(""), "no answer from the agent: ReadTimeout"),
        (httpx.Response(503), "the agent answered 503"),
        (httpx.Response(200, content=b"{}"), "the agent's status is not understood: agent_version: Field required"),
        (httpx.Response(200, content=b"<html>"), "the agent's status is not understood"),
        (httpx.Response(200, content=b" " * (2 << 20)), "the agent's status is not understood"),
        (TimeoutError(), "no answer from the agent within 2 s"),
    ],
)
def test_a_silent_agent_says_why(answer: Any, words: str, in_virtual_time: InVirtualTime, make_pod: MakePod) -> None:
    agents = Agents({"10.0.0.1": answer})

    async def scenario() -> dict[str, Report]:
        poller = agents.poller()
        poller.watch(KEY, (make_pod("a"),), 1.0)
        await agents.run(poller, 2.5)
        return dict(poller.reports((make_pod("a"),)))

    report = in_virtual_time(scenario())["uid-a"]

    assert report.status is None
    assert words in report.error


def test_one_lost_answer_is_forgiven_three_are_not(
    in_virtual_time: InVirtualTime, make_pod: MakePod, make_agent: MakeAgent
) -> None:
    agents = Agents({"10.0.0.1": make_agent()})
    found: list[bool] = []

    async def scenario() -> None:
        poller = agents.poller()
        pods = (make_pod("a"),)
        poller.watch(KEY, pods, 1.0)
        loop = asyncio.get_running_loop()
        loop.call_later(0.5, agents.answers.update, {"10.0.0.1": httpx.ConnectError("refused")})
        for when in (2.5, 4.5):
            loop.call_later(when, lambda: found.append(poller.reports(pods)["uid-a"].status is not None))
        await agents.run(poller, 5)

    in_virtual_time(scenario())

    assert found == [True, False]


def test_of_an_agent_that_was_not_heard_yet_one_lost_answer_is_no_news(
    in_virtual_time: InVirtualTime, make_pod: MakePod, make_agent: MakeAgent
) -> None:
    """After a restart of the operator, what was known before stays in the status meanwhile."""
    agents = Agents({"10.0.0.1": httpx.ConnectError("refused")})
    pods = (make_pod("a"),)
    known: list[bool] = []

    async def scenario() -> dict[str, Report]:
        poller = agents.poller()
        poller.watch(KEY, pods, 1.0)
        loop = asyncio.get_running_loop()
        loop.call_later(1.5, lambda: known.append("uid-a" in poller.reports(pods)))
        loop.call_later(1.6, agents.answers.update, {"10.0.0.1": make_agent()})
        await agents.run(poller, 2.5)
        return dict(poller.reports(pods))

    assert in_virtual_time(scenario())["uid-a"].status == make_agent()
    assert known == [False]
    assert agents.news == pytest.approx([2], abs=0.3)


def test_pods_that_are_gone_are_forgotten(
    in_virtual_time: InVirtualTime, make_pod: MakePod, make_agent: MakeAgent
) -> None:
    agents = Agents({"10.0.0.1": make_agent()})

    async def scenario() -> dict[str, Report]:
        poller = agents.poller()
        poller.watch(KEY, (make_pod("a"),), 1.0)
        asyncio.get_running_loop().call_later(1.5, poller.watch, KEY, (), 1.0)
        await agents.run(poller, 5)
        return dict(poller.reports((make_pod("a"),)))

    assert in_virtual_time(scenario()) == {}
    assert len(agents.asked) == 2
