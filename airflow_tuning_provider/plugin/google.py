"""Tuning jobs from Google: one page of theirs for a page of ours, remembered for a few seconds.

The servers' worker processes share no memory; each remembers for itself.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from airflow_tuning_provider.api.errors import ApiError, ErrorKind
from airflow_tuning_provider.api.retry import RetryPolicy
from airflow_tuning_provider.exceptions import TuningError
from airflow_tuning_provider.hooks.tuning_job import TuningJobHook

T = TypeVar("T")
Job = Mapping[str, Any]

PAGE_SIZE = 50
REQUEST_SECONDS = 12.0
_MAX_AGE = 15.0
_MAX_AGE_OF_ERRORS = 5.0
_REMEMBERED = 64
_ONCE = RetryPolicy(budget=0.0, max_repeats=0)
_STATS = "tuningDatasetExampleCount,totalBillableTokenCount,tuningStepCount"
_FIELDS = (
    "nextPageToken,tuningJobs(name,state,createTime,startTime,updateTime,endTime,labels,baseModel,preTunedModel,"
    "customBaseModel,tunedModelDisplayName,error,tuningJobState,tuningJobMetadata,supervisedTuningSpec,"
    "preferenceOptimizationSpec,distillationSpec,reinforcementTuningSpec,tuningDataStats("
    f"supervisedTuningDataStats({_STATS}),preferenceOptimizationDataStats({_STATS}),"
    f"distillationDataStats(trainingDatasetStats({_STATS})),reinforcementTuningDataStats({_STATS})))"
)
_FOR_ORPHANS = "nextPageToken,tuningJobs(name,state,createTime,labels,tunedModelDisplayName)"


@dataclass(frozen=True)
class Place:
    """Where jobs are looked for.

    :param connection: id of the Airflow connection.
    :param project: project, empty for the connection's.
    :param location: location, empty for the connection's.
    """

    connection: str
    project: str = ""
    location: str = ""


@dataclass(frozen=True)
class Listed:
    """A page of jobs.

    :param jobs: the jobs.
    :param next_page: token of the next page, ``None`` if this is the last.
    :param at: epoch seconds of when Google gave it.
    """

    jobs: list[dict[str, Any]]
    next_page: str | None
    at: float


class TroubleError(Exception):
    """Google could not be asked, or refused.

    :param error: the failed call.
    """

    def __init__(self, error: ApiError) -> None:
        super().__init__(str(error))
        self.error = error


class Google:
    """Calls on the tuning API with the API server's own right to look up connections."""

    def __init__(self) -> None:
        self._pages: OrderedDict[tuple[Any, ...], Listed | tuple[ApiError, float]] = OrderedDict()
        self._asking: dict[tuple[Any, ...], threading.Lock] = {}
        self._lock = threading.Lock()

    def page(self, place: Place, *, filter: str = "", token: str = "", max_age: float = _MAX_AGE) -> Listed:
        """Return a page of jobs, perhaps one that was asked for a few seconds ago.

        :param filter: the API's list filter, which narrows what comes; a hint: check what you get.
        :param token: the page's token.
        :param max_age: seconds since when a remembered page will do.
        :raises TroubleError: if Google could not be asked, or refused.
        """
        key = (place, filter, token)
        with self._lock:
            asking = self._asking.setdefault(key, threading.Lock())
        with asking:  # who comes meanwhile gets the same answer
            known = self._pages.get(key)
            if isinstance(known, Listed) and time.time() - known.at <= max_age:
                return known
            if isinstance(known, tuple) and time.time() - known[1] <= min(max_age, _MAX_AGE_OF_ERRORS):
                raise TroubleError(known[0])
            try:
                answer: Listed | tuple[ApiError, float] = self._ask(place, filter, token)
            except TroubleError as trouble:
                answer = (trouble.error, time.time())
            with self._lock:
                self._pages[key] = answer
                self._pages.move_to_end(key)
                while len(self._pages) > _REMEMBERED:
                    old, _ = self._pages.popitem(last=False)
                    self._asking.pop(old, None)
        if isinstance(answer, tuple):
            raise TroubleError(answer[0])
        return answer

    def forget(self, connection: str) -> None:
        """Forget the pages that came through a connection, as after a cancellation."""
        with self._lock:
            for key in [key for key in self._pages if key[0].connection == connection]:
                del self._pages[key]

    def _ask(self, place: Place, filter: str, token: str) -> Listed:
        with self._hook(place) as hook:
            # The filter's grammar is not documented for tuning jobs: do without it where it is refused.
            ways = [(filter or None, _FIELDS), (filter or None, None), (None, None)]
            while True:
                given, fields = ways.pop(0)
                answer = hook.look_at_list(
                    page_size=PAGE_SIZE, page_token=token or None, fields=fields, filter=given
                )
                if not isinstance(answer, ApiError):
                    return Listed(answer[0], answer[1], time.time())
                if answer.kind is not ErrorKind.BAD_REQUEST or not ways:
                    raise TroubleError(answer)

    def job(self, connection: str, name: str) -> dict[str, Any]:
        """Return a job as it is now.

        :param name: its full resource name.
        :raises TroubleError: if Google could not be asked, or refused.
        """
        with self._hook(Place(connection)) as hook:
            answer = hook.look(name)
        if isinstance(answer, ApiError):
            raise TroubleError(answer)
        return answer

    def cancel(self, connection: str, name: str) -> None:
        """Ask for a job's cancellation.

        :param name: its full resource name.
        :raises TroubleError: if Google refused, as for a job that has ended.
        """
        with self._hook(Place(connection)) as hook:
            try:
                hook.cancel_tuning_job(name)
            except TuningError as error:
                if error.api_error is None:
                    raise
                raise TroubleError(error.api_error) from None

    def under_way(self, place: Place, states: str, *, limit: int) -> list[dict[str, Any]]:
        """Return the jobs that are under way, at most ``limit``, with what tells whether they are orphans.

        :param states: list filter for them.
        :raises TroubleError: if Google could not be asked, or refused.
        """
        found: list[dict[str, Any]] = []
        with self._hook(place) as hook:
            filter: str | None = states
            token: str | None = None
            while True:
                answer = hook.look_at_list(
                    page_size=1000, page_token=token, fields=_FOR_ORPHANS, filter=filter
                )
                if isinstance(answer, ApiError):
                    if filter and token is None and answer.kind is ErrorKind.BAD_REQUEST:
                        filter = None
                        continue
                    raise TroubleError(answer)
                found += answer[0]
                token = answer[1]
                if token is None or len(found) >= limit:
                    return found[:limit]

    def _hook(self, place: Place) -> TuningJobHook:
        # v1beta1: it tells the progress.
        hook = TuningJobHook(
            place.connection,
            project_id=place.project or None,
            location=place.location or None,
            api_version="v1beta1",
            request_timeout=REQUEST_SECONDS,
            retry_policy=_ONCE,
        )
        hook.check_parameters()
        trouble = hook.trouble_with(hook.open)
        if trouble is not None:
            raise TroubleError(trouble)
        return hook
