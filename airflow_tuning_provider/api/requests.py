"""Every call on the tuning API as a value: method, path, query, body.

Source: the ``tuningJobs`` methods of the discovery documents v1 and v1beta1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, urlencode

from airflow_tuning_provider.api import names
from airflow_tuning_provider.api.inputs import InvalidInputError, as_int

API_VERSIONS = ("v1", "v1beta1")


@dataclass(frozen=True)
class ApiRequest:
    """One call.

    :param method: HTTP verb.
    :param path: path below the base URL, without the API version.
    :param location: the location that decides the host.
    :param query: query parameters.
    :param body: JSON body, ``None`` for none.
    :param repeatable: whether sending it twice does no more than sending it once.
    :param what: the call in words, for messages.
    """

    method: str
    path: str
    location: str
    what: str
    query: Mapping[str, str] = field(default_factory=dict)
    body: Mapping[str, Any] | None = None
    repeatable: bool = True

    def url(self, base_url: str, api_version: str) -> str:
        """Return the URL below ``base_url`` for ``api_version``."""
        path = quote(self.path, safe="/:@")
        # JSON may carry half a surrogate pair, as in a page token; a URL cannot.
        query = f"?{urlencode(self.query, errors='replace')}" if self.query else ""
        return f"{base_url}/{api_version}/{path}{query}"


def validate_api_version(value: object) -> str:
    """Return ``value`` if it is an API version that this provider speaks.

    :raises InvalidInputError: if it is not.
    """
    if value in API_VERSIONS:
        return str(value)
    raise InvalidInputError("api_version", value, f"give one of {', '.join(API_VERSIONS)}")


def create_tuning_job(project: str | None, location: str | None, body: Mapping[str, Any]) -> ApiRequest:
    """``POST {parent}/tuningJobs``: not repeatable, the API has no request id.

    :param project: project to create the job in.
    :param location: location to create the job in.
    :param body: the TuningJob, checked.
    :raises InvalidInputError: if project or location is none.
    """
    parent = names.parent(project, location)
    return ApiRequest(
        "POST",
        f"{parent}/tuningJobs",
        str(location),
        f"create a tuning job in {parent}",
        body=body,
        repeatable=False,
    )


def get_tuning_job(name: names.TuningJobName) -> ApiRequest:
    """``GET {name}``."""
    return ApiRequest("GET", str(name), name.location, f"get {name}")


def list_tuning_jobs(
    project: str | None,
    location: str | None,
    *,
    filter: str | None = None,
    page_size: int | None = None,
    page_token: str | None = None,
    fields: str | None = None,
) -> ApiRequest:
    """``GET {parent}/tuningJobs``, one page.

    :param project: project to list.
    :param location: location to list.
    :param filter: the API's list filter.
    :param page_size: jobs for the page, 1 to 1000; default: the service's.
    :param page_token: ``nextPageToken`` of the page before.
    :param fields: partial response, see https://cloud.google.com/apis/docs/system-parameters
    :raises InvalidInputError: if a value cannot be sent.
    """
    parent = names.parent(project, location)
    size = None if page_size is None else as_int(page_size)
    if page_size is not None and (size is None or not 0 < size <= 1000):
        raise InvalidInputError("page_size", page_size, "give a whole number from 1 to 1000")
    query = {
        "filter": filter,
        "pageSize": None if size is None else str(size),
        "pageToken": page_token,
        "fields": fields,
    }
    return ApiRequest(
        "GET",
        f"{parent}/tuningJobs",
        str(location),
        f"list tuning jobs in {parent}",
        query={key: value for key, value in query.items() if value},
    )


def cancel_tuning_job(name: names.TuningJobName) -> ApiRequest:
    """``POST {name}:cancel``: asynchronous and best effort; repeating it does no harm."""
    return ApiRequest("POST", f"{name}:cancel", name.location, f"cancel {name}", body={})


def rebase_tuned_model(project: str | None, location: str | None, body: Mapping[str, Any]) -> ApiRequest:
    """``POST {parent}/tuningJobs:rebaseTunedModel``, which answers with a long-running operation.

    :param project: project of the new job.
    :param location: location of the new job.
    :param body: the RebaseTunedModelRequest.
    :raises InvalidInputError: if project or location is none.
    """
    parent = names.parent(project, location)
    return ApiRequest(
        "POST",
        f"{parent}/tuningJobs:rebaseTunedModel",
        str(location),
        f"rebase a tuned model in {parent}",
        body=body,
        repeatable=False,
    )


def get_operation(name: names.OperationName) -> ApiRequest:
    """``GET {name}`` of a long-running operation."""
    return ApiRequest("GET", str(name), name.location, f"get {name}")


def cancel_operation(name: names.OperationName) -> ApiRequest:
    """``POST {name}:cancel`` of a long-running operation."""
    return ApiRequest("POST", f"{name}:cancel", name.location, f"cancel {name}", body={})


def generate_content(
    model: names.EndpointName | names.PublisherModelName, body: Mapping[str, Any]
) -> ApiRequest:
    """``POST {model}:generateContent``; the host follows the location inside the model's name.

    :param model: what to call.
    :param body: the GenerateContentRequest.
    """
    return ApiRequest(
        "POST", f"{model}:generateContent", model.location, f"generate content with {model}", body=body
    )
