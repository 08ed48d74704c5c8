"""Hooks for Gemini tuning jobs on Vertex AI.

Neither hook decides anything: :mod:`airflow_tuning_provider.api` says what to send, what an answer means
and whether to send a call again. The two differ in how they wait for the network, and in nothing else.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseHook

from airflow_tuning_provider.api import names, requests
from airflow_tuning_provider.api.errors import ApiError
from airflow_tuning_provider.api.inputs import InvalidInputError
from airflow_tuning_provider.api.retry import RetryPolicy
from airflow_tuning_provider.api.waiting import DEFAULT_ERROR_BUDGET, End, Step, Wait, view_operation
from airflow_tuning_provider.exceptions import (
    TuningError,
    error_from,
    job_error,
    refusing_invalid_input,
    timed_out,
)
from airflow_tuning_provider.hooks import credentials as auth
from airflow_tuning_provider.hooks.calls import Call, Calls, Json, Page
from airflow_tuning_provider.hooks.connection import ConnectionSettings, impersonation_chain, settings_from
from airflow_tuning_provider.hooks.transport import Transport, TransportBase
from airflow_tuning_provider.provider_info import CONNECTION_TYPE

if TYPE_CHECKING:
    from google.auth.credentials import Credentials
    from google.auth.transport.requests import AuthorizedSession

    from airflow_tuning_provider.hooks.aio import AsyncTransport

DEFAULT_CONN_ID = "google_cloud_default"
DEFAULT_REQUEST_TIMEOUT = 60.0


class _HookBase(BaseHook):
    """The parameters that both hooks share, and how they combine with the connection."""

    conn_name_attr = "gcp_conn_id"
    default_conn_name = DEFAULT_CONN_ID
    conn_type = CONNECTION_TYPE
    hook_name = "Vertex AI Gemini tuning"

    def __init__(
        self,
        gcp_conn_id: str = DEFAULT_CONN_ID,
        *,
        project_id: str | None = None,
        location: str | None = None,
        impersonation_chain: str | Sequence[str] | None = None,
        api_version: str = "v1",
        request_timeout: float = DEFAULT_REQUEST_TIMEOUT,
        retry_policy: RetryPolicy | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.gcp_conn_id = gcp_conn_id
        self.project_id = project_id
        self.location = location
        self.impersonation_chain = impersonation_chain
        self.api_version = api_version
        self.request_timeout = request_timeout
        self.retry_policy = retry_policy

    def _settings(self, connection: Any) -> ConnectionSettings:
        """Let the hook's parameters win over the connection's; all of them are validated."""
        with refusing_invalid_input():
            requests.validate_api_version(self.api_version)
            timeout: Any = self.request_timeout
            if isinstance(timeout, bool) or not isinstance(timeout, (int, float)) or not 0 < timeout <= 3600:
                raise InvalidInputError("request_timeout", timeout, "give seconds, from 0 to 3600")
            settings = settings_from(connection)
            chain = impersonation_chain(self.impersonation_chain)
            return replace(
                settings,
                project=names.validate_project(self.project_id) if self.project_id else settings.project,
                location=names.validate_location(self.location) if self.location else settings.location,
                impersonation_chain=chain or settings.impersonation_chain,
            )

    def _credentials(self, settings: ConnectionSettings) -> tuple[Credentials, str | None]:
        """Make the credentials. Blocking: it may read files and ask a metadata server."""
        from google.auth.exceptions import GoogleAuthError

        with refusing_invalid_input():
            try:
                return auth.build_credentials(settings)
            except GoogleAuthError as error:
                failure = auth.error_of(error)
        raise error_from(failure, f"use connection {self.gcp_conn_id!r}")

    def _transport_arguments(self, settings: ConnectionSettings) -> dict[str, Any]:
        policy = self.retry_policy or RetryPolicy()
        if policy.max_repeats is None:
            policy = replace(policy, max_repeats=settings.num_retries)
        return {
            "api_version": self.api_version,
            "request_timeout": self.request_timeout,
            "retry_policy": policy,
            "log": self.log,
        }

    def _tell(self, step: Step) -> None:
        for level, text in step.news:
            self.log.log(level, text)


def _can_be_listed(call: Call[Any], transport: TransportBase) -> str:
    who, endpoint = auth.principal(transport.credentials), transport.settings.api_endpoint
    text = f"Tuning jobs can be listed in {call.request.path}" + (f" as {who}." if who else ".")
    return f"{text} API endpoint: {endpoint}" if endpoint else text


class TuningJobHook(_HookBase):
    """Calls the tuning API with ``requests`` and google-auth.

    Jobs go in and out as the API's own JSON, names as full resource names (a bare job id is accepted
    where project and location are known). Every error is a
    :class:`~airflow_tuning_provider.exceptions.TuningError`; input that cannot be right is refused as
    :class:`~airflow_tuning_provider.exceptions.TuningInvalidInputError` before anything is sent.

    The hook holds one pooled HTTP session: use it as a context manager, or call :meth:`close`.

    :param gcp_conn_id: Airflow connection of the type ``google_cloud_platform`` or ``vertex_ai_tuning``.
    :param project_id: project; default: the connection's, else the credentials' own.
    :param location: location such as ``us-central1``; default: the connection's.
    :param impersonation_chain: service account to act as, or a chain of them, the last one acting.
    :param api_version: ``v1`` or ``v1beta1``.
    :param request_timeout: seconds for one HTTP request, answer included.
    :param retry_policy: when to send a call again; default: for up to a minute, and only calls that are
        safe to repeat (never a create that may have been processed).
    """

    @cached_property
    def settings(self) -> ConnectionSettings:
        """The connection with the hook's own parameters in place; looked up once."""
        return self._settings(self.get_connection(self.gcp_conn_id))

    @cached_property
    def _transport(self) -> Transport:
        credentials, project = self._credentials(self.settings)
        if self.settings.project is None and project:
            self.__dict__["settings"] = replace(self.settings, project=project)
        return Transport(self.settings, credentials, **self._transport_arguments(self.settings))

    @property
    def _calls(self) -> Calls:
        settings = self.settings
        if settings.project is None:
            settings = self._transport.settings  # the credentials may know the project
        return Calls(settings.project, settings.location)

    @property
    def credentials(self) -> Credentials:
        """The Google credentials that every call of this hook uses."""
        return self._transport.credentials

    def get_conn(self) -> AuthorizedSession:
        """Return the pooled, authorized ``requests`` session."""
        return self._transport.session

    def close(self) -> None:
        """Close the session's connections; the hook can be used again afterwards."""
        if "_transport" in self.__dict__:
            self._transport.close()

    def __enter__(self) -> TuningJobHook:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def create_tuning_job(
        self, tuning_job: Mapping[str, Any], *, project_id: str | None = None, location: str | None = None
    ) -> Json:
        """Create a tuning job. **It costs money from now on, and the API has no idempotency key.**

        :param tuning_job: the TuningJob request body, in camelCase or snake_case.
        :param project_id: project to create it in.
        :param location: location to create it in.
        :return: the job as created.
        :raises TuningInvalidInputError: if the body cannot be right; nothing was sent.
        :raises TuningUnavailableError: if no usable answer came; the job may exist all the same.
        """
        with refusing_invalid_input():
            call = self._calls.create(tuning_job, project_id, location)
            return self._transport.perform(call)

    def get_tuning_job(self, name: str) -> Json:
        """Return a tuning job.

        :param name: full resource name, or a bare job id.
        :raises TuningNotFoundError: if there is none of that name.
        """
        with refusing_invalid_input():
            return self._transport.perform(self._calls.get(name))

    def list_tuning_jobs(
        self,
        *,
        project_id: str | None = None,
        location: str | None = None,
        filter: str | None = None,
        page_size: int | None = None,
        limit: int | None = None,
    ) -> Iterator[Json]:
        """Iterate over tuning jobs, page after page, each fetched when it is needed.

        :param project_id: project to list.
        :param location: location to list.
        :param filter: the API's list filter, for example ``state="JOB_STATE_RUNNING"``. Its grammar is not
            documented for tuning jobs: check what you get.
        :param page_size: jobs per request; default: the service's.
        :param limit: jobs in all; default: every one.
        """
        with refusing_invalid_input():
            # Made here, not in the generator: a wrong parameter must not wait for the first job.
            call = self._calls.page(project_id, location, filter=filter, page_size=page_size)
        return self._pages(call.request.query, project_id, location, limit)

    def _pages(
        self, query: Mapping[str, str], project_id: str | None, location: str | None, limit: int | None
    ) -> Iterator[Json]:
        token: str | None = None
        left = limit
        while left is None or left > 0:
            size = query.get("pageSize")
            call = self._calls.page(
                project_id,
                location,
                filter=query.get("filter"),
                page_size=int(size) if size else None,
                page_token=token,
            )
            jobs, token = self._transport.perform(call)
            yield from jobs[:left]
            left = None if left is None else left - len(jobs)
            if token is None:
                return

    def cancel_tuning_job(self, name: str) -> None:
        """Ask for the cancellation of a job. Asynchronous and best effort: it may still succeed.

        :param name: full resource name, or a bare job id.
        :raises TuningBadRequestError: if the job has already ended.
        :raises TuningNotFoundError: if there is none of that name.
        """
        with refusing_invalid_input():
            self._transport.perform(self._calls.cancel(name))

    def cancel_now(self, name: str, *, timeout: float = 3.0) -> None:
        """Ask for a cancellation with one short request, for a process that is about to be killed.

        Unlike :meth:`cancel_tuning_job` it looks nothing up, refreshes no token, shares no connection with a
        request that may be under way, and does not try twice: it is safe in a signal handler.

        :param name: full resource name of a job or an operation.
        :param timeout: seconds that the request may take.
        :raises TuningError: if the cancellation was not accepted.
        """
        with refusing_invalid_input():
            is_operation = "/operations/" in name
            call = self._calls.cancel_operation(name) if is_operation else self._calls.cancel(name)
        self._transport.send_alone(call, timeout)

    def rebase_tuned_model(
        self, body: Mapping[str, Any], *, project_id: str | None = None, location: str | None = None
    ) -> Json:
        """Start to re-tune a tuned model on a newer base model.

        :param body: a RebaseTunedModelRequest, see :func:`airflow_tuning_provider.api.tuning_job.rebase_body`.
        :param project_id: project to do it in.
        :param location: location to do it in.
        :return: the long-running operation, for :meth:`get_operation`.
        """
        with refusing_invalid_input():
            return self._transport.perform(self._calls.rebase(project_id, location, dict(body)))

    def get_operation(self, name: str) -> Json:
        """Return a long-running operation: ``done``, then ``response`` or ``error``.

        :param name: full resource name of the operation.
        :raises TuningNotFoundError: if there is none of that name.
        """
        with refusing_invalid_input():
            return self._transport.perform(self._calls.operation(name))

    def generate_content(self, model: str, contents: Any, **body: Any) -> Json:
        """Generate content with a tuned endpoint or an untuned model.

        :param model: endpoint name, full publisher model name, or the id of one of Google's models. The
            host follows the location in the name: endpoints of Gemini 3 models live in ``us`` or ``eu``.
        :param contents: a prompt, or the API's ``contents``.
        :param body: further fields of the request, such as ``generation_config``.
        :return: the API's GenerateContentResponse.
        """
        with refusing_invalid_input():
            return self._transport.perform(self._calls.generate(model, contents, body))

    def wait_for_tuning_job(
        self,
        name: str,
        *,
        poll_interval: float = 60.0,
        timeout: float | None = None,
        error_budget: float = DEFAULT_ERROR_BUDGET,
    ) -> Json:
        """Block until a job has succeeded.

        :param name: full resource name, or a bare job id.
        :param poll_interval: most seconds between two looks; young jobs are looked at more often.
        :param timeout: seconds to wait from now, ``None`` for as long as the job lasts.
        :param error_budget: seconds of uninterrupted transient errors that are tolerated.
        :return: the job.
        :raises TuningJobFailedError: if it failed or expired.
        :raises TuningJobCancelledError: if it was cancelled.
        :raises TuningWaitTimeoutError: if it did not end in time; it goes on.
        """
        deadline = None if timeout is None else time.time() + timeout
        job = self.wait_until_ended(
            name, poll_interval=poll_interval, deadline=deadline, error_budget=error_budget
        )
        if (error := job_error(job)) is not None:
            raise error
        return job

    def wait_until_ended(
        self,
        name: str,
        *,
        poll_interval: float,
        deadline: float | None,
        error_budget: float = DEFAULT_ERROR_BUDGET,
    ) -> Json:
        """Block until a job has ended, in whatever way.

        :param name: full resource name, or a bare job id.
        :param poll_interval: most seconds between two looks.
        :param deadline: epoch seconds at which to stop waiting, ``None`` for never.
        :param error_budget: seconds of uninterrupted transient errors that are tolerated.
        :return: the job.
        :raises TuningWaitTimeoutError: if it did not end in time.
        """
        with refusing_invalid_input():
            call = self._calls.get(name)
        wait = Wait(str(self._calls.job_name(name)), poll_interval, deadline, error_budget)
        return self._watch(call, wait)

    def cancel_operation(self, name: str) -> None:
        """Ask for the cancellation of a long-running operation; best effort.

        :param name: full resource name of the operation.
        """
        with refusing_invalid_input():
            self._transport.perform(self._calls.cancel_operation(name))

    def wait_for_operation(
        self, name: str, *, poll_interval: float = 60.0, deadline: float | None = None
    ) -> Json:
        """Block until a long-running operation is done.

        :param name: full resource name of the operation.
        :param poll_interval: most seconds between two looks.
        :param deadline: epoch seconds at which to stop waiting, ``None`` for never.
        :return: the operation, with ``response`` or ``error``.
        :raises TuningWaitTimeoutError: if it was not done in time; it goes on.
        """
        with refusing_invalid_input():
            call = self._calls.operation(name)
        wait = Wait(str(name), poll_interval, deadline, view=view_operation)
        return self._watch(call, wait)

    def _watch(self, call: Call[Json], wait: Wait) -> Json:
        while True:
            seen = self._transport.attempt(call)
            step = wait.advance(seen, now=time.time(), random=random.random())
            self._tell(step)
            if step.delay is not None:
                time.sleep(step.delay)
            elif isinstance(seen, ApiError) and step.end is End.GIVEN_UP:
                raise self._transport.error(seen, call.request)
            elif isinstance(seen, ApiError) or step.end is End.TIMED_OUT:
                raise timed_out(wait.name)
            else:
                return seen

    def test_connection(self) -> tuple[bool, str]:
        """List one tuning job of the connection's project and location; for the UI's Test button."""
        try:
            with refusing_invalid_input():
                call = self._calls.page(None, None, page_size=1)
                self._transport.perform(call)
            return True, _can_be_listed(call, self._transport)
        except Exception as error:  # noqa: BLE001 - the button shows whatever went wrong
            return False, str(error)
        finally:
            self.close()


class TuningJobAsyncHook(_HookBase):
    """Calls the tuning API without blocking the event loop, with google-auth's credentials over aiohttp.

    Methods and parameters are those of :class:`TuningJobHook`. Credentials are made and refreshed in a
    thread, one refresh at a time. Use it as an async context manager, or await :meth:`close`.
    """

    _ready: tuple[Calls, AsyncTransport] | None = None
    _opening: asyncio.Task[tuple[Calls, AsyncTransport]] | None = None

    async def _open(self) -> tuple[Calls, AsyncTransport]:
        """Look up the connection and make the credentials, once, however many callers come at a time."""
        if self._ready is None:
            opening = self._opening
            if opening is None or opening.done() or opening.get_loop() is not asyncio.get_running_loop():
                self._opening = opening = asyncio.create_task(self._do_open())
            # Shielded: a caller that is cancelled must not take the others with it.
            self._ready = await asyncio.shield(opening)
        return self._ready

    async def _do_open(self) -> tuple[Calls, AsyncTransport]:
        settings = self._settings(await self.aget_connection(self.gcp_conn_id))
        return await asyncio.to_thread(self._connect, settings)

    def _connect(self, settings: ConnectionSettings) -> tuple[Calls, AsyncTransport]:
        """Blocking: the imports and the certificates alone take a fraction of a second."""
        from airflow_tuning_provider.hooks.aio import AsyncTransport, tls_context

        credentials, project = self._credentials(settings)
        settings = replace(settings, project=settings.project or project)
        transport = AsyncTransport(
            settings, credentials, tls=tls_context(), **self._transport_arguments(settings)
        )
        return Calls(settings.project, settings.location), transport

    async def close(self) -> None:
        """Close the session's connections; the hook can be used again afterwards."""
        if self._ready is not None:
            await self._ready[1].close()

    async def __aenter__(self) -> TuningJobAsyncHook:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.close()

    async def create_tuning_job(
        self, tuning_job: Mapping[str, Any], *, project_id: str | None = None, location: str | None = None
    ) -> Json:
        """See :meth:`TuningJobHook.create_tuning_job`."""
        calls, transport = await self._open()
        with refusing_invalid_input():
            return await transport.perform(calls.create(tuning_job, project_id, location))

    async def get_tuning_job(self, name: str) -> Json:
        """See :meth:`TuningJobHook.get_tuning_job`."""
        calls, transport = await self._open()
        with refusing_invalid_input():
            return await transport.perform(calls.get(name))

    async def list_tuning_jobs(
        self,
        *,
        project_id: str | None = None,
        location: str | None = None,
        filter: str | None = None,
        page_size: int | None = None,
        limit: int | None = None,
    ) -> AsyncIterator[Json]:
        """See :meth:`TuningJobHook.list_tuning_jobs`; an async iterator."""
        calls, transport = await self._open()
        token: str | None = None
        left = limit
        while left is None or left > 0:
            with refusing_invalid_input():
                call = calls.page(project_id, location, filter=filter, page_size=page_size, page_token=token)
                jobs, token = await transport.perform(call)
            for job in jobs[:left]:
                yield job
            left = None if left is None else left - len(jobs)
            if token is None:
                return

    async def cancel_tuning_job(self, name: str) -> None:
        """See :meth:`TuningJobHook.cancel_tuning_job`."""
        calls, transport = await self._open()
        with refusing_invalid_input():
            await transport.perform(calls.cancel(name))

    async def rebase_tuned_model(
        self, body: Mapping[str, Any], *, project_id: str | None = None, location: str | None = None
    ) -> Json:
        """See :meth:`TuningJobHook.rebase_tuned_model`."""
        calls, transport = await self._open()
        with refusing_invalid_input():
            return await transport.perform(calls.rebase(project_id, location, dict(body)))

    async def get_operation(self, name: str) -> Json:
        """See :meth:`TuningJobHook.get_operation`."""
        calls, transport = await self._open()
        with refusing_invalid_input():
            return await transport.perform(calls.operation(name))

    async def generate_content(self, model: str, contents: Any, **body: Any) -> Json:
        """See :meth:`TuningJobHook.generate_content`."""
        calls, transport = await self._open()
        with refusing_invalid_input():
            return await transport.perform(calls.generate(model, contents, body))

    async def wait_for_tuning_job(
        self,
        name: str,
        *,
        poll_interval: float = 60.0,
        timeout: float | None = None,
        error_budget: float = DEFAULT_ERROR_BUDGET,
    ) -> Json:
        """See :meth:`TuningJobHook.wait_for_tuning_job`."""
        deadline = None if timeout is None else time.time() + timeout
        job = await self.wait_until_ended(
            name, poll_interval=poll_interval, deadline=deadline, error_budget=error_budget
        )
        if (error := job_error(job)) is not None:
            raise error
        return job

    async def wait_until_ended(
        self,
        name: str,
        *,
        poll_interval: float,
        deadline: float | None,
        error_budget: float = DEFAULT_ERROR_BUDGET,
    ) -> Json:
        """See :meth:`TuningJobHook.wait_until_ended`."""
        calls, transport = await self._open()
        with refusing_invalid_input():
            call = calls.get(name)
        wait = Wait(str(calls.job_name(name)), poll_interval, deadline, error_budget)
        return await self._watch(transport, call, wait)

    async def cancel_operation(self, name: str) -> None:
        """See :meth:`TuningJobHook.cancel_operation`."""
        calls, transport = await self._open()
        with refusing_invalid_input():
            await transport.perform(calls.cancel_operation(name))

    async def wait_for_operation(
        self, name: str, *, poll_interval: float = 60.0, deadline: float | None = None
    ) -> Json:
        """See :meth:`TuningJobHook.wait_for_operation`."""
        calls, transport = await self._open()
        with refusing_invalid_input():
            call = calls.operation(name)
        wait = Wait(str(name), poll_interval, deadline, view=view_operation)
        return await self._watch(transport, call, wait)

    async def _watch(self, transport: AsyncTransport, call: Call[Json], wait: Wait) -> Json:
        while True:
            seen = await transport.attempt(call)
            step = wait.advance(seen, now=time.time(), random=random.random())
            self._tell(step)
            if step.delay is not None:
                await asyncio.sleep(step.delay)
            elif isinstance(seen, ApiError) and step.end is End.GIVEN_UP:
                raise transport.error(seen, call.request)
            elif isinstance(seen, ApiError) or step.end is End.TIMED_OUT:
                raise timed_out(wait.name)
            else:
                return seen

    # -- for those who poll: one attempt each, and an error as a value ---------------------------------

    async def full_name(
        self, name: str, *, project_id: str | None = None, location: str | None = None
    ) -> names.TuningJobName:
        """Return a job's full name, completing a bare id with project and location.

        :raises TuningError: if the name, or the connection that would complete it, cannot be used.
        """
        calls, _ = await self._open()
        with refusing_invalid_input():
            return names.tuning_job_name(
                name, project=project_id or calls.project, location=location or calls.location
            )

    async def look(self, name: str) -> Json | ApiError:
        """Get a job in one attempt."""
        calls, transport = await self._open()
        with refusing_invalid_input():
            return await transport.attempt(calls.get(name))

    async def look_at_page(
        self, project_id: str, location: str, *, page_size: int, page_token: str | None
    ) -> Page | ApiError:
        """Get one page of a list in one attempt: of each job only what tells how it is."""
        calls, transport = await self._open()
        progress = ",tuningJobState,tuningJobMetadata" if self.api_version == "v1beta1" else ""
        with refusing_invalid_input():
            call = calls.page(
                project_id,
                location,
                page_size=page_size,
                page_token=page_token,
                # A whole job holds samples of its data set: a hundred of them would be megabytes to parse.
                fields=f"nextPageToken,tuningJobs(name,state,createTime{progress})",
            )
            return await transport.attempt(call)

    async def reopen(self) -> None:
        """Read the connection anew, and make new credentials from it."""
        before, self._ready, self._opening = self._ready, None, None
        if before is not None:
            await before[1].close()

    def error(self, error: ApiError, what: str) -> TuningError:
        """Return the exception for an attempt that failed.

        :param what: what was attempted, in words.
        """
        who = auth.principal(self._ready[1].credentials) if self._ready else None
        return error_from(error, what, principal=who)

    async def test_connection(self) -> tuple[bool, str]:
        """See :meth:`TuningJobHook.test_connection`."""
        try:
            calls, transport = await self._open()
            with refusing_invalid_input():
                call = calls.page(None, None, page_size=1)
                await transport.perform(call)
            return True, _can_be_listed(call, transport)
        except Exception as error:  # noqa: BLE001 - the button shows whatever went wrong
            return False, str(error)
