"""The control API for tests, and the token endpoint. None of it needs a token or counts as a request."""

from __future__ import annotations

import math
from typing import Any
from urllib.parse import parse_qsl

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from airflow_tuning_provider.emulator.auth import GRANT_TYPES, JWT_BEARER, Tokens
from airflow_tuning_provider.emulator.clock import now
from airflow_tuning_provider.emulator.errors import invalid_argument
from airflow_tuning_provider.emulator.faults import Faults
from airflow_tuning_provider.emulator.jobs import Jobs, Lag
from airflow_tuning_provider.emulator.protojson import load_json
from airflow_tuning_provider.emulator.recorder import RequestLog
from airflow_tuning_provider.emulator.resources import shown, tuning_job
from airflow_tuning_provider.emulator.seeds import Seed

_MAX_SECONDS = 1e9
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

    _add_job_routes(router, jobs)
    return router


def _add_job_routes(router: APIRouter, jobs: Jobs) -> None:
    @router.get("/jobs")
    async def all_jobs() -> Response:
        return JSONResponse({"jobs": list(jobs.all())})

    @router.post("/jobs")
    async def seed(request: Request) -> Response:
        given = Seed.parse(_object(await request.body(), "parent", "job", "count"))
        records = given.records(jobs.settings.speed)
        jobs.seed(records)
        return JSONResponse({"names": [job.name for job in records]})

    @router.post("/jobs/{id_}/overlay")
    async def overlay(id_: str, request: Request) -> Response:
        fields = _object(await request.body(), "fields").get("fields")
        if not isinstance(fields, dict):
            raise invalid_argument(f"fields: must be an object, got {fields!r}.")
        return JSONResponse(shown(jobs.set_overlay(id_, fields), now(), "v1beta1"))

    @router.post("/jobs/{id_}/quality")
    async def set_quality(id_: str, request: Request) -> Response:
        body = _object(await request.body(), "quality", "pairs")
        jobs.set_quality(id_, _share(body.get("quality")), _pairs(body.get("pairs")))
        return JSONResponse({})

    @router.post("/lag")
    async def lag(request: Request) -> Response:
        body = _object(await request.body(), *Lag.__dataclass_fields__)
        jobs.lag = Lag(
            _seconds(body, "list_seconds"),
            _seconds(body, "get_seconds"),
            _seconds(body, "list_state_seconds", for_ever=False),
        )
        return JSONResponse({})

    @router.post("/cancel")
    async def cancel_takes(request: Request) -> Response:
        body = _object(await request.body(), "seconds")
        if "seconds" not in body:
            raise invalid_argument("seconds: missing; null for ever.")
        jobs.cancel_seconds = _seconds(body, "seconds")
        return JSONResponse({})

    @router.post("/jobs/{id_}/state")
    async def set_state(id_: str, request: Request) -> Response:
        state, error = _state_body(_object(await request.body(), "state", "error"))
        return JSONResponse(tuning_job(jobs.set_state(id_, state, error), now()))


def _since(text: str) -> int:
    if not text.isascii() or not text.isdigit():
        raise invalid_argument(f"since: must be a sequence number, got {text!r}.")
    return int(text)


def _object(raw: bytes, *known: str) -> dict[str, Any]:
    """Read a body that is an object with the known fields only."""
    body = load_json(raw)
    if not isinstance(body, dict):
        raise invalid_argument(f"The body must be a JSON object with {', '.join(known)}.")
    for key in body:
        if key not in known:
            raise invalid_argument(f"{key}: unknown field; known are {', '.join(known)}.")
    return body


def _seconds(body: dict[str, Any], key: str, *, for_ever: bool = True) -> float:
    """Read a duration: 0 where it is left out; null is infinity."""
    value = body.get(key, 0)
    if value is None and for_ever:
        return math.inf
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or not 0 <= value <= _MAX_SECONDS:
        null = ", or null for ever" if for_ever else ""
        raise invalid_argument(
            f"{key}: must be a number of seconds up to {_MAX_SECONDS:g}{null}, got {value!r}."
        )
    return float(value)


def _share(value: Any) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 1:
        raise invalid_argument(f"quality: must be a number from 0 to 1, or null, got {value!r}.")
    return float(value)


def _pairs(value: Any) -> list[tuple[str, str]] | None:
    if value is None:
        return None
    pairs = [tuple(pair) for pair in value if isinstance(pair, list)] if isinstance(value, list) else []
    fit = all(len(pair) == 2 and all(isinstance(text, str) for text in pair) for pair in pairs)
    if not pairs or not fit or len(pairs) != len(value):
        raise invalid_argument("pairs: must be a list of [question, answer].")
    return [(pair[0], pair[1]) for pair in pairs]


def _state_body(body: dict[str, Any]) -> tuple[str, dict[str, Any] | None]:
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
