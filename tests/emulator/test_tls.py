"""The server with a certificate."""

from __future__ import annotations

import datetime
import ipaddress
import ssl
import urllib.request
from http.client import RemoteDisconnected
from pathlib import Path
from typing import NamedTuple

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from airflow_tuning_provider.emulator.testing import Emulator

from .conftest import JOBS
from .test_server import run


class Pair(NamedTuple):
    cert: Path
    key: Path
    encrypted_key: Path


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    directory = tmp_path_factory.mktemp("tls")
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "emulator")])
    now = datetime.datetime.now(datetime.timezone.utc)
    names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    cert = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(names, critical=False)
        .sign(key, hashes.SHA256())
    )
    made = Pair(directory / "cert.pem", directory / "key.pem", directory / "encrypted.pem")
    made.cert.write_bytes(cert.public_bytes(serialization.Encoding.PEM))
    for path, encryption in (
        (made.key, serialization.NoEncryption()),
        (made.encrypted_key, serialization.BestAvailableEncryption(b"secret")),
    ):
        path.write_bytes(
            key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)
        )
    return made


def test_it_speaks_https_only(pair: Pair) -> None:
    with Emulator(tls_cert=pair.cert, tls_key=pair.key, datasets="skip") as emulator:
        assert emulator.url == f"https://127.0.0.1:{emulator.port}"
        assert f"emulator on {emulator.url} (" in emulator.log
        request = urllib.request.Request(emulator.url + JOBS, headers={"Authorization": "Bearer t"})
        trusting = urllib.request.build_opener(
            urllib.request.ProxyHandler({}),
            urllib.request.HTTPSHandler(context=ssl.create_default_context(cafile=pair.cert)),
        )
        with trusting.open(request, timeout=10) as answer:
            assert answer.status == 200
        plain = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with pytest.raises(OSError, match="CERTIFICATE_VERIFY_FAILED"):
            plain.open(request, timeout=10)
        with pytest.raises((OSError, RemoteDisconnected)):
            plain.open(f"http://127.0.0.1:{emulator.port}/_emulator/health", timeout=10)
        # Faults cut an encrypted connection as well.
        emulator.fault(drop="before_processing")
        with pytest.raises((OSError, RemoteDisconnected)):
            trusting.open(request, timeout=10)
        assert emulator.jobs() == []


def test_a_bad_certificate_is_named(pair: Pair, tmp_path: Path) -> None:
    other = tmp_path / "no.pem"
    other.write_text("no certificate")
    for arguments, said in (
        ([str(pair.cert), ""], "one does not work without the other"),
        (["/nonexistent.pem", str(pair.key)], "No such file"),
        ([str(other), str(pair.key)], f"cannot use {other}"),
        ([str(pair.cert), str(pair.encrypted_key)], "the key is encrypted"),
    ):
        cert, key = arguments
        done = run("--tls-cert", cert, *(["--tls-key", key] if key else []))
        assert done.returncode == 2
        message = done.stderr.strip().splitlines()[-1]
        assert "--tls-cert/--tls-key" in message
        assert said in message
        assert "Traceback" not in done.stderr
