"""Finds the jobs that carry a task instance's key, whatever the server makes of a filter."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import suppress
from itertools import islice
from typing import TYPE_CHECKING, Any

from airflow_tuning_provider.api.identity import key_filter, labels_of, own_jobs
from airflow_tuning_provider.api.manifest import in_words
from airflow_tuning_provider.exceptions import TuningBadRequestError, TuningUnavailableError

if TYPE_CHECKING:
    from airflow_tuning_provider.hooks.tuning_job import TuningJobHook

Job = Mapping[str, Any]

_PAGE_SIZE = 1000
_MOST_PAGES = 50
"""For one attempt: with what else it asks, it stays below 60 requests."""

# What tells whose a job is and how it is; a whole one holds samples of its data set.
_FIELDS = "nextPageToken,tuningJobs(name,state,createTime,endTime,labels,error,tunedModel)"


class Lookup:
    """Looks for the jobs of one task instance.

    :param hook: whom to ask.
    :param key: the key that labels them.
    """

    def __init__(self, hook: TuningJobHook, key: str, log: Any) -> None:
        self._hook = hook
        self._key = key
        self._log = log
        self._filter_tried = False
        self.searched = False
        """Whether all jobs were searched, and not only those that the server's filter lets through."""

    def own_jobs(self, *, believe_none: bool) -> list[Job]:
        """Look by the server's filter, and make up for what it may get wrong.

        Its grammar is not documented for tuning jobs. A refused filter is done without, an ignored one is made up
        for by comparing labels here; an empty answer is not believed unless the filter is seen to find a job that
        is there.

        :param believe_none: believe an empty answer all the same.
        :raises TuningUnavailableError: if it cannot be found out.
        """
        try:
            jobs = self.filtered()
            found = own_jobs(jobs, self._key)
            ignored = len(found) < len(jobs)  # then these are all that there are
            if found or ignored or believe_none:
                return found
        except TuningBadRequestError as error:
            self._log.info("The API refused the label filter, listing all jobs instead: %s", error.api_error)
        found = self._search()
        self.searched = True
        return found

    def filtered(self) -> list[Job]:
        """Return the jobs that the server's filter lets through, which may be all that there are.

        :raises TuningUnavailableError: if there is no end of them.
        """
        jobs: list[Job] = []
        pages = self._hook.pages(filter=key_filter(self._key), page_size=_PAGE_SIZE, fields=_FIELDS)
        for page, more in islice(pages, _MOST_PAGES):
            jobs += page
            if not more:
                return jobs
        raise self._too_many()

    def _search(self) -> list[Job]:
        began = time.monotonic()
        jobs: list[Job] = []
        pages = self._hook.pages(page_size=_PAGE_SIZE, fields=_FIELDS)
        for count, (page, more) in enumerate(islice(pages, _MOST_PAGES), start=1):
            jobs += own_jobs(page, self._key)
            if not more or self._filter_works(page):
                return jobs
            if count % 10 == 0:
                spent = in_words(time.monotonic() - began)
                self._log.info("Searched %d pages of jobs for this task's in %s.", count, spent)
        raise self._too_many()

    def _filter_works(self, page: list[dict[str, Any]]) -> bool:
        """Whether the filter finds a job that is there: then it may also be believed that one is not."""
        # One of the same form as ours: a hyphen may mean something else to it.
        labels = (
            (job, label, value) for job in page for label, value in labels_of(job).items() if "-" in label
        )
        job, label, value = next(labels, (None, "", ""))
        if job is None or self._filter_tried:
            return False
        self._filter_tried = True
        with suppress(TuningBadRequestError):
            pages = self._hook.pages(filter=f'labels.{label}="{value}"', page_size=_PAGE_SIZE, fields=_FIELDS)
            return any(found["name"] == job["name"] for found in next(pages)[0])
        return False

    @staticmethod
    def _too_many() -> TuningUnavailableError:
        return TuningUnavailableError(
            f"There are more jobs than {_MOST_PAGES} pages, and the API's label filter is not seen to work: it could "
            "not be found out whether this task has one."
        )
