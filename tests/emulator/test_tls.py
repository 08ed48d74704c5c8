"""The server with a certificate."""

from __future__ import annotations

import ssl
import urllib.request
from http.client import RemoteDisconnected
from pathlib import Path
from typing import NamedTuple

import pytest
import trustme
from cryptography.hazmat.primitives import serialization

from airflow_tuning_provider.emulator.testing import Emulator

from .conftest import JOBS
from .test_server import run


class Files(NamedTuple):
    authority: Path
    cert: Path
    key: Path
    encrypted_key: Path


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    directory = tmp_path_factory.mktemp("tls")
    made = Files(*(directory / f"{name}.pem" for name in Files._fields))
    authority = trustme.CA()
    authority.cert_pem.write_to_path(made.authority)
    issued = authority.issue_cert("127.0.0.1")
    issued.cert_chain_pems[0].write_to_path(made.cert)
    issued.private_key_pem.write_to_path(made.key)
    key = serialization.load_pem_private_key(made.key.read_bytes(), None)
    encryption = serialization.BestAvailableEncryption(b"secret")
    made.encrypted_key.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)
    )
    return made


def test_it_speaks_https_only(files: Files) -> None:
    with Emulator(tls_cert=files.cert, tls_key=files.key, datasets="skip") as emulator:
        assert emulator.url == f"https://127.0.0.1:{emulator.port}"
        assert f"emulator on {emulator.url} (" in emulator.log
        request = urllib.request.Request(emulator.url + JOBS, headers={"Authorization": "Bearer t"})
        trusting = urllib.request.build_opener(
            urllib.request.ProxyHandler({}),
            urllib.request.HTTPSHandler(context=ssl.create_default_context(cafile=files.authority)),
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


def test_a_bad_certificate_is_named(files: Files, tmp_path: Path) -> None:
    other = tmp_path / "no.pem"
    other.write_text("no certificate")
    for arguments, said in (
        ([str(files.cert), ""], "one does not work without the other"),
        (["/nonexistent.pem", str(files.key)], "No such file"),
        ([str(other), str(files.key)], f"cannot use {other}"),
        ([str(files.cert), str(files.encrypted_key)], "the key is encrypted"),
    ):
        cert, key = arguments
        done = run("--tls-cert", cert, *(["--tls-key", key] if key else []))
        assert done.returncode == 2
        message = done.stderr.strip().splitlines()[-1]
        assert "--tls-cert/--tls-key" in message
        assert said in message
        assert "Traceback" not in done.stderr
