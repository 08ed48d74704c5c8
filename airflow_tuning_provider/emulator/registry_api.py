"""The routes of models, endpoints and their operations."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response

from airflow_tuning_provider.emulator.endpoints import Endpoints
from airflow_tuning_provider.emulator.longrunning import LongRunning
from airflow_tuning_provider.emulator.tuned_models import TunedModels

_PARENT = "/{version}/projects/{project}/locations/{location}"
_MODELS = _PARENT + "/models"
_MODEL = _MODELS + "/{model}"
_ENDPOINTS = _PARENT + "/endpoints"
_ENDPOINT = _ENDPOINTS + "/{endpoint}"
_LIST = ("filter", "orderBy", "pageSize", "pageToken", "readMask")

# See api.py: checks credentials and query; takes the response's message and the query parameters allowed.
Caller = Callable[..., Awaitable[Any]]


@dataclass(frozen=True)
class Registry:
    """What answers for models, endpoints and their operations."""

    models: TunedModels
    endpoints: Endpoints
    operations: LongRunning


def add_registry_routes(router: APIRouter, call: Caller, registry: Registry) -> None:
    """Add the routes of models and endpoints."""
    _add_model_reads(router, call, registry.models)
    _add_model_writes(router, call, registry.models)
    _add_endpoint_routes(router, call, registry.endpoints)
    for collection in ("models", "endpoints"):
        _add_operation_routes(router, call, registry.operations, collection)


def _add_model_reads(router: APIRouter, call: Caller, models: TunedModels) -> None:
    @router.get(_MODELS)
    async def list_models(request: Request) -> Response:
        c = await call(request, "ListModelsResponse", *_LIST)
        answer: Response = c.answer(models.list(c.project, c.location, c.query, c.version))
        return answer

    # Before the model itself, whose name may be anything.
    @router.get(_MODEL + ":listVersions")
    async def list_versions(request: Request, model: str) -> Response:
        c = await call(request, "ListModelVersionsResponse", *_LIST)
        answer: Response = c.answer(models.versions(c.project, c.location, model, c.query, c.version))
        return answer

    @router.get(_MODEL + ":listCheckpoints")
    async def list_checkpoints(request: Request, model: str) -> Response:
        c = await call(request, "ListModelVersionCheckpointsResponse", "pageSize", "pageToken")
        answer: Response = c.answer(models.checkpoints(c.project, c.location, model, c.query))
        return answer

    @router.get(_MODEL)
    async def get_model(request: Request, model: str) -> Response:
        c = await call(request, "Model")
        answer: Response = c.answer(models.get(c.project, c.location, model))
        return answer


def _add_model_writes(router: APIRouter, call: Caller, models: TunedModels) -> None:
    @router.post(_MODEL + ":mergeVersionAliases")
    async def merge_version_aliases(request: Request, model: str) -> Response:
        c = await call(request, "Model")
        body = c.body("MergeVersionAliasesRequest")
        answer: Response = c.answer(models.merge_aliases(c.project, c.location, model, body))
        return answer

    @router.patch(_MODEL)
    async def patch_model(request: Request, model: str) -> Response:
        c = await call(request, "Model", "updateMask")
        body, mask = c.body("Model", "model"), c.query.get("updateMask", "")
        answer: Response = c.answer(models.patch(c.project, c.location, model, body, mask))
        return answer

    @router.delete(_MODEL + ":deleteVersion")
    async def delete_version(request: Request, model: str) -> Response:
        c = await call(request, "Operation")
        answer: Response = c.answer(models.delete_version(c.project, c.location, model, c.version))
        return answer

    @router.delete(_MODEL)
    async def delete_model(request: Request, model: str) -> Response:
        c = await call(request, "Operation")
        answer: Response = c.answer(models.delete(c.project, c.location, model, c.version))
        return answer


def _add_endpoint_routes(router: APIRouter, call: Caller, endpoints: Endpoints) -> None:
    @router.get(_ENDPOINTS)
    async def list_endpoints(request: Request) -> Response:
        c = await call(request, "ListEndpointsResponse", *_LIST, "gdcZone")
        answer: Response = c.answer(endpoints.list(c.project, c.location, c.query, c.version))
        return answer

    @router.get(_ENDPOINT)
    async def get_endpoint(request: Request, endpoint: str) -> Response:
        c = await call(request, "Endpoint")
        answer: Response = c.answer(endpoints.get(c.project, c.location, endpoint))
        return answer

    @router.post(_ENDPOINT + ":undeployModel")
    async def undeploy_model(request: Request, endpoint: str) -> Response:
        c = await call(request, "Operation")
        body = c.body("UndeployModelRequest")
        answer: Response = c.answer(endpoints.undeploy(c.project, c.location, endpoint, body, c.version))
        return answer

    @router.delete(_ENDPOINT)
    async def delete_endpoint(request: Request, endpoint: str) -> Response:
        c = await call(request, "Operation")
        answer: Response = c.answer(endpoints.delete(c.project, c.location, endpoint, c.version))
        return answer


def _add_operation_routes(router: APIRouter, call: Caller, operations: LongRunning, collection: str) -> None:
    path = f"{_PARENT}/{collection}/{{resource}}/operations/{{operation}}"

    @router.get(path)
    async def get_operation(request: Request, resource: str, operation: str) -> Response:
        c = await call(request, "Operation")
        below = f"{collection}/{resource}"
        answer: Response = c.answer(operations.get(c.project, c.location, below, operation, c.version))
        return answer

    @router.post(path + ":wait")
    async def wait_operation(request: Request, resource: str, operation: str) -> Response:
        c = await call(request, "Operation", "timeout")
        below, timeout = f"{collection}/{resource}", c.query.get("timeout", "")
        answer: Response = c.answer(
            await operations.wait(c.project, c.location, below, operation, timeout, c.version)
        )
        return answer
