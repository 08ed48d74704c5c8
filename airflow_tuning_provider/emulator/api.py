"""The routes of the Vertex AI API that this server knows."""

from __future__ import annotations

import html
import json
from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, Response

from airflow_tuning_provider.emulator.auth import Tokens
from airflow_tuning_provider.emulator.errors import ApiError, bad_request, invalid_argument
from airflow_tuning_provider.emulator.fieldmask import apply_mask, parse_mask
from airflow_tuning_provider.emulator.inference import Inference
from airflow_tuning_provider.emulator.jobs import Jobs
from airflow_tuning_provider.emulator.metrics import evaluate
from airflow_tuning_provider.emulator.operations import Operations
from airflow_tuning_provider.emulator.protojson import load_json, parse
from airflow_tuning_provider.emulator.registry_api import Registry, add_registry_routes
from airflow_tuning_provider.emulator.resources import tuning_job
from airflow_tuning_provider.emulator.schema import camel_case

VERSIONS = ("v1", "v1beta1")
_PARENT = "/{version}/projects/{project}/locations/{location}"
_JOBS = _PARENT + "/tuningJobs"
_JOB = _JOBS + "/{job}"
_OPERATION = _JOB + "/operations/{operation}"

# Every Google API takes these; a name that starts with "$" is a system parameter too.
_SYSTEM_PARAMETERS = frozenset(
    {"alt", "fields", "prettyPrint", "key", "quotaUser", "access_token", "oauth_token", "callback"}
    | {"uploadType", "upload_protocol", "userIp", "userProject"}
)
_LIST_PARAMETERS = ("filter", "pageSize", "pageToken", "returnPartialSuccess")


class Json(Response):
    """A JSON response with Google's content type."""

    def __init__(self, content: Any, status_code: int = 200, headers: dict[str, str] | None = None) -> None:
        body = json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode()
        super().__init__(body, status_code, headers, "application/json; charset=UTF-8")


def error_response(error: ApiError) -> Response:
    """Return an error in Google's envelope."""
    return Json(error.body(), error.http, error.headers)


def page_not_found(path: str) -> Response:
    """Answer for a URL that no API has: as Google's front end, in HTML and not in the envelope."""
    text = f"The requested URL <code>{html.escape(path)}</code> was not found on this server."
    return HTMLResponse(
        f"<!DOCTYPE html><html lang=en><title>Error 404 (Not Found)!!1</title><p>404. {text}</p></html>", 404
    )


class _Call:
    """One request's path, query and body, checked."""

    def __init__(self, request: Request, raw: bytes, response: str, allowed: tuple[str, ...]) -> None:
        parameters = request.path_params
        self.version: str = parameters["version"]
        self.project: str = parameters["project"]
        self.location: str = parameters["location"]
        self.raw = raw
        self.query = _query(request, allowed)
        # Before anything is done: a request with a bad mask has no effect.
        self.mask = parse_mask(_fields(request), response, self.version) if response else None

    def answer(self, content: dict[str, Any]) -> Response:
        """Return a response with what is wanted of the content."""
        return Json(apply_mask(self.mask, content))

    def body(self, message: str, path: str = "") -> dict[str, Any]:
        return parse(message, load_json(self.raw), self.version, path)


# Checks the credentials and the query of a request; takes the name of the response's message (none for an
# empty one) and the names of the query parameters allowed.
_Caller = Callable[..., Awaitable[_Call]]


def _query(request: Request, allowed: tuple[str, ...]) -> dict[str, str]:
    query = {}
    for name, value in request.query_params.items():
        if name.startswith("$") or name in _SYSTEM_PARAMETERS:
            continue
        if camel_case(name) not in allowed:
            text = (
                f'Invalid JSON payload received. Unknown name "{name}": Cannot bind query parameter. '
                f"Field '{name}' could not be found in request message."
            )
            raise bad_request([("", text)])
        query[camel_case(name)] = value
    return query


def _fields(request: Request) -> str:
    query = request.query_params
    return query.get("$fields") or query.get("fields") or request.headers.get("x-goog-fieldmask", "")


def _check_empty(call: _Call) -> None:
    """A cancel has no fields: no body, or an empty object."""
    body = load_json(call.raw)
    if not isinstance(body, dict):
        raise invalid_argument("Invalid JSON payload received. Expected an object.")
    for key in body:
        text = f'Invalid JSON payload received. Unknown name "{key}": Cannot find field.'
        raise bad_request([("", text)])


def api_router(
    jobs: Jobs, operations: Operations, inference: Inference, registry: Registry, tokens: Tokens
) -> APIRouter:
    """Return the API's routes. Each checks the credentials first, as Google's front end does."""
    router = APIRouter()

    async def call(request: Request, response: str = "", *allowed: str) -> _Call:
        tokens.check(request.headers.get("authorization"))
        return _Call(request, await request.body(), response, allowed)

    _add_job_routes(router, call, jobs, operations)
    _add_operation_routes(router, call, operations)
    _add_inference_routes(router, call, inference)
    add_registry_routes(router, call, registry)
    return router


def _add_job_routes(router: APIRouter, call: _Caller, jobs: Jobs, operations: Operations) -> None:
    @router.post(_JOBS)
    async def create(request: Request) -> Response:
        c = await call(request, "TuningJob")
        job = jobs.create(c.project, c.location, c.body("TuningJob", "tuning_job"))
        return c.answer(tuning_job(job, job.created, c.version))

    @router.get(_JOBS)
    async def list_jobs(request: Request) -> Response:
        c = await call(request, "ListTuningJobsResponse", *_LIST_PARAMETERS[:3])
        return c.answer(jobs.list(c.project, c.location, c.query, c.version, c.mask))

    @router.post(_JOBS + ":rebaseTunedModel")
    async def rebase(request: Request) -> Response:
        c = await call(request, "Operation")
        return c.answer(
            operations.rebase(c.project, c.location, c.body("RebaseTunedModelRequest"), c.version)
        )

    @router.get(_JOB)
    async def get(request: Request, job: str) -> Response:
        c = await call(request, "TuningJob")
        return c.answer(jobs.get(c.project, c.location, job, c.version, c.mask))

    @router.post(_JOB + ":cancel")
    async def cancel(request: Request, job: str) -> Response:
        c = await call(request)
        _check_empty(c)
        jobs.cancel(jobs.find(c.project, c.location, job))
        return Json({})


def _add_operation_routes(router: APIRouter, call: _Caller, operations: Operations) -> None:
    @router.get(_JOB + "/operations")
    async def list_operations(request: Request, job: str) -> Response:
        c = await call(request, "ListOperationsResponse", *_LIST_PARAMETERS)
        return c.answer(operations.list(c.project, c.location, job, c.version))

    @router.get(_OPERATION)
    async def get_operation(request: Request, job: str, operation: str) -> Response:
        c = await call(request, "Operation")
        return c.answer(operations.get(c.project, c.location, job, operation, c.version))

    @router.delete(_OPERATION)
    async def delete_operation(request: Request, job: str, operation: str) -> Response:
        c = await call(request)
        operations.delete(c.project, c.location, job, operation)
        return Json({})

    @router.post(_OPERATION + ":cancel")
    async def cancel_operation(request: Request, job: str, operation: str) -> Response:
        c = await call(request)
        _check_empty(c)
        operations.cancel(c.project, c.location, job, operation)
        return Json({})

    @router.post(_OPERATION + ":wait")
    async def wait_operation(request: Request, job: str, operation: str) -> Response:
        c = await call(request, "Operation", "timeout")
        timeout = c.query.get("timeout", "")
        return c.answer(await operations.wait(c.project, c.location, job, operation, timeout, c.version))


def _add_inference_routes(router: APIRouter, call: _Caller, inference: Inference) -> None:
    @router.post(_PARENT + "/publishers/{publisher}/models/{model}:generateContent")
    async def generate_from_model(request: Request, model: str) -> Response:
        c = await call(request, "GenerateContentResponse")
        body = c.body("GenerateContentRequest")
        return c.answer(await inference.publisher_model(c.project, c.location, model, body))

    @router.post(_PARENT + "/endpoints/{endpoint}:generateContent")
    async def generate_from_endpoint(request: Request, endpoint: str) -> Response:
        c = await call(request, "GenerateContentResponse")
        body = c.body("GenerateContentRequest")
        return c.answer(await inference.endpoint(c.project, c.location, endpoint, body))

    @router.post(_PARENT + "/publishers/{publisher}/models/{model}:countTokens")
    async def count_tokens_for_model(request: Request, model: str) -> Response:
        c = await call(request, "CountTokensResponse")
        return c.answer(
            inference.count_tokens(c.project, c.location, c.body("CountTokensRequest"), model=model)
        )

    @router.post(_PARENT + "/endpoints/{endpoint}:countTokens")
    async def count_tokens_for_endpoint(request: Request, endpoint: str) -> Response:
        c = await call(request, "CountTokensResponse")
        body = c.body("CountTokensRequest")
        return c.answer(inference.count_tokens(c.project, c.location, body, endpoint=endpoint))

    @router.post(_PARENT + ":evaluateInstances")
    async def evaluate_instances(request: Request) -> Response:
        c = await call(request, "EvaluateInstancesResponse")
        return c.answer(evaluate(c.body("EvaluateInstancesRequest")))

    @router.post(_PARENT + "/models/{model}:generateContent")
    async def generate_from_tuned_model(request: Request, model: str) -> Response:
        c = await call(request)
        raise inference.not_an_endpoint(c.project, c.location, model)
