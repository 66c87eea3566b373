"""Calls to the Kubernetes API: server-side apply under one field manager, and the few others the operator needs."""

import json
from collections.abc import Mapping
from typing import Final

import aiohttp
from kubernetes.aio.client import ApiClient

from llmserving_api import names
from llmserving_operator.children.identity import ChildKey, Manifest
from llmserving_operator.errors import ConflictError, KubeError, NotFoundError, RejectedError

TIMEOUT_SECONDS: Final = 15.0
WORDS_LENGTH: Final = 300

PATHS: Final[Mapping[str, tuple[str, str]]] = {
    names.KIND: (f"/apis/{names.API_VERSION}", names.PLURAL),
    "ConfigMap": ("/api/v1", "configmaps"),
    "ControllerRevision": ("/apis/apps/v1", "controllerrevisions"),
    "Deployment": ("/apis/apps/v1", "deployments"),
    "Event": ("/api/v1", "events"),
    "Lease": ("/apis/coordination.k8s.io/v1", "leases"),
    "NetworkPolicy": ("/apis/networking.k8s.io/v1", "networkpolicies"),
    "Pod": ("/api/v1", "pods"),
    "PodDisruptionBudget": ("/apis/policy/v1", "poddisruptionbudgets"),
    "Service": ("/api/v1", "services"),
    "ServiceAccount": ("/api/v1", "serviceaccounts"),
}
"""Where the objects of a kind live: API path and plural."""

ANNOTATION_ATTEMPT: Final = f"{names.GROUP}/policy-attempt"
"""Counts repeated deliveries of one policy; its change wakes the kubelet."""

APPLY: Final = "application/apply-patch+yaml"
MERGE: Final = "application/merge-patch+json"
JSON: Final = "application/json"
METADATA: Final = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
PAGE: Final = 500
"""Objects of one answer to a list."""


class Kube:
    """The operator's calls. Every failure is a ``KubeError`` that names the object and the API server's reason."""

    def __init__(self, client: ApiClient) -> None:
        self._client = client

    async def apply(self, manifest: Manifest) -> Manifest:
        """Server-side apply; the fields of the manifest become ours, those of our last apply that it lacks go."""
        key = ChildKey(manifest["kind"], manifest["metadata"]["name"])
        return await self._call(
            "PATCH", manifest["metadata"]["namespace"], key, manifest, content_type=APPLY, query=_AS_US
        )

    async def apply_status(self, namespace: str, name: str, uid: str, status: Manifest) -> Manifest:
        """Server-side apply of a resource's whole status.

        Raises:
            ConflictError: the resource was deleted and made anew meanwhile.
        """
        body = {
            "apiVersion": names.API_VERSION,
            "kind": names.KIND,
            "metadata": {"name": name, "namespace": namespace, "uid": uid},
            "status": status,
        }
        key = ChildKey(names.KIND, name)
        return await self._call("PATCH", namespace, key, body, content_type=APPLY, query=_AS_US, subresource="/status")

    async def deliver_policy(self, namespace: str, pod: str, uid: str, document: str, attempt: int) -> None:
        """Write the policy annotation of a live pod.

        Raises:
            ConflictError: the pod's name now belongs to another pod.
        """
        annotations = {names.ANNOTATION_POLICY: document, ANNOTATION_ATTEMPT: str(attempt) if attempt else None}
        body = {"metadata": {"uid": uid, "annotations": annotations}}
        await self._call(
            "PATCH",
            namespace,
            ChildKey("Pod", pod),
            body,
            content_type=MERGE,
            query={"fieldManager": names.FIELD_MANAGER},
        )

    async def get(self, namespace: str, key: ChildKey) -> Manifest | None:
        """An object, or None."""
        try:
            return await self._call("GET", namespace, key)
        except NotFoundError:
            return None

    async def uids(self, kind: str, namespace: str | None, selector: str = "") -> set[str]:
        """Uids of the objects there are of a kind, in one namespace or (None) in all; only metadata is read.

        Args:
            kind: of the objects.
            namespace: where.
            selector: of labels; all objects when empty.
        """
        path, plural = PATHS[kind]
        url = f"{path}/namespaces/{namespace}/{plural}" if namespace else f"{path}/{plural}"
        query = {"limit": str(PAGE), **({"labelSelector": selector} if selector else {})}
        what = f"{kind} in {namespace or 'all namespaces'}"
        found: set[str] = set()
        while True:
            page = await self._request("GET", url, what, accept=METADATA, query=query)
            found |= {item["metadata"]["uid"] for item in page["items"] or ()}  # null where there are none
            following = page["metadata"].get("continue")
            if not following:
                return found
            query = {**query, "continue": following}

    async def delete(self, namespace: str, key: ChildKey, uid: str) -> None:
        """Delete this very object; one that is gone is well."""
        body = {"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": {"uid": uid}}
        try:
            await self._call("DELETE", namespace, key, body, content_type=JSON)
        except NotFoundError:
            return

    async def create(self, namespace: str, manifest: Manifest) -> Manifest:
        """Create an object that must not exist yet.

        Raises:
            ConflictError: it exists.
        """
        path, plural = PATHS[manifest["kind"]]
        what = f"{manifest['kind']} in {namespace}"
        return await self._request("POST", f"{path}/namespaces/{namespace}/{plural}", what, body=manifest)

    async def replace(self, namespace: str, key: ChildKey, manifest: Manifest) -> Manifest:
        """Replace an object as it was read.

        Raises:
            ConflictError: it changed since.
        """
        return await self._call("PUT", namespace, key, manifest)

    async def serves_resource(self) -> bool:
        """Whether the API server knows the LLMServing resource."""
        try:
            await self._request("GET", PATHS[names.KIND][0], names.API_VERSION)
        except NotFoundError:
            return False
        return True

    async def _call(
        self,
        method: str,
        namespace: str,
        key: ChildKey,
        body: Manifest | None = None,
        *,
        content_type: str = JSON,
        query: Mapping[str, str] | None = None,
        subresource: str = "",
    ) -> Manifest:
        path, plural = PATHS[key.kind]
        url = f"{path}/namespaces/{namespace}/{plural}/{key.name}{subresource}"
        what = f"{key.kind} {namespace}/{key.name}"
        return await self._request(method, url, what, body=body, content_type=content_type, query=query)

    async def _request(
        self,
        method: str,
        path: str,
        what: str,
        *,
        body: Manifest | None = None,
        content_type: str = JSON,
        accept: str = JSON,
        query: Mapping[str, str] | None = None,
    ) -> Manifest:
        request = await self._client.param_serialize(
            method,
            path,
            query_params=list((query or {}).items()),
            header_params={"Accept": accept, "Content-Type": content_type},
            body=body,
            auth_settings=["BearerToken"],
        )
        try:
            answer = await self._client.call_api(*request, _request_timeout=TIMEOUT_SECONDS)
            text = await answer.read()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise KubeError(f"{method} {what}: no answer from the API server: {error!r}") from error
        document = _read(text)
        if answer.status >= 400:
            raise _error(answer.status, f"{method} {what}", document.get("message", str(answer.status)))
        return document


_AS_US: Final[Mapping[str, str]] = {"fieldManager": names.FIELD_MANAGER, "force": "true"}


def _read(text: bytes) -> Manifest:
    """The answer's object; plain words, as of a path that is not served or of a proxy, are a message."""
    try:
        document: Manifest = json.loads(text)
    except ValueError:
        return {"message": text.decode(errors="replace").strip()[:WORDS_LENGTH]}
    return document


MALFORMED: Final = "failed to create typed patch object"
"""Says the API server, with status 500, to a server-side apply with, say, a string in the place of a list."""


def _error(status: int, what: str, reason: str) -> KubeError:
    message = f"{what}: {reason}"
    if status == 404:
        return NotFoundError(message, status)
    if status == 409:
        return ConflictError(message, status)
    if status in (400, 403, 422) or reason.startswith(MALFORMED):
        return RejectedError(message, status)
    return KubeError(message, status)
