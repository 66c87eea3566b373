"""Calls as an API server sees them, and what its answers become."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from kubernetes.aio.client import ApiClient, Configuration

from llmserving_fakes import api_server as fakes
from llmserving_operator.children.identity import ChildKey, Identity
from llmserving_operator.children.service import build_service
from llmserving_operator.errors import ConflictError, KubeError, NotFoundError, RejectedError
from llmserving_operator.kube.client import Kube


class ApiServer:
    """Answers every request with the same status; keeps what was asked."""

    def __init__(self) -> None:
        self.status = 200
        self.message = "because"
        self.words = ""
        self.asked: list[tuple[str, str, str, Any]] = []

    async def answer(self, request: web.Request) -> web.Response:
        body = await request.json() if request.can_read_body else None
        self.asked.append((request.method, request.path_qs, request.content_type, body))
        if self.words:
            return web.Response(status=self.status, text=self.words)
        document = {"message": self.message} if self.status >= 400 else {"metadata": {"name": "x"}}
        return web.json_response(document, status=self.status)


@pytest.fixture
def server() -> ApiServer:
    return ApiServer()


@pytest.fixture
async def kube(server: ApiServer) -> AsyncIterator[Kube]:
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", server.answer)
    async with TestServer(app) as running, ApiClient(Configuration(host=str(running.make_url("")))) as client:
        yield Kube(client)


async def test_apply_is_server_side_forced_and_ours(kube: Kube, server: ApiServer, owner: Identity) -> None:
    manifest = build_service(owner, by_uid=True)
    await kube.apply(manifest)

    ((method, path, content_type, body),) = server.asked
    assert (method, content_type) == ("PATCH", "application/apply-patch+yaml")
    assert path == "/api/v1/namespaces/prod/services/chat?fieldManager=llmserving-operator&force=true"
    assert body == manifest


async def test_a_status_is_applied_to_this_very_resource(kube: Kube, server: ApiServer) -> None:
    await kube.apply_status("prod", "chat", "uid-1", {"replicas": 1})

    ((_, path, _, body),) = server.asked
    assert path.startswith("/apis/llmserving.io/v1alpha1/namespaces/prod/llmservings/chat/status?")
    assert body["metadata"]["uid"] == "uid-1"


async def test_a_policy_is_merged_into_this_very_pod(kube: Kube, server: ApiServer) -> None:
    await kube.deliver_policy("prod", "chat-a", "uid-a", "{}", 0)
    await kube.deliver_policy("prod", "chat-a", "uid-a", "{}", 2)

    (_, path, content_type, first), (_, _, _, second) = server.asked
    assert path.startswith("/api/v1/namespaces/prod/pods/chat-a?")
    assert content_type == "application/merge-patch+json"
    assert first["metadata"] == {
        "uid": "uid-a",
        "annotations": {"llmserving.io/policy": "{}", "llmserving.io/policy-attempt": None},
    }
    assert second["metadata"]["annotations"]["llmserving.io/policy-attempt"] == "2"


async def test_only_this_very_object_is_deleted(kube: Kube, server: ApiServer) -> None:
    await kube.delete("prod", ChildKey("ControllerRevision", "chat-1"), "uid-r")

    ((method, path, _, body),) = server.asked
    assert (method, path) == ("DELETE", "/apis/apps/v1/namespaces/prod/controllerrevisions/chat-1")
    assert body["preconditions"] == {"uid": "uid-r"}


@pytest.mark.parametrize(
    ("status", "message", "kind"),
    [
        (400, "because", RejectedError),
        (403, "because", RejectedError),
        (404, "because", NotFoundError),
        (409, "because", ConflictError),
        (422, "because", RejectedError),
        (429, "because", KubeError),
        (500, "because", KubeError),
        (500, "failed to create typed patch object (x): expected list", RejectedError),
    ],
)
async def test_a_refusal_says_what_was_refused_and_whether_to_try_again(
    status: int, message: str, kind: type[KubeError], kube: Kube, server: ApiServer, owner: Identity
) -> None:
    server.status, server.message = status, message

    with pytest.raises(KubeError) as caught:
        await kube.apply(build_service(owner, by_uid=True))

    assert type(caught.value) is kind
    assert str(caught.value) == f"PATCH Service prod/chat: {message}"


async def test_what_is_not_there_is_none_and_its_deletion_is_well(kube: Kube, server: ApiServer) -> None:
    server.status = 404

    assert await kube.get("prod", ChildKey("Service", "chat")) is None
    await kube.delete("prod", ChildKey("Service", "chat"), "u")
    assert not await kube.serves_resource()


async def test_a_path_that_is_not_served_is_answered_in_plain_words(kube: Kube, server: ApiServer) -> None:
    server.status, server.words = 404, "404 page not found\n"

    assert not await kube.serves_resource()


async def test_a_proxys_words_are_told(kube: Kube, server: ApiServer, owner: Identity) -> None:
    server.status, server.words = 502, "<html>bad gateway</html>"

    with pytest.raises(KubeError, match="PATCH Service prod/chat: <html>bad gateway</html>"):
        await kube.apply(build_service(owner, by_uid=True))


async def test_no_answer_is_an_error_of_ours(owner: Identity) -> None:
    async with ApiClient(Configuration(host="http://127.0.0.1:1")) as client:
        with pytest.raises(KubeError, match=r"PATCH Service prod/chat: no answer from the API server"):
            await Kube(client).apply(build_service(owner, by_uid=True))


async def test_uids_are_those_of_every_page(owner: Identity) -> None:
    server = fakes.ApiServer()
    server.page = 2
    for number in range(5):
        server.put("pods", {"metadata": {"namespace": f"n{number % 2}", "name": f"p{number}", "uid": f"u{number}"}})
    async with server.running() as address, ApiClient(Configuration(host=address)) as client:
        assert await Kube(client).uids("Pod", None, "a=b") == {"u0", "u1", "u2", "u3", "u4"}
        assert await Kube(client).uids("Pod", "n1") == {"u1", "u3"}
        assert await Kube(client).uids("Service", "n1") == set()
