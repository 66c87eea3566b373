"""How to reach the API server: from inside a pod, or by a kubeconfig."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from kubernetes.aio.client import ApiClient, Configuration
from kubernetes.aio.config import load_incluster_config, load_kube_config
from kubernetes.aio.config.config_exception import ConfigException

from llmserving_operator.errors import SettingsError

CONNECTIONS: Final = 64
TOKEN_FILE: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount/token")


@dataclass(frozen=True, slots=True)
class Credentials:
    """Address of the API server and the proof of who asks, as they are now."""

    server: str
    ca_path: str | None
    insecure: bool
    scheme: str | None
    token: str | None
    certificate_path: str | None
    private_key_path: str | None


class Connection:
    """A way to the API server."""

    def __init__(self, configuration: Configuration) -> None:
        self._configuration = configuration

    def client(self) -> ApiClient:
        """A client; close it at the end."""
        return ApiClient(self._configuration)

    def credentials(self) -> Credentials:
        """Present credentials; a service account's token is read again before it runs out."""
        configuration = self._configuration
        if configuration.refresh_api_key_hook is not None:
            configuration.refresh_api_key_hook(configuration)
        scheme, _, token = (configuration.api_key or {}).get("BearerToken", "").partition(" ")
        return Credentials(
            server=configuration.host,
            ca_path=configuration.ssl_ca_cert,
            insecure=not configuration.verify_ssl,
            scheme=scheme.capitalize() or None,
            token=token or None,
            certificate_path=configuration.cert_file,
            private_key_path=configuration.key_file,
        )


async def find_connection() -> Connection:
    """The pod's service account where there is one, else the kubeconfig of ``KUBECONFIG`` or the home folder.

    Raises:
        SettingsError: there is neither.
    """
    configuration = Configuration()
    try:
        if "KUBECONFIG" not in os.environ and TOKEN_FILE.exists():
            load_incluster_config(client_configuration=configuration)
        else:
            await load_kube_config(os.environ.get("KUBECONFIG"), client_configuration=configuration)
    except (ConfigException, OSError) as error:
        raise SettingsError(f"no way to a Kubernetes API server: {error}; set KUBECONFIG or run in a pod") from error
    configuration.connection_pool_maxsize = CONNECTIONS
    return Connection(configuration)
