"""The control API for tests, and the token endpoint. None of it needs a token or counts as a request."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qsl

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from airflow_tuning_provider.emulator.auth import GRANT_TYPES, JWT_BEARER, Tokens
from airflow_tuning_provider.emulator.clock import now
from airflow_tuning_provider.emulator.errors import invalid_argument
from airflow_tuning_provider.emulator.faults import Faults
from airflow_tuning_provider.emulator.jobs import Jobs
from airflow_tuning_provider.emulator.protojson import load_json
from airflow_tuning_provider.emulator.recorder import RequestLog
from airflow_tuning_provider.emulator.resources import tuning_job

_STATUS_FIELDS = {"code": int, "message": str, "details": list}


def control_router(jobs: Jobs, log: RequestLog, faults: Faults, tokens: Tokens) -> APIRouter:
    """Return the routes under /_emulator."""
    router = APIRouter(prefix="/_emulator")

    @router.get("/health")
    async def health() -> Response:
        return JSONResponse({"status": "ok", "speed": jobs.settings.speed})

    @router.get("/requests")
    async def requests(request: Request) -> Response:
        return JSONResponse(log.since(_since(request.query_params.get("since", "0"))))

    @router.get("/jobs")
    async def all_jobs() -> Response:
        return JSONResponse({"jobs": list(jobs.all())})

    @router.post("/jobs/{id_}/state")
    async def set_state(id_: str, request: Request) -> Response:
        state, error = _state_body(load_json(await request.body()))
        return JSONResponse(tuning_job(jobs.set_state(id_, state, error), now()))

    @router.post("/faults")
    async def add_fault(request: Request) -> Response:
        return JSONResponse(faults.add(load_json(await request.body())).describe())

    @router.get("/faults")
    async def list_faults() -> Response:
        return JSONResponse({"faults": [fault.describe() for fault in faults.rules]})

    @router.delete("/faults")
    async def delete_faults() -> Response:
        faults.clear()
        return JSONResponse({})

    @router.post("/reset")
    async def reset() -> Response:
        jobs.reset()
        faults.clear()
        log.clear()
        return JSONResponse({})

    @router.post("/token")
    async def token(request: Request) -> Response:
        return _token_response(tokens, dict(parse_qsl((await request.body()).decode("latin-1"))))

    return router


def _since(text: str) -> int:
    if not text.isascii() or not text.isdigit():
        raise invalid_argument(f"since: must be a sequence number, got {text!r}.")
    return int(text)


def _state_body(body: Any) -> tuple[str, dict[str, Any] | None]:
    if not isinstance(body, dict):
        raise invalid_argument("The body must be a JSON object with state and, optionally, error.")
    for key in body:
        if key not in ("state", "error"):
            raise invalid_argument(f"{key}: unknown field; known are state, error.")
    state, error = body.get("state"), body.get("error")
    if not isinstance(state, str) or not state:
        raise invalid_argument(f"state: must be a job state such as JOB_STATE_RUNNING, got {state!r}.")
    if error is not None:
        if not isinstance(error, dict) or not error:
            raise invalid_argument(f"error: must be an object with code and message, got {error!r}.")
        for key, value in error.items():
            kind = _STATUS_FIELDS.get(key)
            if kind is None or not isinstance(value, kind):
                raise invalid_argument(
                    f"error: {key}: not a field of google.rpc.Status, or of the wrong type."
                )
    return state, error


def _token_response(tokens: Tokens, form: dict[str, str]) -> Response:
    """Answer as Google's OAuth 2.0 token endpoint does: another error format than the API's."""
    grant = form.get("grant_type", "")
    if grant not in GRANT_TYPES:
        return _oauth_error("unsupported_grant_type", f"Invalid grant_type: {grant}")
    if grant == JWT_BEARER and not form.get("assertion"):
        return _oauth_error("invalid_request", "Missing required parameter: assertion")
    return JSONResponse(
        {"access_token": tokens.issue(), "expires_in": int(tokens.lifetime), "token_type": "Bearer"}
    )


def _oauth_error(error: str, description: str) -> Response:
    return JSONResponse({"error": error, "error_description": description}, 400)
