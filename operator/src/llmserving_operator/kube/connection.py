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

KUBECONFIG_MEANING: Final = "path of a kubeconfig with a current context; needed outside of a pod alone"


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
        SettingsError: there is neither, or it cannot be read.
    """
    configuration = Configuration()
    given = os.environ.get("KUBECONFIG")
    try:
        if given is None and TOKEN_FILE.exists():
            load_incluster_config(client_configuration=configuration)
        else:
            _check_exists(given)
            await load_kube_config(given, client_configuration=configuration)
    except Exception as error:  # the client lets through whatever a file that is none makes of it, a TypeError perhaps
        source = "no service account here and no KUBECONFIG" if given is None else f"KUBECONFIG={given}"
        told = str(error).strip() if isinstance(error, ConfigException | OSError) else "not a kubeconfig"
        raise SettingsError(
            f"no way to a Kubernetes API server: {source}: {told}; KUBECONFIG must be: {KUBECONFIG_MEANING}"
        ) from error
    configuration.connection_pool_maxsize = CONNECTIONS
    return Connection(configuration)


def _check_exists(given: str | None) -> None:
    """The client merely logs that a file is missing, and then misses its content."""
    for path in (given or "").split(os.pathsep):
        if path and not Path(path).expanduser().is_file():
            raise FileNotFoundError(f"no such file as {path}")
