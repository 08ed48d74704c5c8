"""Reading a page of thousands of jobs of which next to nothing is news, beside an event loop that must go on.

The page is decoded in the thread that got it, into structures that Python's garbage collector does not track, and
only news become objects that it does. What is not exactly as promised is left to
:mod:`airflow_tuning_provider.api.responses`, which says what is wrong, or makes do with it.

Imported by who polls only: it needs msgspec, which every Airflow that this provider runs on brings along.
"""

from __future__ import annotations

from typing import Any

import msgspec

from airflow_tuning_provider.api.inputs import InvalidInputError
from airflow_tuning_provider.api.names import TuningJobName
from airflow_tuning_provider.api.sights import Board, Sights, resource_of
from airflow_tuning_provider.api.states import JobState


class _Job(msgspec.Struct, gc=False, frozen=True):
    name: str
    state: str = ""
    tuningJobState: msgspec.Raw = msgspec.Raw()  # noqa: N815 - the API's names
    tuningJobMetadata: msgspec.Raw = msgspec.Raw()  # noqa: N815


class _Page(msgspec.Struct, gc=False, frozen=True):
    tuningJobs: tuple[_Job, ...] = ()  # noqa: N815
    nextPageToken: str | None = None  # noqa: N815
    error: msgspec.Raw = msgspec.Raw()


_decode = msgspec.json.Decoder(_Page).decode


def read_quickly(content: bytes, board: Board, asked: str | None) -> Sights | None:
    """Read a page; return ``None`` for one that is not as promised.

    :param content: the body of a success.
    :param board: what is waited for.
    :param asked: the token that the page was asked for with.
    """
    try:
        page = _decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    token = page.nextPageToken or None
    if page.error or (token is not None and token == asked):
        return None
    found = Sights(token)
    parent = None
    for job in page.tuningJobs:
        name = job.name
        above, _, last = name.rpartition("/")
        # One parse for each page, as a rule: all its jobs are in one place, and Google's ids are numbers.
        if above != parent or not (last.isascii() and last.isdigit()):
            try:
                TuningJobName.parse(name, field="name")
            except InvalidInputError:
                return None
            parent = above
        state = job.state or JobState.UNSPECIFIED.value
        resource = resource_of(name)
        if found.is_new(board, resource, state):
            found.news.append((resource, {"name": name, "state": state, **_progress(job)}))
    return found


def _progress(job: _Job) -> dict[str, Any]:
    fields = {"tuningJobState": job.tuningJobState, "tuningJobMetadata": job.tuningJobMetadata}
    return {name: msgspec.json.decode(raw) for name, raw in fields.items() if raw}
