"""The command line: ``python -m airflow_tuning_provider.emulator``."""

from __future__ import annotations

import argparse
import importlib.util
import ipaddress
import math
import ssl
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from airflow_tuning_provider.emulator import datasets
from airflow_tuning_provider.emulator.server import listen, run
from airflow_tuning_provider.emulator.settings import Settings
from airflow_tuning_provider.emulator.store import StateFileError, Store

_DEFAULTS = Settings()
_REAL_DATA = (
    "without STORAGE_EMULATOR_HOST they would be read from Google Cloud with your own credentials, for anyone who "
    "reaches this server; give --token to allow it for those who know the token"
)


def parser() -> argparse.ArgumentParser:
    """Return the argument parser."""
    p = argparse.ArgumentParser(
        "python -m airflow_tuning_provider.emulator",
        description="A local Vertex AI tuning server, for demos and tests.",
    )
    p.add_argument("--host", default=_DEFAULTS.host, help="address to listen on (default: %(default)s)")
    p.add_argument(
        "--port",
        type=_number("--port", int, 0, 65535),
        default=_DEFAULTS.port,
        help="port to listen on, 0 for any free one (default: %(default)s)",
    )
    p.add_argument("--port-file", type=Path, metavar="PATH", help="write the port here once listening")
    p.add_argument(
        "--speed",
        type=_number("--speed", float, 0, math.inf, above=True),
        default=_DEFAULTS.speed,
        metavar="N",
        help="how many times faster than Google jobs run; 1 is minutes pending and half an hour or more "
        "running (default: 1)",
    )
    p.add_argument(
        "--state", type=Path, metavar="PATH", help="SQLite file to keep jobs in; in memory without it"
    )
    p.add_argument(
        "--concurrent-jobs",
        type=_number("--concurrent-jobs", int, 1, 1_000_000),
        metavar="N",
        help="how many jobs of a project run at a time (default: any number)",
    )
    p.add_argument(
        "--over-quota",
        choices=("queue", "reject"),
        default=_DEFAULTS.over_quota,
        help="what happens to a job beyond --concurrent-jobs: it waits, or create answers 429 "
        "(default: %(default)s)",
    )
    p.add_argument("--token", metavar="T", help="accept only this bearer token (default: any non-empty one)")
    p.add_argument(
        "--token-lifetime",
        type=_number("--token-lifetime", float, 0, math.inf, above=True),
        default=_DEFAULTS.token_lifetime,
        metavar="SECONDS",
        help="how long a token of /_emulator/token is good for (default: 3600)",
    )
    p.add_argument(
        "--datasets",
        choices=("auto", "read", "skip"),
        default=_DEFAULTS.datasets,
        help="whether to read the gs:// data sets; auto reads them when STORAGE_EMULATOR_HOST is set, "
        "or Google credentials are found and --token is given (default: %(default)s)",
    )
    p.add_argument(
        "--retired-models",
        choices=("accept", "refuse"),
        default=_DEFAULTS.retired_models,
        help="whether base models that Google has retired are accepted, with a word in the log, or refused as "
        "Google does today (default: %(default)s)",
    )
    p.add_argument(
        "--allow-remote",
        action="store_true",
        help="allow a --host that other machines can reach; the control API has no authentication",
    )
    p.add_argument(
        "--tls-cert",
        type=Path,
        metavar="FILE",
        help="speak https with this certificate (PEM, with its chain); needs --tls-key",
    )
    p.add_argument("--tls-key", type=Path, metavar="FILE", help="the certificate's private key (PEM)")
    return p


def _number(
    option: str, kind: Callable[[str], Any], low: float, high: float, *, above: bool = False
) -> Callable[[str], Any]:
    if above:
        allowed = f"a number above {low:g}"
    else:
        allowed = f"a whole number from {low:g} to {high:g}" if kind is int else f"from {low:g} to {high:g}"

    def convert(text: str) -> Any:
        try:
            value = kind(text)
        except ValueError:
            value = math.nan
        good = math.isfinite(value) and low <= value <= high and not (above and value == low)
        if not good:
            raise argparse.ArgumentTypeError(f"got {text!r}, but {option} must be {allowed}")
        return value

    return convert


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def settings_from(arguments: Sequence[str] | None) -> tuple[argparse.ArgumentParser, Settings]:
    """Parse and check the command line; a bad one ends the process with a message."""
    p = parser()
    values = p.parse_args(arguments)
    if not _is_loopback(values.host) and not values.allow_remote:
        p.error(
            f"argument --host: {values.host!r} is not a loopback address. Anyone who reaches the server can "
            "control it (/_emulator needs no token); give --allow-remote if that is what you want"
        )
    if values.token is not None and not values.token.strip():
        p.error("argument --token: got an empty value; give the token to accept, or leave the option out")
    _check_tls(p, values.tls_cert, values.tls_key)
    read = values.datasets == "read" or (values.datasets == "auto" and datasets.can_read())
    if read and values.token is None and not datasets.is_emulated():
        if values.datasets == "read":
            p.error(f"argument --datasets: {_REAL_DATA}; or set STORAGE_EMULATOR_HOST")
        print(f"Data sets are not read: {_REAL_DATA}. Statistics are made up.", file=sys.stderr, flush=True)
        values.datasets, read = "skip", False
    if read and not _has_storage_client():
        if values.datasets == "read":
            p.error(
                "argument --datasets: 'read' needs google-cloud-storage: "
                "pip install 'airflow-tuning-provider[gcs]'; auto and skip work without it"
            )
        read = False
    return p, Settings(**vars(values), read_datasets=read)


def _check_tls(p: argparse.ArgumentParser, cert: Path | None, key: Path | None) -> None:
    if (cert is None) != (key is None):
        p.error("argument --tls-cert/--tls-key: one does not work without the other")
    if cert is None or key is None:
        return

    def no_password() -> str:
        raise ValueError("the key is encrypted")

    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(cert, key, no_password)
    except (OSError, ValueError) as e:
        reason = getattr(e, "reason", None) or getattr(e, "strerror", None) or e
        p.error(f"argument --tls-cert/--tls-key: cannot use {cert} with {key}: {reason}")


def _has_storage_client() -> bool:
    try:
        return importlib.util.find_spec("google.cloud.storage") is not None
    except ModuleNotFoundError:
        return False


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the server until it is told to stop."""
    p, settings = settings_from(arguments)
    if settings.datasets == "auto" and not settings.read_datasets:
        print(
            "Data sets are not read: neither STORAGE_EMULATOR_HOST nor Google credentials (with "
            "google-cloud-storage) were found. Statistics are made up; --datasets read makes this an error.",
            file=sys.stderr,
            flush=True,
        )
    try:
        store = Store(settings.state)
    except StateFileError as e:
        p.error(f"argument --state: {e}")
    try:
        sock = listen(settings.host, settings.port)
    except OSError as e:
        store.close()
        p.error(
            f"argument --host/--port: cannot listen on {settings.host}:{settings.port}: {e.strerror or e}"
        )
    run(settings, store, sock)
    return 0
