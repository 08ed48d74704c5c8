"""The server's options."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Settings:
    """What the command line sets."""

    host: str = "127.0.0.1"
    port: int = 8099
    port_file: Path | None = None
    speed: float = 1.0
    state: Path | None = None
    concurrent_jobs: int | None = None
    over_quota: str = "queue"
    token: str | None = None
    token_lifetime: float = 3600.0
    datasets: str = "auto"
    read_datasets: bool = False
    retired_models: str = "accept"
    allow_remote: bool = False
    tls_cert: Path | None = None
    tls_key: Path | None = None
