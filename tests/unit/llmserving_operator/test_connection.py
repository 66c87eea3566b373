from pathlib import Path

import pytest
import yaml
from kubernetes.aio.config import incluster_config

from llmserving_operator.errors import SettingsError
from llmserving_operator.kube import connection
from llmserving_operator.kube.connection import find_connection


async def test_a_kubeconfig_gives_address_and_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "kubeconfig"
    path.write_text(
        yaml.safe_dump(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "current-context": "c",
                "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
                "clusters": [
                    {"name": "c", "cluster": {"server": "https://api:6443", "insecure-skip-tls-verify": True}}
                ],
                "users": [{"name": "u", "user": {"token": "secret"}}],
            }
        )
    )
    monkeypatch.setenv("KUBECONFIG", str(path))

    found = (await find_connection()).credentials()

    assert (found.server, found.scheme, found.token, found.insecure) == ("https://api:6443", "Bearer", "secret", True)


async def test_in_a_pod_the_service_account_is_used_without_dns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    token, certificate = tmp_path / "token", tmp_path / "ca.crt"
    token.write_text("secret")
    certificate.write_text("certificate")
    monkeypatch.delenv("KUBECONFIG", raising=False)
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.96.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "443")
    monkeypatch.setattr(connection, "TOKEN_FILE", token)
    monkeypatch.setattr(incluster_config, "SERVICE_TOKEN_FILENAME", str(token))
    monkeypatch.setattr(incluster_config, "SERVICE_CERT_FILENAME", str(certificate))

    found = (await find_connection()).credentials()

    assert (found.server, found.scheme, found.token) == ("https://10.96.0.1:443", "Bearer", "secret")
    assert (found.ca_path, found.insecure) == (str(certificate), False)


async def test_without_a_way_to_the_api_server_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "missing"))

    with pytest.raises(
        SettingsError, match=f"no way to a Kubernetes API server: .* no such file as {tmp_path}/missing"
    ):
        await find_connection()


@pytest.mark.parametrize("text", ["x", "- a", "{", "a: b", ""])
async def test_what_is_no_kubeconfig_is_told_in_one_line(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "kubeconfig"
    path.write_text(text)
    monkeypatch.setenv("KUBECONFIG", str(path))

    with pytest.raises(SettingsError) as caught:
        await find_connection()
    assert str(caught.value).startswith(f"no way to a Kubernetes API server: KUBECONFIG={path}: ")
    assert "KUBECONFIG must be: path of a kubeconfig" in str(caught.value)
    assert "\n" not in str(caught.value)
