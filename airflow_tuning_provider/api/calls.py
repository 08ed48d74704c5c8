"""Every call on the tuning API as one value: what is sent, whether it may be sent twice, how its success is read.

Source: the ``tuningJobs`` methods of the discovery documents v1 and v1beta1.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Generic, TypeVar
from urllib.parse import quote, urlencode

from airflow_tuning_provider.api import names, responses
from airflow_tuning_provider.api.contents import as_contents
from airflow_tuning_provider.api.errors import ApiError
from airflow_tuning_provider.api.inputs import InvalidInputError, as_int
from airflow_tuning_provider.api.protojson import normalize
from airflow_tuning_provider.api.sights import Board, Sights, sights
from airflow_tuning_provider.api.tuning_job import checked

T = TypeVar("T")
Json = dict[str, Any]
Page = tuple[list[Json], "str | None"]

API_VERSIONS = ("v1", "v1beta1")


def _as_is(payload: Json) -> Json:
    return payload


@dataclass(frozen=True)
class Call(Generic[T]):
    """One call.

    :param method: HTTP verb.
    :param path: path below the base URL, without the API version.
    :param location: the location that decides the host.
    :param what: the call in words, for messages.
    :param read: how to read the JSON object of a success.
    :param read_quickly: how to read its bytes, if they are as they should be: else it returns ``None``.
    :param query: query parameters.
    :param body: JSON body, ``None`` for none.
    :param repeatable: whether sending it twice does no more than sending it once.
    """

    method: str
    path: str
    location: str
    what: str
    read: Callable[[Json], T | ApiError]
    query: Mapping[str, str] = field(default_factory=dict)
    body: Mapping[str, Any] | None = None
    repeatable: bool = True
    read_quickly: Callable[[bytes], T | None] | None = None

    def url(self, base_url: str, api_version: str) -> str:
        """Return the URL below ``base_url`` for ``api_version``."""
        path = quote(self.path, safe="/:@")
        # JSON may carry half a surrogate pair, as in a page token; a URL cannot.
        query = f"?{urlencode(self.query, errors='replace')}" if self.query else ""
        return f"{base_url}/{api_version}/{path}{query}"


@dataclass(frozen=True)
class Calls:
    """The calls of one hook; each raises :class:`InvalidInputError` for what cannot be sent.

    :param project: project where a call names none.
    :param location: location where a call names none.
    :param source: what these come from, in words.
    """

    project: str | None
    location: str | None
    source: str = "the Airflow connection"

    def create(self, job: object, project: str | None = None, location: str | None = None) -> Call[Json]:
        """``POST {parent}/tuningJobs``: not repeatable, the API has no request id.

        :param job: the TuningJob, which is checked.
        :param project: project to create it in.
        :param location: location to create it in.
        """
        body = checked(job)
        parent, place = self._parent(project, location)
        what = f"create a tuning job in {parent}"
        path = f"{parent}/tuningJobs"
        return Call("POST", path, place, what, responses.as_tuning_job, body=body, repeatable=False)

    def get(self, name: object) -> Call[Json]:
        """``GET {name}`` of a tuning job, given by its full name or a bare id."""
        job = self._job_name(name)
        return Call("GET", str(job), job.location, f"get {job}", responses.as_tuning_job)

    def page(
        self,
        project: str | None = None,
        location: str | None = None,
        *,
        filter: str | None = None,
        page_size: int | None = None,
        page_token: str | None = None,
        fields: str | None = None,
    ) -> Call[Page]:
        """``GET {parent}/tuningJobs``, one page.

        :param project: project to list.
        :param location: location to list.
        :param filter: the API's list filter.
        :param page_size: jobs for the page, 1 to 1000; default: the service's.
        :param page_token: ``nextPageToken`` of the page before.
        :param fields: partial response, see https://cloud.google.com/apis/docs/system-parameters
        """
        parent, place = self._parent(project, location)
        size = None if page_size is None else as_int(page_size)
        if page_size is not None and (size is None or not 0 < size <= 1000):
            raise InvalidInputError("page_size", page_size, "give a whole number from 1 to 1000")
        query = {
            "filter": filter,
            "pageSize": None if size is None else str(size),
            "pageToken": page_token,
            "fields": fields,
        }
        return Call(
            "GET",
            f"{parent}/tuningJobs",
            place,
            f"list tuning jobs in {parent}",
            partial(responses.as_page, asked=page_token),
            query={key: value for key, value in query.items() if value},
        )

    def sights(
        self,
        project: str,
        location: str,
        board: Board,
        read_quickly: Callable[[bytes, Board, str | None], Sights | None],
        *,
        page_size: int,
        page_token: str | None,
        fields: str | None,
    ) -> Call[Sights]:
        """``GET {parent}/tuningJobs``, one page, of which only what is new counts.

        :param project: project to list.
        :param location: location to list.
        :param board: what is waited for.
        :param read_quickly: reads a page, given its bytes, the board and ``page_token``; ``None`` where it cannot.
        :param page_size: jobs for the page, 1 to 1000.
        :param page_token: ``nextPageToken`` of the page before.
        :param fields: partial response, as of :meth:`page`.
        """
        page = self.page(project, location, page_size=page_size, page_token=page_token, fields=fields)

        def read(payload: Json) -> Sights | ApiError:
            listed = page.read(payload)
            return listed if isinstance(listed, ApiError) else sights(*listed, board)

        return Call(
            page.method,
            page.path,
            page.location,
            page.what,
            read,
            # Google's APIs indent their answers unless they are told not to.
            query={**page.query, "prettyPrint": "false"} if fields else page.query,
            read_quickly=lambda content: read_quickly(content, board, page_token),
        )

    def rebase(self, body: Json, project: str | None = None, location: str | None = None) -> Call[Json]:
        """``POST {parent}/tuningJobs:rebaseTunedModel``, which answers with a long-running operation.

        :param body: the RebaseTunedModelRequest.
        :param project: project of the new job.
        :param location: location of the new job.
        """
        parent, place = self._parent(project, location)
        what = f"rebase a tuned model in {parent}"
        path = f"{parent}/tuningJobs:rebaseTunedModel"
        return Call("POST", path, place, what, responses.as_operation, body=body, repeatable=False)

    def operation(self, name: object) -> Call[Json]:
        """``GET {name}`` of a long-running operation."""
        operation = names.OperationName.parse(name, field="name")
        return Call("GET", str(operation), operation.location, f"get {operation}", responses.as_operation)

    def look(self, name: object) -> Call[Json]:
        """Get a job or an operation, whichever ``name`` names."""
        return self.operation(name) if names.is_operation(name) else self.get(name)

    def cancel(self, name: object) -> Call[Json]:
        """``POST {name}:cancel`` of a job or an operation; asynchronous and best effort, repeating does no harm."""
        target = self.full_name(name)
        return Call("POST", f"{target}:cancel", target.location, f"cancel {target}", _as_is, body={})

    def generate(self, model: object, contents: Any, body: Mapping[str, Any]) -> Call[Json]:
        """``POST {model}:generateContent``; the host follows the location inside the model's name.

        :param model: a tuned endpoint or an untuned model.
        :param contents: a prompt, or the API's ``contents``.
        :param body: further fields of the GenerateContentRequest.
        """
        target = names.model_to_call(model, project=self.project, location=self.location)
        full = {**normalize(body, "generate_content")} if body else {}
        full["contents"] = as_contents(contents)
        what = f"generate content with {target}"
        return Call("POST", f"{target}:generateContent", target.location, what, _as_is, body=full)

    def full_name(self, name: object) -> names.TuningJobName | names.OperationName:
        """Return the full name of a job, which may be given by its bare id, or of an operation."""
        return (
            names.OperationName.parse(name, field="name")
            if names.is_operation(name)
            else self._job_name(name)
        )

    @property
    def parent(self) -> str:
        """``projects/…/locations/…`` where a call names none."""
        return self._parent(None, None)[0]

    def _job_name(self, name: object) -> names.TuningJobName:
        return names.tuning_job_name(name, project=self.project, location=self.location)

    def _parent(self, project: str | None, location: str | None) -> tuple[str, str]:
        project, location = project or self.project, location or self.location
        wanted = (
            ("project_id", project, "project", "my-project"),
            ("location", location, "location", "us-central1"),
        )
        for field_name, value, extra, example in wanted:
            if not value:
                raise InvalidInputError(
                    field_name,
                    value,
                    f"give it to the task ({field_name}={example!r}), or to the extra of {self.source} "
                    f'({{"{extra}": "{example}"}})',
                )
        return names.parent(project, location), str(location)


def validate_name(name: object) -> None:
    """Refuse what can be neither a job's name or id nor an operation's name, whatever the connection says.

    :raises InvalidInputError: if it cannot.
    """
    Calls("any-project", "any-location").full_name(name)


def validate_api_version(value: object) -> str:
    """Return ``value`` if it is an API version that this provider speaks.

    :raises InvalidInputError: if it is not.
    """
    if value in API_VERSIONS:
        return str(value)
    raise InvalidInputError("api_version", value, f"give one of {', '.join(API_VERSIONS)}")
