"""How to reach the API server: from inside a pod, or by a kubeconfig."""

import os
from pathlib import Path
from typing import Final

from kubernetes.aio.client import ApiClient, Configuration
from kubernetes.aio.config import load_incluster_config, load_kube_config
from kubernetes.aio.config.config_exception import ConfigException

from llmserving_operator.errors import SettingsError

CONNECTIONS: Final = 64
TOKEN_FILE: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount/token")


async def load_configuration() -> Configuration:
    """The pod's service account where there is one, else the kubeconfig of ``KUBECONFIG`` or the home folder.

    The service account's token is read again before it expires.

    Raises:
        SettingsError: there is neither.
    """
    configuration = Configuration()
    try:
        if "KUBECONFIG" not in os.environ and TOKEN_FILE.exists():
            load_incluster_config(client_configuration=configuration)
        else:
            await load_kube_config(client_configuration=configuration)
    except (ConfigException, OSError) as error:
        raise SettingsError(f"no way to a Kubernetes API server: {error}; set KUBECONFIG or run in a pod") from error
    configuration.connection_pool_maxsize = CONNECTIONS
    return configuration


def connect(configuration: Configuration) -> ApiClient:
    """A client; close it at the end."""
    return ApiClient(configuration)
