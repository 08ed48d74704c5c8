"""Bearer tokens: which are accepted, and a token endpoint that issues ones that expire."""

from __future__ import annotations

import hashlib
import hmac
import secrets

from airflow_tuning_provider.emulator.clock import now
from airflow_tuning_provider.emulator.errors import unauthenticated

JWT_BEARER = "urn:ietf:params:oauth:grant-type:jwt-bearer"
GRANT_TYPES = (JWT_BEARER, "refresh_token", "client_credentials")
_PREFIX = "ya29.emulator."


class Tokens:
    """Issues and checks access tokens. An issued token carries its own expiry, signed, so none is stored."""

    def __init__(self, key: str, only: str | None = None, lifetime: float = 3600) -> None:
        self._key = key.encode()
        self._only = only
        self.lifetime = lifetime

    def issue(self) -> str:
        """Return a new access token."""
        payload = f"{int((now() + self.lifetime) * 1000)}.{secrets.token_hex(8)}"
        return f"{_PREFIX}{payload}.{self._sign(payload)}"

    def check(self, authorization: str | None) -> None:
        """Raise Google's 401 unless the Authorization header carries an acceptable token."""
        scheme, _, token = (authorization or "").partition(" ")
        token = token.strip()
        if scheme.lower() != "bearer" or not token:
            raise unauthenticated("CREDENTIALS_MISSING")
        if token.startswith(_PREFIX):
            self._check_issued(token)
        elif self._only is not None and not hmac.compare_digest(token.encode(), self._only.encode()):
            raise unauthenticated("ACCESS_TOKEN_TYPE_UNSUPPORTED")

    def _check_issued(self, token: str) -> None:
        payload, _, signature = token.removeprefix(_PREFIX).rpartition(".")
        if not hmac.compare_digest(signature.encode(), self._sign(payload).encode()):
            raise unauthenticated("ACCESS_TOKEN_TYPE_UNSUPPORTED")
        if int(payload.partition(".")[0]) <= now() * 1000:
            raise unauthenticated("ACCESS_TOKEN_EXPIRED")

    def _sign(self, payload: str) -> str:
        return hmac.new(self._key, payload.encode(), hashlib.sha256).hexdigest()[:32]
