"""Create what the other containers need before they start: secrets, and the emulator's certificate.

Runs once for every ``docker compose up``. What is there stays; an environment variable with a value wins over
what was generated. One volume, which nothing else mounts, holds all of it; each service has a volume with what
it may read.
"""

# ruff: noqa: T201
from __future__ import annotations

import base64
import datetime
import ipaddress
import os
import secrets
from pathlib import Path
from urllib.parse import quote

HOME = Path("/opt/airflow")
AIRFLOW, POSTGRES, REDIS, TLS = (
    HOME / name for name in ("secrets", "secrets-postgres", "secrets-redis", "tls")
)

# What each of Airflow's services reads. The code of DAGs runs in workers, triggerers and the DAG processor.
READERS = {
    "api-server": ("api_secret_key", "database_url", "fernet_key", "jwt_secret"),
    "dag-processor": ("database_url", "fernet_key"),
    "migrate": ("admin_password", "database_url", "fernet_key"),
    "scheduler": ("broker_url", "database_url", "fernet_key", "jwt_secret", "result_backend"),
    "triggerer": ("database_url", "fernet_key"),
    "worker": ("broker_url", "result_backend"),
}

EMULATOR_HOSTS = ("tuning-emulator", "localhost")
CERTIFICATE_DAYS = 825
RENEW_DAYS = 30


def write(path: Path, content: str | bytes, mode: int) -> None:
    """Replace a file atomically."""
    temporary = path.with_name(f".{path.name}.new")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content.encode() if isinstance(content, str) else content)
    temporary.chmod(mode)
    temporary.replace(path)


def secret(path: Path, variable: str, generated: str, mode: int = 0o440) -> str:
    """Return the secret in a file, which is made where it is missing."""
    value = os.environ.get(variable) or (path.read_text() if path.exists() else generated)
    if not path.exists() or path.read_text() != value:
        write(path, value, mode)
        print(f"wrote {path}")
    return value


def make_secrets() -> None:
    """Make keys and passwords, and the URLs that contain passwords."""
    fernet_key = base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()
    secret(AIRFLOW / "fernet_key", "FERNET_KEY", fernet_key)
    secret(AIRFLOW / "jwt_secret", "JWT_SECRET", secrets.token_urlsafe(64))
    secret(AIRFLOW / "api_secret_key", "API_SECRET_KEY", secrets.token_urlsafe(48))
    secret(AIRFLOW / "admin_password", "ADMIN_PASSWORD", secrets.token_urlsafe(15))
    # PostgreSQL and Redis run as users of their own; nobody else mounts these volumes.
    database = secret(POSTGRES / "password", "POSTGRES_PASSWORD", secrets.token_urlsafe(24), 0o444)
    broker = secret(REDIS / "password", "REDIS_PASSWORD", secrets.token_urlsafe(24), 0o444)
    write(REDIS / "redis.conf", f'requirepass "{broker}"\n', 0o444)
    url = f"postgresql+psycopg2://airflow:{quote(database, safe='')}@postgres:5432/airflow"
    write(AIRFLOW / "database_url", url, 0o440)
    redis = f"redis://:{quote(broker, safe='')}@redis:6379"
    write(AIRFLOW / "broker_url", f"{redis}/0", 0o440)
    # Not in the database, where Airflow would keep Celery's results: workers do without its password.
    write(AIRFLOW / "result_backend", f"{redis}/1", 0o440)


def make_certificate() -> None:
    """Make an authority that signs one certificate, the emulator's; its own key is thrown away."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    now = datetime.datetime.now(datetime.timezone.utc)
    path = TLS / "cert.pem"
    if path.exists():
        until = x509.load_pem_x509_certificate(path.read_bytes()).not_valid_after_utc
        if until - now > datetime.timedelta(days=RENEW_DAYS):
            return

    def name(text: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])

    def usage(*, sign: bool) -> x509.KeyUsage:
        others = ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement")
        never = dict.fromkeys((*others, "encipher_only", "decipher_only"), False)
        return x509.KeyUsage(digital_signature=not sign, key_cert_sign=sign, crl_sign=sign, **never)

    authority_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    authority = name("tuning emulator authority")
    begin, end = now - datetime.timedelta(hours=1), now + datetime.timedelta(days=CERTIFICATE_DAYS)
    identifier = x509.SubjectKeyIdentifier.from_public_key(authority_key.public_key())

    def certificate(subject: x509.Name, public_key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        builder = x509.CertificateBuilder(authority, subject, public_key, x509.random_serial_number())
        builder = builder.not_valid_before(begin).not_valid_after(end)
        subject_key = x509.SubjectKeyIdentifier.from_public_key(public_key)
        builder = builder.add_extension(subject_key, critical=False)
        authority_identifier = x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier)
        return builder.add_extension(authority_identifier, critical=False)

    ca = (
        certificate(authority, authority_key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage(sign=True), critical=True)
        .sign(authority_key, hashes.SHA256())
    )
    names = [x509.DNSName(host) for host in EMULATOR_HOSTS]
    addresses = [x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    leaf = (
        certificate(name(EMULATOR_HOSTS[0]), key.public_key())
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(usage(sign=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName([*names, *addresses]), critical=False)
        .sign(authority_key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    write(TLS / "ca.pem", ca.public_bytes(pem), 0o444)
    write(TLS / "key.pem", private, 0o440)
    write(path, leaf.public_bytes(pem), 0o444)
    print(f"wrote {path}, valid until {end:%Y-%m-%d}")


def make_bundle() -> None:
    """Write what Airflow trusts: the public authorities, yours (EXTRA_CA_FILE) and the emulator's."""
    import certifi

    extra = os.environ.get("EXTRA_CA_FILE")
    parts = [Path(certifi.where()), TLS / "ca.pem", *([Path(extra)] if extra else [])]
    write(AIRFLOW / "ca-bundle.pem", b"\n".join(part.read_bytes() for part in parts), 0o444)


def hand_out() -> None:
    """Give each service what it may read, and nothing that it no longer may."""
    for service, names in READERS.items():
        volume = HOME / f"secrets-{service}"
        wanted = {*names, "ca-bundle.pem"}
        for name in wanted:
            write(volume / name, (AIRFLOW / name).read_bytes(), 0o440)
        for other in volume.iterdir():
            if other.name not in wanted:
                other.unlink()


if __name__ == "__main__":
    make_secrets()
    make_certificate()
    make_bundle()
    hand_out()
    print("secrets and certificate are there")
