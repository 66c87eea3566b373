"""A Kubernetes API server of a hundred lines: list, watch, get, server-side apply, delete, for the operator's kinds.

It can do what a real one cannot be made to do at will: lose a deletion between two watches, and forbid a namespace.
"""

import asyncio
import copy
import json
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web

Document = dict[str, Any]

KINDS = {
    "/apis/llmserving.io/v1alpha1": {"llmservings": "LLMServing"},
    "/apis/apps/v1": {"deployments": "Deployment", "controllerrevisions": "ControllerRevision"},
    "/apis/networking.k8s.io/v1": {"networkpolicies": "NetworkPolicy"},
    "/apis/policy/v1": {"poddisruptionbudgets": "PodDisruptionBudget"},
    "/api/v1": {
        "services": "Service",
        "configmaps": "ConfigMap",
        "serviceaccounts": "ServiceAccount",
        "pods": "Pod",
        "events": "Event",
        "namespaces": "Namespace",
    },
    "/apis/apiextensions.k8s.io/v1": {"customresourcedefinitions": "CustomResourceDefinition"},
}
CLUSTER_SCOPED = ("namespaces", "customresourcedefinitions")
VERBS = ["get", "list", "watch", "create", "patch", "delete"]


class ApiServer:
    """See the module.

    Attributes:
        objects: what there is, by plural, namespace and name.
        applied: plural and owner's uid of every child that was written.
        forbidden: namespaces that may not be read.
        page: objects of one answer to a list at most.
    """

    def __init__(self) -> None:
        self.objects: dict[tuple[str, str, str], Document] = {}
        self.applied: list[tuple[str, str]] = []
        self.forbidden: set[str] = set()
        self.page = 500
        self._version = 100
        self._watches: dict[str, list[asyncio.Queue[Document | None]]] = {}
        self._expired: set[str] = set()
        self._loop: asyncio.AbstractEventLoop | None = None

    def put(self, plural: str, document: Document, *, told: bool = True) -> Document:
        """Create or replace an object; ``told`` is whether watches hear of it."""
        meta = document["metadata"]
        key = (plural, meta["namespace"], meta["name"])
        self._version += 1
        meta["resourceVersion"] = str(self._version)
        kind = "MODIFIED" if key in self.objects else "ADDED"
        self.objects[key] = document
        if told:
            self._tell(plural, kind, document)
        return document

    def delete(self, plural: str, namespace: str, name: str, *, told: bool = True) -> None:
        """Delete an object."""
        gone = copy.deepcopy(self.objects.pop((plural, namespace, name)))
        self._version += 1
        gone["metadata"]["resourceVersion"] = str(self._version)
        if told:
            self._tell(plural, "DELETED", gone)

    def collect_garbage(self) -> None:
        """Delete what belongs to objects that are gone."""
        alive = {document["metadata"]["uid"] for document in list(self.objects.values())}
        for plural, namespace, name in list(self.objects):
            owners = self.objects[plural, namespace, name]["metadata"].get("ownerReferences", ())
            if owners and not any(owner["uid"] in alive for owner in owners):
                self.delete(plural, namespace, name)

    def cut(self, plural: str) -> None:
        """End the watches of a kind; the next one is told that its version is too old (410)."""
        self._expired.add(plural)
        self._send(plural, None)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[str]:
        """Serve, in a thread of its own, while the context lasts; yields the address."""
        loop = self._loop = asyncio.new_event_loop()
        thread = threading.Thread(target=loop.run_forever)
        thread.start()
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._answer)
        runner = web.AppRunner(app, shutdown_timeout=0.1)

        async def start() -> str:
            await runner.setup()
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            host, port = runner.addresses[0]
            return f"http://{host}:{port}"

        async def end() -> None:
            await runner.cleanup()
            rest = asyncio.all_tasks() - {asyncio.current_task()}
            for task in rest:
                task.cancel()
            await asyncio.gather(*rest, return_exceptions=True)

        try:
            yield await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(start(), loop))
        finally:
            await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(end(), loop))
            loop.call_soon_threadsafe(loop.stop)
            thread.join()
            loop.close()
            self._loop = None

    def _tell(self, plural: str, kind: str, document: Document) -> None:
        self._send(plural, {"type": kind, "object": copy.deepcopy(document)})

    def _send(self, plural: str, event: Document | None) -> None:
        if self._loop is not None:
            for queue in list(self._watches.get(plural, ())):
                self._loop.call_soon_threadsafe(queue.put_nowait, event)

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        found = _discover(request.path)
        if found is not None:
            return web.json_response(found)
        prefix = next((one for one in KINDS if request.path.startswith(f"{one}/")), None)
        if prefix is None:
            return _refuse(404)
        namespace, rest = "", request.path[len(prefix) + 1 :].split("/")
        if rest[0] == "namespaces" and len(rest) > 2:
            namespace, rest = rest[1], rest[2:]
        if namespace in self.forbidden:
            return _refuse(403)
        if len(rest) > 1:
            return await self._answer_for_one(request, (rest[0], namespace, rest[1]), rest[2:])
        if request.method == "POST":
            return web.json_response(await request.json())
        if "watch" in request.query:
            return await self._watch(request, rest[0])
        empty = None if "PartialObjectMetadataList" in request.headers["Accept"] else []  # as the real one says it
        return web.json_response(self._list(rest[0], namespace, int(request.query.get("continue", 0)), empty))

    def _list(self, plural: str, namespace: str, start: int, empty: Any) -> Document:
        items = [
            document
            for (kind, where, _), document in list(self.objects.items())
            if (kind, namespace or where) == (plural, where)
        ]
        end = start + self.page
        meta = {"resourceVersion": str(self._version), "continue": str(end) if end < len(items) else ""}
        return {"metadata": meta, "items": items[start:end] or empty}

    async def _watch(self, request: web.Request, plural: str) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        if plural in self._expired:
            self._expired.remove(plural)
            expired = {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old resource version"}
            await response.write(json.dumps({"type": "ERROR", "object": expired}).encode() + b"\n")
            return response
        queue: asyncio.Queue[Document | None] = asyncio.Queue()
        self._watches.setdefault(plural, []).append(queue)
        try:
            while (event := await queue.get()) is not None:
                await response.write(json.dumps(event).encode() + b"\n")
        finally:
            self._watches[plural].remove(queue)
        return response

    async def _answer_for_one(
        self, request: web.Request, key: tuple[str, str, str], subresource: list[str]
    ) -> web.Response:
        body = await request.json() if request.can_read_body else {}
        found = self.objects.get(key)
        if request.method == "GET":
            return web.json_response(found) if found is not None else _refuse(404)
        if request.method == "DELETE":
            if found is not None:
                self.delete(*key)
            return web.json_response({})
        if key[0] == "pods" or subresource:
            if found is None:
                return _refuse(404)
            if body["metadata"].get("uid") != found["metadata"]["uid"]:
                return _refuse(409)
            changed = {**found, "status": body["status"]} if subresource else _annotated(found, body)
            return web.json_response(self._put_if_changed(key, found, changed))
        self.applied.append((key[0], body["metadata"]["ownerReferences"][0]["uid"]))
        kept = {"uid": f"uid-{self._version}"} if found is None else found["metadata"]
        changed = {**body, "metadata": {**kept, "generation": 1, **body["metadata"]}}
        return web.json_response(self._put_if_changed(key, found, changed))

    def _put_if_changed(self, key: tuple[str, str, str], before: Document | None, after: Document) -> Document:
        return after if after == before else self.put(key[0], copy.deepcopy(after))


def _annotated(pod: Document, patch: Document) -> Document:
    given = {key: value for key, value in patch["metadata"]["annotations"].items() if value is not None}
    annotations = {**pod["metadata"].get("annotations", {}), **given}
    return {**pod, "metadata": {**pod["metadata"], "annotations": annotations}}


def _discover(path: str) -> Document | None:
    """What the server says of its groups and kinds."""
    if path == "/api":
        return {"versions": ["v1"]}
    if path == "/apis":
        groups = [prefix.split("/")[2:] for prefix in KINDS if prefix.startswith("/apis")]
        return {
            "groups": [
                {"name": group, "versions": [{"version": version}], "preferredVersion": {"version": version}}
                for group, version in groups
            ]
        }
    if path in KINDS:
        resources = [
            {
                "name": plural,
                "kind": kind,
                "singularName": kind.lower(),
                "namespaced": plural not in CLUSTER_SCOPED,
                "verbs": VERBS,
            }
            for plural, kind in KINDS[path].items()
        ]
        return {"resources": resources}
    return None


def _refuse(status: int) -> web.Response:
    words = {403: "forbidden", 404: "not found", 409: "another uid"}[status]
    return web.json_response({"kind": "Status", "code": status, "message": words}, status=status)
