"""Put the server together."""

from __future__ import annotations

import logging
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request
from fastapi.responses import Response
from starlette.exceptions import HTTPException
from starlette.middleware.gzip import GZipMiddleware

from airflow_tuning_provider.emulator.api import VERSIONS, api_router, error_response, page_not_found
from airflow_tuning_provider.emulator.auth import Tokens
from airflow_tuning_provider.emulator.control import control_router
from airflow_tuning_provider.emulator.endpoints import Endpoints
from airflow_tuning_provider.emulator.errors import ApiError
from airflow_tuning_provider.emulator.faults import Faults
from airflow_tuning_provider.emulator.inference import Inference
from airflow_tuning_provider.emulator.jobs import Jobs
from airflow_tuning_provider.emulator.longrunning import LongRunning
from airflow_tuning_provider.emulator.operations import OPERATIONS_ALIAS, Operations
from airflow_tuning_provider.emulator.recorder import App, Receive, Recorder, RequestLog, Scope, Send
from airflow_tuning_provider.emulator.registry_api import Registry
from airflow_tuning_provider.emulator.settings import Settings
from airflow_tuning_provider.emulator.store import Store
from airflow_tuning_provider.emulator.tuned_models import TunedModels

log = logging.getLogger(__name__)


def create_app(settings: Settings, store: Store) -> App:
    """Return the ASGI application."""
    jobs = Jobs(store, settings)
    tokens = Tokens(store.meta("token_key", secrets.token_hex(16)), settings.token, settings.token_lifetime)
    faults, requests = Faults(), RequestLog()

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        jobs.resume()
        yield
        await jobs.close()
        store.close()

    app = FastAPI(lifespan=lifespan, openapi_url=None, docs_url=None, redoc_url=None, redirect_slashes=False)
    app.include_router(control_router(jobs, requests, faults, tokens))
    # Before the API's routes, whose first segment is a parameter.
    running = LongRunning(store, settings.speed)
    registry = Registry(TunedModels(jobs, running), Endpoints(jobs, running), running)
    app.include_router(api_router(jobs, Operations(jobs), Inference(store, jobs.models), registry, tokens))
    _handle_errors(app)
    return Recorder(_compressed(_only_known_versions(app)), requests, faults)


def _handle_errors(app: FastAPI) -> None:
    @app.exception_handler(ApiError)
    async def refused(_: Request, error: ApiError) -> Response:
        return error_response(error)

    @app.exception_handler(HTTPException)
    async def no_route(request: Request, _: HTTPException) -> Response:
        return page_not_found(request.url.path)

    @app.exception_handler(Exception)
    async def broken(request: Request, error: Exception) -> Response:
        log.error("%s %s failed", request.method, request.url.path, exc_info=error)
        return error_response(ApiError("INTERNAL", "Internal error encountered."))


def _only_known_versions(app: FastAPI) -> App:
    """Keep what is not addressed to a known API version from the routes, which take any."""

    async def versioned(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not _is_known(scope["path"]):
            await page_not_found(scope["path"])(scope, receive, send)
        else:
            await app(scope, receive, send)

    return versioned


def _compressed(app: App) -> App:
    """Compress long answers for who can read them and says so twice, as Google does.

    See https://developers.google.com/discovery/v1/performance: the user agent has to name gzip, too.
    """
    zipping = GZipMiddleware(app, minimum_size=2048, compresslevel=5)

    async def compressed(scope: Scope, receive: Receive, send: Send) -> None:
        named = any(key == b"user-agent" and b"gzip" in value for key, value in scope.get("headers", ()))
        await (zipping if named else app)(scope, receive, send)

    return compressed


def _is_known(path: str) -> bool:
    first = path.split("/", 2)[1]
    # Google's clients ask for an operation under the API version's name or, oddly, under "ui".
    return first in (*VERSIONS, "_emulator") or (first == OPERATIONS_ALIAS and "/operations/" in path)
