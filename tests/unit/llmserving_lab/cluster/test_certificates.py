import datetime as dt
import ipaddress
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from llmserving_lab.cluster.certificates import Authority, Identity

NOW = dt.datetime(2026, 1, 2, tzinfo=dt.UTC)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    authority = Authority(tmp_path, NOW)
    authority.issue(Identity("server", "kube-apiserver", hosts=("kubernetes", "10.96.0.1")))
    authority.issue(Identity("client", "system:node:node", "system:nodes"))
    authority.issue_service_account_key()
    return tmp_path


def load(folder: Path, name: str) -> x509.Certificate:
    return x509.load_pem_x509_certificate((folder / f"{name}.crt").read_bytes())


def test_certificates_are_signed_by_the_authority_and_valid_from_now(folder: Path) -> None:
    authority = load(folder, "ca")
    for name in ("server", "client"):
        certificate = load(folder, name)
        certificate.verify_directly_issued_by(authority)
        assert certificate.not_valid_before_utc < NOW < certificate.not_valid_after_utc


def test_a_server_certificate_carries_names_and_addresses(folder: Path) -> None:
    names = load(folder, "server").extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["kubernetes"]
    assert names.get_values_for_type(x509.IPAddress) == [ipaddress.ip_address("10.96.0.1")]


def test_a_client_certificate_names_user_and_group_and_serves_nothing(folder: Path) -> None:
    certificate = load(folder, "client")
    assert certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value == "system:node:node"
    assert certificate.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)[0].value == "system:nodes"
    usages = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usages) == [ExtendedKeyUsageOID.CLIENT_AUTH]


def test_only_the_owner_reads_keys(folder: Path) -> None:
    keys = list(folder.glob("*.key"))
    assert {key.stem for key in keys} == {"ca", "server", "client", "service-account"}
    assert {key.stat().st_mode & 0o777 for key in keys} == {0o600}
