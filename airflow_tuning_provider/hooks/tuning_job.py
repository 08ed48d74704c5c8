"""The hook for Gemini tuning jobs on Vertex AI.

It decides nothing: :mod:`airflow_tuning_provider.api` says what to send, what an answer means and whether to send a
call again.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Mapping
from typing import Any

from airflow_tuning_provider._errors import given_up, job_error, refusing_invalid_input, timed_out
from airflow_tuning_provider.api import names
from airflow_tuning_provider.api.calls import Calls, Json, Page, validate_name
from airflow_tuning_provider.api.errors import ApiError
from airflow_tuning_provider.api.inputs import number
from airflow_tuning_provider.api.sights import Board, Sights
from airflow_tuning_provider.api.waiting import DEFAULT_ERROR_BUDGET, HEARTBEAT, End, Wait
from airflow_tuning_provider.exceptions import TuningBadRequestError
from airflow_tuning_provider.hooks._base import RENEW_AFTER
from airflow_tuning_provider.hooks._models import ModelRegistry


class TuningJobHook(ModelRegistry):
    """Calls the tuning API with ``requests`` and google-auth.

    Jobs go in and out as the API's own JSON, names as full resource names (a bare job id is accepted
    where project and location are known). Every error is a
    :class:`~airflow_tuning_provider.exceptions.TuningError`; input that cannot be right is refused as
    :class:`~airflow_tuning_provider.exceptions.TuningInvalidInputError` before anything is sent.

    The hook holds one pooled HTTP session: use it as a context manager, or call :meth:`close`. After
    :meth:`open`, threads may share it.

    The parameters are those of :class:`~airflow_tuning_provider.hooks._base.ConnectedHook`.
    """

    hook_name = "Vertex AI Gemini tuning"

    # -- the calls ---------------------------------------------------------------------------------

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
            return self._transport.perform(self._calls.create(tuning_job, project_id, location))

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
        fields: str | None = None,
    ) -> Iterator[Json]:
        """Iterate over tuning jobs, page after page, each fetched when it is needed.

        :param project_id: project to list.
        :param location: location to list.
        :param filter: the API's list filter, for example ``state="JOB_STATE_RUNNING"``. Its grammar is not
            documented for tuning jobs: check what you get.
        :param page_size: jobs per request, at most 1000; default: the service's.
        :param limit: jobs in all; default: every one.
        :param fields: what to send of each page, for example ``nextPageToken,tuningJobs(name,state)``; a hint:
            where the API refuses it, whole jobs come.
        """
        with refusing_invalid_input():
            # Made here, not in the generator: a wrong parameter must not wait for the first job.
            self._calls.page(project_id, location, filter=filter, page_size=page_size)
        pages = self.pages(
            project_id=project_id, location=location, filter=filter, page_size=page_size, fields=fields
        )
        return self._flat(pages, limit)

    def _flat(self, pages: Iterator[tuple[list[Json], bool]], limit: int | None) -> Iterator[Json]:
        left = limit
        for jobs, _ in pages if left != 0 else ():
            yield from jobs[:left]
            left = None if left is None else left - len(jobs)
            if left is not None and left <= 0:
                return

    def pages(
        self,
        *,
        project_id: str | None = None,
        location: str | None = None,
        filter: str | None = None,
        page_size: int | None = None,
        fields: str | None = None,
    ) -> Iterator[tuple[list[Json], bool]]:
        """Iterate over pages of tuning jobs, each with whether there are more.

        The parameters are those of :meth:`list_tuning_jobs`.
        """
        token: str | None = None
        while True:
            call = self._calls.page(
                project_id, location, filter=filter, page_size=page_size, page_token=token, fields=fields
            )
            try:
                jobs, token = self._transport.perform(call)
            except TuningBadRequestError as error:
                if fields is None:
                    raise
                self.log.info("The API refuses a list of some fields only; asking for all of them. %s", error)
                fields = None
                continue
            yield jobs, token is not None
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

    def cancel_operation(self, name: str) -> None:
        """Ask for the cancellation of a long-running operation; best effort.

        :param name: full resource name of the operation.
        """
        with refusing_invalid_input():
            operation = names.OperationName.parse(name, field="name")
            self._transport.perform(self._calls.cancel(operation))

    def cancel(self, name: str) -> None:
        """Ask for the cancellation of a job or of a long-running operation, whichever ``name`` names.

        :param name: full resource name, or a bare job id.
        """
        with refusing_invalid_input():
            self._transport.perform(self._calls.cancel(name))

    def rebase_tuned_model(
        self, body: Mapping[str, Any], *, project_id: str | None = None, location: str | None = None
    ) -> Json:
        """Start to re-tune a tuned model on a newer base model.

        :param body: a RebaseTunedModelRequest, see :func:`airflow_tuning_provider.api.rebase.rebase_body`.
        :param project_id: project to do it in.
        :param location: location to do it in.
        :return: the long-running operation, for :meth:`get_operation`.
        """
        with refusing_invalid_input():
            return self._transport.perform(self._calls.rebase(dict(body), project_id, location))

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

    def test_connection(self) -> tuple[bool, str]:
        """Say in a sentence what works of the connection and what is missing; for the UI's Test button.

        It creates nothing: it gets a token and lists one tuning job, see
        :mod:`airflow_tuning_provider.hooks.diagnosis`.
        """
        from airflow_tuning_provider.hooks.diagnosis import diagnose, sentence

        try:
            findings = diagnose(self)
            return all(finding.works is not False for finding in findings), sentence(findings)
        except Exception as error:  # noqa: BLE001 - the button shows whatever went wrong
            return False, str(error)
        finally:
            self.close()

    # -- for a process that is about to be killed: one short request on a connection of its own, after one for a
    # -- token where that at hand has expired. No lookup, no second try: safe in a signal handler, whatever the
    # -- interrupted code was doing. -------------------------------------------------------------------------------

    def cancel_now(self, name: str, *, timeout: float = 3.0) -> None:
        """Ask for a cancellation with one short request.

        :param name: full resource name of a job or an operation.
        :param timeout: seconds that the request may take.
        :raises TuningError: if the cancellation was not accepted.
        """
        with refusing_invalid_input():
            self._transport.send_alone(self._calls.cancel(name), timeout)

    def list_now(
        self,
        filter: str | None,
        *,
        project_id: str | None = None,
        location: str | None = None,
        timeout: float = 3.0,
    ) -> list[Json]:
        """Return one page of tuning jobs with one short request.

        :param filter: the API's list filter; check what you get.
        :param project_id: project to list.
        :param location: location to list.
        :param timeout: seconds that the request may take.
        :raises TuningError: if there was no usable answer.
        """
        with refusing_invalid_input():
            call = self._calls.page(project_id, location, filter=filter, page_size=100)
            return self._transport.send_alone(call, timeout)[0]

    # -- waiting -----------------------------------------------------------------------------------

    def wait_for_tuning_job(
        self,
        name: str,
        *,
        poll_interval: float = 60.0,
        timeout: float | None = None,
        error_budget: float = DEFAULT_ERROR_BUDGET,
    ) -> Json:
        """Block until a job has succeeded.

        :param timeout: seconds to wait from now, ``None`` for as long as the job lasts.
        :return: the job.
        :raises TuningJobFailedError: if it failed or expired.
        :raises TuningJobCancelledError: if it was cancelled.

        The rest is that of :meth:`wait_until_ended`.
        """
        with refusing_invalid_input():
            deadline = None if timeout is None else time.time() + number(timeout, "timeout")
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
        heartbeat: float = HEARTBEAT,
    ) -> Json:
        """Block until a job or an operation has ended, in whatever way.

        :param name: full resource name, or a bare job id.
        :param poll_interval: most seconds between two looks; young jobs are looked at more often.
        :param deadline: epoch seconds at which to stop waiting, ``None`` for never.
        :param error_budget: seconds of uninterrupted transient errors that are tolerated; refusals are for
            :data:`~airflow_tuning_provider.api.waiting.SIGHT_SECONDS`.
        :param heartbeat: seconds between lines of the log while nothing changes.
        :return: the job, or the operation with ``response`` or ``error``.
        :raises TuningWaitTimeoutError: if it did not end in time; it goes on.
        :raises TuningUnavailableError: if it could not be looked at for too long; it goes on.
        """
        with refusing_invalid_input():
            wait = Wait(str(name), number(poll_interval, "poll_interval"), deadline, error_budget, heartbeat)
        renewed = time.monotonic()
        while True:
            seen = self.look(name)
            tick = time.monotonic()
            step = wait.advance(seen, now=time.time(), tick=tick, random=random.random())
            for level, text in step.news:
                self.log.log(level, text)
            if step.delay is not None:
                if isinstance(seen, ApiError) and seen.kind.refusal and tick - renewed >= RENEW_AFTER:
                    renewed = tick
                    self.trouble_with(self.renew)
                time.sleep(step.delay)
            elif step.end is End.TIMED_OUT:
                raise timed_out(wait.name)
            elif isinstance(seen, ApiError):
                raise given_up(wait.name, seen)
            else:
                return seen

    # -- for those who poll: one attempt each, and an error as a value ---------------------------------

    def look(self, name: str) -> Json | ApiError:
        """Look at a job or an operation in one attempt. Trouble with the connection is an error of the attempt.

        :raises TuningInvalidInputError: for a name or a parameter of the hook that cannot be right.
        """
        self.check_parameters()
        with refusing_invalid_input():
            validate_name(name)
            if (trouble := self.trouble_with(self.open)) is not None:
                return trouble
            return self._transport.attempt(self._calls.look(name))

    def try_to_generate_content(self, model: str, contents: Any, **body: Any) -> Json | ApiError:
        """Generate content in one attempt; the parameters are those of :meth:`generate_content`."""
        with refusing_invalid_input():
            return self._transport.attempt(self._calls.generate(model, contents, body))

    def look_at_list(
        self,
        *,
        page_size: int,
        page_token: str | None = None,
        fields: str | None = None,
        filter: str | None = None,
    ) -> Page | ApiError:
        """Get one page of a list in one attempt.

        :param page_token: token of the page, ``None`` for the first.

        The other parameters are those of :meth:`list_tuning_jobs`.
        """
        with refusing_invalid_input():
            call = self._calls.page(page_size=page_size, page_token=page_token, fields=fields, filter=filter)
            return self._transport.attempt(call)

    def look_at_page(
        self,
        project: str,
        location: str,
        board: Board,
        *,
        page_size: int,
        page_token: str | None,
        fields: str | None = None,
    ) -> Sights | ApiError:
        """Get one page of a list in one attempt, and what it shows of the jobs that are waited for.

        :param board: what is waited for.
        :param page_token: token of the page, ``None`` for the first.

        The other parameters are those of :meth:`list_tuning_jobs`.
        """
        from airflow_tuning_provider.hooks.pages import read_quickly

        with refusing_invalid_input():
            call = self._calls.sights(
                project,
                location,
                board,
                read_quickly,
                page_size=page_size,
                page_token=page_token,
                fields=fields,
            )
            return self._transport.attempt(call)

    @property
    def parent(self) -> str:
        """``projects/…/locations/…`` where a call names none.

        :raises TuningInvalidInputError: if one of the two is not known.
        """
        calls = self._calls
        with refusing_invalid_input():
            return calls.parent

    def model_name(self, model: str, *, location: str | None = None) -> str:
        """Return the full name of what :meth:`generate_content` calls.

        :param model: endpoint name, full publisher model name, or the id of one of Google's models.
        :param location: location of a model that is given by its id; default: the hook's.
        """
        calls = self._calls
        with refusing_invalid_input():
            return str(names.model_to_call(model, project=calls.project, location=location or calls.location))

    def full_name(
        self, name: str, *, project_id: str | None = None, location: str | None = None
    ) -> names.TuningJobName | names.OperationName:
        """Return the full name of a job or an operation, completing a bare job id with project and location.

        :raises TuningInvalidInputError: if that cannot be done.
        """
        # A full name needs no connection, which may be out of order for the moment.
        calls = Calls(None, None) if str(name).startswith("projects/") else self._calls
        with refusing_invalid_input():
            return Calls(project_id or calls.project, location or calls.location).full_name(name)
