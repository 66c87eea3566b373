"""The few calls to an API server that starting a cluster needs."""

from __future__ import annotations

import json
import ssl
from collections.abc import Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Any

import httpx

from llmserving_lab.cluster.errors import ClusterError

_TIMEOUT_SECONDS = 5.0


class ApiClient:
    """Speaks to the API server of an embedded cluster with the certificates its kubeconfig names."""

    def __init__(self, kubeconfig: Path) -> None:
        content = json.loads(kubeconfig.read_text())
        cluster, user = content["clusters"][0]["cluster"], content["users"][0]["user"]
        context = ssl.create_default_context(cafile=cluster["certificate-authority"])
        context.load_cert_chain(user["client-certificate"], user["client-key"])
        self._client = httpx.Client(
            base_url=cluster["server"], verify=context, timeout=_TIMEOUT_SECONDS, trust_env=False
        )

    def ready(self) -> bool:
        """Whether the API server answers, and says it is ready."""
        try:
            return self._client.get("/readyz").status_code == HTTPStatus.OK
        except httpx.TransportError:
            return False

    def node_ready(self, name: str) -> bool:
        """Whether the node exists and its kubelet reports Ready."""
        try:
            response = self._client.get(f"/api/v1/nodes/{name}")
        except httpx.TransportError:
            return False
        if response.status_code != HTTPStatus.OK:
            return False
        conditions: list[dict[str, Any]] = response.json()["status"].get("conditions", [])
        return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)

    def version(self) -> str:
        """The server's version, for example `v1.36.3`.

        Raises:
            ClusterError: the API server does not answer.
        """
        try:
            return str(self._client.get("/version").raise_for_status().json()["gitVersion"])
        except httpx.HTTPError as error:
            raise ClusterError(f"the API server does not answer: {error}") from error

    def set_node_capacity(self, name: str, resources: Mapping[str, str]) -> None:
        """Write extended resources into the node's status; kubelet keeps what it does not manage.

        Raises:
            ClusterError: the API server refuses them.
        """
        quantities = dict(resources)
        response = self._client.patch(
            f"/api/v1/nodes/{name}/status",
            content=json.dumps({"status": {"capacity": quantities, "allocatable": quantities}}),
            headers={"Content-Type": "application/merge-patch+json"},
        )
        if response.status_code != HTTPStatus.OK:
            raise ClusterError(f"node capacity {quantities} refused: {response.json().get('message')}")
