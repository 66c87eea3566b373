"""The whole operator with the real kopf, against an API server that loses deletions and forbids namespaces."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest
from kubernetes.aio.client import Configuration
from prometheus_client import CollectorRegistry

from llmserving_api import names, series
from llmserving_fakes.api_server import ApiServer
from llmserving_operator import survey
from llmserving_operator.__main__ import Operator
from llmserving_operator.kube.client import Kube
from llmserving_operator.kube.connection import Connection
from llmserving_operator.settings import Settings

PATIENCE_SECONDS = 60.0
CHILDREN = 7
KEY = ("prod", "chat")
NEXT = {"name": "next", "namespace": "prod", "uid": "uid-next", "generation": 1}


def resource(uid: str, created: str, spec: dict[str, Any], namespace: str = "prod") -> dict[str, Any]:
    meta = {"name": "chat", "namespace": namespace, "uid": uid, "generation": 1, "creationTimestamp": created}
    return {"apiVersion": names.API_VERSION, "kind": names.KIND, "metadata": meta, "spec": spec}


def pod() -> dict[str, Any]:
    labels = {names.LABEL_RESOURCE: "chat", names.LABEL_MANAGED_BY: names.FIELD_MANAGER}
    owner = {"kind": "ReplicaSet", "name": "rs", "uid": "rs", "controller": True}
    meta = {"name": "chat-a", "namespace": "prod", "uid": "uid-pod", "labels": labels, "ownerReferences": [owner]}
    status = {"phase": "Running", "podIP": "127.0.0.1", "conditions": [{"type": "Ready", "status": "True"}]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "status": status}


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not true():
            await asyncio.sleep(0.02)


@pytest.fixture
def server(make_spec: Callable[..., Any]) -> ApiServer:
    found = ApiServer()
    spec = make_spec().model_dump(mode="json", by_alias=True, exclude_none=True)
    found.put("llmservings", resource("uid-old", "2026-01-01T00:00:00Z", spec))
    return found


@asynccontextmanager
async def operating(
    server: ApiServer, *namespaces: str, registry: CollectorRegistry | None = None
) -> AsyncIterator[Operator]:
    """An operator that has made its children."""
    async with server.running() as address:
        connection = Connection(Configuration(host=address))
        async with connection.client() as client:
            settings = Settings(agent_image="a:1", namespaces=namespaces or ("prod",))
            operator = Operator(settings, Kube(client), registry or CollectorRegistry())
            running = asyncio.create_task(operator.run(asyncio.Event(), connection))
            try:
                await until(lambda: "status" in server.objects["llmservings", *KEY])
                await until(lambda: len(list(operator.cluster.children(KEY))) == CHILDREN)
                yield operator
                assert not running.done()
            finally:
                running.cancel()  # when told to stop, kopf waits 5 s for the server's tasks in the same loop
                await asyncio.wait({running}, timeout=PATIENCE_SECONDS)


async def test_a_resource_whose_deletion_was_missed_is_given_no_children(server: ApiServer) -> None:
    async with operating(server) as operator:
        server.delete("llmservings", *KEY, told=False)
        server.cut("llmservings")
        server.applied.clear()
        server.collect_garbage()

        await until(lambda: operator.cluster.resource(KEY) is None)
        await until(lambda: not list(operator.cluster.children(KEY)))
        assert server.applied == []
        assert server.objects == {}


async def test_a_resource_made_anew_is_served_and_its_predecessor_is_not(server: ApiServer) -> None:
    async with operating(server) as operator:
        spec = server.objects["llmservings", *KEY]["spec"]
        server.delete("llmservings", *KEY, told=False)
        server.put("llmservings", resource("uid-new", "2026-01-02T00:00:00Z", spec), told=False)
        server.cut("llmservings")
        server.collect_garbage()

        await until(lambda: len({plural for plural, uid in server.applied if uid == "uid-new"}) == CHILDREN)
        found = operator.cluster.resource(KEY)
        assert found is not None
        assert found["metadata"]["uid"] == "uid-new"
        server.collect_garbage()
        assert len(server.objects) == 1 + CHILDREN


async def test_a_pod_whose_deletion_was_missed_is_counted_no_longer(
    server: ApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(survey, "SURVEY_SECONDS", 0.2)
    server.put("pods", pod())
    async with operating(server):
        await until(lambda: server.objects["llmservings", *KEY]["status"]["readyReplicas"] == 1)
        server.delete("pods", "prod", "chat-a", told=False)
        server.cut("pods")

        await until(lambda: server.objects["llmservings", *KEY]["status"]["readyReplicas"] == 0)


def children_in(server: ApiServer, namespace: str) -> int:
    return sum(where == namespace and plural != "llmservings" for plural, where, _ in server.objects)


async def test_a_namespace_that_may_not_be_read_is_left_out_until_it_may(
    server: ApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(survey, "SURVEY_SECONDS", 0.2)
    spec = server.objects["llmservings", *KEY]["spec"]
    server.put("llmservings", resource("uid-other", "2026-01-01T00:00:00Z", spec, "other"))
    server.forbidden.add("other")
    async with operating(server, "prod", "other") as operator:
        assert children_in(server, "other") == 0

        server.forbidden.clear()
        await until(lambda: children_in(server, "other") == CHILDREN)
        assert operator.ready


async def test_losing_a_namespace_does_not_end_the_others(server: ApiServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(survey, "SURVEY_SECONDS", 0.2)
    spec = server.objects["llmservings", *KEY]["spec"]
    registry = CollectorRegistry()
    async with operating(server, "prod", "other", registry=registry) as operator:
        server.forbidden.add("other")

        left_out = partial(registry.get_sample_value, series.OPERATOR_NAMESPACE_FORBIDDEN.name)
        await until(lambda: left_out({"namespace": "other"}) == 1)
        assert left_out({"namespace": "prod"}) == 0
        await until(lambda: operator.ready and operator.cluster.resource(KEY) is not None)
        server.put("llmservings", resource("uid-next", "2026-01-02T00:00:00Z", spec) | {"metadata": NEXT})
        await until(lambda: ("deployments", "uid-next") in server.applied)


async def test_where_no_namespace_may_be_read_nothing_else_is_until_told_to_stop(server: ApiServer) -> None:
    server.forbidden.add("prod")
    registry = CollectorRegistry()
    async with server.running() as address:
        connection = Connection(Configuration(host=address))
        async with connection.client() as client:
            operator = Operator(Settings(agent_image="a:1", namespaces=("prod",)), Kube(client), registry)
            stop = asyncio.Event()
            running = asyncio.create_task(operator.run(stop, connection))
            left_out = partial(registry.get_sample_value, series.OPERATOR_NAMESPACE_FORBIDDEN.name)
            await until(lambda: left_out({"namespace": "prod"}) == 1)
            assert not operator.ready
            stop.set()
            await running

    assert not operator.watching.is_set()
    assert server.applied == []
