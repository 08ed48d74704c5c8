"""The API's calls with a connection's defaults: what to send and how to read the answer, without I/O."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, TypeVar

from airflow_tuning_provider.api import names, requests, responses
from airflow_tuning_provider.api import tuning_job as bodies
from airflow_tuning_provider.api.errors import ApiError
from airflow_tuning_provider.api.inputs import InvalidInputError
from airflow_tuning_provider.api.requests import ApiRequest

T = TypeVar("T")
Json = dict[str, Any]
Page = tuple[list[Json], "str | None"]


@dataclass(frozen=True)
class Call(Generic[T]):
    """A request, and how to read its success."""

    request: ApiRequest
    read: Callable[[Json], T | ApiError]


@dataclass(frozen=True)
class Calls:
    """The calls of one hook.

    :param project: project where a call names none.
    :param location: location where a call names none.
    """

    project: str | None
    location: str | None

    def create(self, job: object, project: str | None, location: str | None) -> Call[Json]:
        """Create a tuning job from a request body, which is checked."""
        body = bodies.checked(job)
        return Call(
            requests.create_tuning_job(*self._scope(project, location), body), responses.as_tuning_job
        )

    def get(self, name: object) -> Call[Json]:
        """Get a tuning job."""
        return Call(requests.get_tuning_job(self.job_name(name)), responses.as_tuning_job)

    def page(
        self,
        project: str | None,
        location: str | None,
        *,
        filter: str | None = None,
        page_size: int | None = None,
        page_token: str | None = None,
        fields: str | None = None,
    ) -> Call[Page]:
        """Get one page of a list."""
        request = requests.list_tuning_jobs(
            *self._scope(project, location),
            filter=filter,
            page_size=page_size,
            page_token=page_token,
            fields=fields,
        )
        return Call(request, partial(responses.as_page, asked=page_token))

    def cancel(self, name: object) -> Call[Json]:
        """Ask for a job's cancellation."""
        return Call(requests.cancel_tuning_job(self.job_name(name)), _as_is)

    def rebase(self, project: str | None, location: str | None, body: Json) -> Call[Json]:
        """Rebase a tuned model; ``body`` is a RebaseTunedModelRequest."""
        return Call(
            requests.rebase_tuned_model(*self._scope(project, location), body), responses.as_operation
        )

    def operation(self, name: object) -> Call[Json]:
        """Get a long-running operation."""
        parsed = names.OperationName.parse(name, field="name")
        return Call(requests.get_operation(parsed), responses.as_operation)

    def cancel_operation(self, name: object) -> Call[Json]:
        """Ask for the cancellation of a long-running operation."""
        parsed = names.OperationName.parse(name, field="name")
        return Call(requests.cancel_operation(parsed), _as_is)

    def generate(self, model: object, contents: Any, body: Mapping[str, Any]) -> Call[Json]:
        """Generate content with a tuned endpoint or an untuned model."""
        parsed = names.model_to_call(model, project=self.project, location=self.location)
        full = {**bodies.normalize(body, "generate_content")} if body else {}
        full["contents"] = bodies.as_contents(contents)
        return Call(requests.generate_content(parsed, full), _as_is)

    def job_name(self, name: object) -> names.TuningJobName:
        """Return a full name for a full name or a bare job id."""
        return names.tuning_job_name(name, project=self.project, location=self.location)

    def _scope(self, project: str | None, location: str | None) -> tuple[str, str]:
        project, location = project or self.project, location or self.location
        for field, value in (("project_id", project), ("location", location)):
            if not value:
                raise InvalidInputError(field, value, "give it to the task, or to the Airflow connection")
        return str(project), str(location)


def _as_is(payload: Json) -> Json:
    return payload
