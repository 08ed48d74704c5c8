"""What the page answers, for a user with certain rights: every rule on who sees and does what is here.

Nothing here knows HTTP but for the refusals. All of it blocks: see :mod:`airflow_tuning_provider.plugin.threads`.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from typing import Any

from fastapi import HTTPException

from airflow_tuning_provider._compat import configuration
from airflow_tuning_provider._supervisor import ENDED_TASK_STATES
from airflow_tuning_provider.api.errors import ErrorKind
from airflow_tuning_provider.api.identity import DAG_LABEL, KEY_LABEL, label_value, labels_of
from airflow_tuning_provider.api.inputs import InvalidInputError
from airflow_tuning_provider.api.manifest import parse_time
from airflow_tuning_provider.api.names import TuningJobName
from airflow_tuning_provider.api.orphans import judge
from airflow_tuning_provider.plugin import records, shown
from airflow_tuning_provider.plugin.access import Access
from airflow_tuning_provider.plugin.google import Google, Listed, Place, TroubleError
from airflow_tuning_provider.plugin.ownership import dags_of
from airflow_tuning_provider.plugin.records import Creator, Records, Use
from airflow_tuning_provider.provider_info import CONFIG_SECTION, DEFAULT_CONN_ID

_NOT_YOURS = "There is no such job, or you may not see it."
_MIN_AGE = 600.0
_MOST_LOOKED_AT = 20_000
_FRESH = 2.0
_STATUS = {ErrorKind.NOT_FOUND: 404, ErrorKind.QUOTA: 503, ErrorKind.UNAVAILABLE: 503}


@dataclass(frozen=True)
class Question:
    """What of the list is wanted; the page's query string."""

    connection: str = ""
    project: str = ""
    location: str = ""
    days: int = 30
    state: str = ""
    dag: str = ""
    run: str = ""
    task: str = ""
    text: str = ""
    page: str = ""
    fresh: bool = False

    @property
    def place(self) -> Place:
        """Where to look."""
        return Place(self.connection, self.project, self.location)


class Desk:
    """Answers for one process of the API server."""

    def __init__(self) -> None:
        self._google = Google()
        self._records = Records()

    # -- looking ------------------------------------------------------------------------------------------

    def places(self, access: Access) -> dict[str, Any]:
        """Return where jobs can be looked for: where runs have had some, and the connections."""
        uses = self._uses(access)
        found: dict[Place, set[str]] = {}
        for use in uses:
            found.setdefault(use.place, set()).add(use.dag_id)
        connections = [
            one
            for one in {*records.connection_ids(), *(use.place.connection for use in uses), DEFAULT_CONN_ID}
            if access.may_read_connection(one)
        ]
        return {
            "places": [{**asdict(place), "dags": sorted(dags)} for place, dags in found.items()],
            "connections": sorted(connections),
        }

    def jobs(self, access: Access, question: Question) -> dict[str, Any]:
        """Return a page of the list."""
        place = self._place(access, question.place, question.dag)
        base: dict[str, Any] = {"place": asdict(place) if place else None, "jobs": [], "next_page": None}
        now = time.time()
        if place is None:
            return {**base, "age": 0}
        try:
            page = self._google.page(
                place,
                filter=_filter(question, now),
                token=question.page,
                max_age=_FRESH if question.fresh else 15.0,
            )
        except TroubleError as trouble:
            words = self._in_words(access, trouble, place.connection)
            if question.page and trouble.error.kind is ErrorKind.BAD_REQUEST:
                words["advice"] = "The list has moved on since: go back to its newest page."
            return {**base, "age": 0, "trouble": words}
        rows = self._rows(access, place, page, question, now)
        return {**base, "jobs": rows, "next_page": page.next_page, "age": max(0, round(now - page.at))}

    def _rows(
        self, access: Access, place: Place, page: Listed, question: Question, now: float
    ) -> list[dict[str, Any]]:
        owners, deployment = self._records.owners(), _deployment()
        since = now - question.days * 86400
        seen: dict[str, tuple[Mapping[str, Any], frozenset[str], dict[str, Any]]] = {}
        for job in page.jobs:
            dags = dags_of(job, owners, deployment)
            created = parse_time(job.get("createTime"))
            if not access.may_see(dags, place.connection) or (created is not None and created < since):
                continue
            item = shown.row(job, now)
            labels = {"dag": question.dag, "run": question.run, "task": question.task}
            if all(
                item[key] == label_value(value) for key, value in labels.items() if value
            ) and shown.matches(item, states=question.state, text=question.text):
                seen[item["name"]] = (job, dags, item)
        creators = records.creators((job for job, _, _ in seen.values()), owners, deployment)
        rows = [
            self._with_rights(access, place.connection, job, dags, item, creators)
            for job, dags, item in seen.values()
        ]
        return sorted(rows, key=lambda item: parse_time(item["create_time"]) or 0.0, reverse=True)

    def job(self, access: Access, connection: str, name: str) -> dict[str, Any]:
        """Return all about a job."""
        job, dags, creators = self._find(access, connection, name)
        item = self._with_rights(access, connection, job, dags, shown.detail(job, time.time()), creators)
        return {"job": item}

    def _with_rights(
        self,
        access: Access,
        connection: str,
        job: Mapping[str, Any],
        dags: frozenset[str],
        item: dict[str, Any],
        creators: Mapping[str, Creator],
    ) -> dict[str, Any]:
        creator = creators.get(str(labels_of(job).get(KEY_LABEL)))
        gone = bool(item["dag"]) and not dags
        return {
            **item,
            "creator": asdict(creator) if creator and creator.dag_id in access.readable_dags else None,
            "dag_id": next(iter(dags)) if len(dags) == 1 else None,
            "gone": gone,
            "may_cancel": item["cancellable"] and access.may_cancel(dags, connection),
        }

    # -- acting -------------------------------------------------------------------------------------------

    def recheck(self, access: Access, connection: str, name: str) -> dict[str, Any]:
        """Ask Google anew about a job."""
        job, dags, creators = self._find(access, connection, name)
        creator = creators.get(str(labels_of(job).get(KEY_LABEL)))
        records.write_audit(access.user, "tuning_jobs.recheck", {"tuning_job": name}, creator, dags)
        self._google.forget(connection)
        item = self._with_rights(access, connection, job, dags, shown.detail(job, time.time()), creators)
        return {"job": item, "message": f"Google says: {item['state_in_words'].lower()}."}

    def cancel(self, access: Access, connection: str, name: str) -> dict[str, Any]:
        """Cancel a job."""
        job, dags, creators = self._find(access, connection, name)
        if not access.may_cancel(dags, connection):
            what = "the task instances of its DAG" if dags else "the connection"
            raise HTTPException(
                403, f"You may see this job, but not cancel it: that needs the permission to edit {what}."
            )
        item = shown.row(job, time.time())
        if item["cancellable"]:
            creator = creators.get(str(labels_of(job).get(KEY_LABEL)))
            # Before it is done, so that nothing is done that is not written down.
            records.write_audit(access.user, "tuning_jobs.cancel", {"tuning_job": name}, creator, dags)
            message = self._cancel(access, connection, name)
        elif item["active"]:
            message = "It is being cancelled already: somebody was faster."
        else:
            message = f"It has ended already: {item['state_in_words'].lower()}. Nothing was cancelled."
        self._google.forget(connection)
        return {**self.job(access, connection, name), "message": message}

    def _cancel(self, access: Access, connection: str, name: str) -> str:
        try:
            self._google.cancel(connection, name)
        except TroubleError as trouble:
            if trouble.error.kind is ErrorKind.BAD_REQUEST:  # it ended in between, or somebody was faster
                return (
                    "Google did not take the cancellation: the job has ended, or is being cancelled already."
                )
            raise self._refusal(access, trouble, connection) from None
        return "Google has been asked to cancel the job. That takes a moment; a job about to end may still succeed."

    def orphans(
        self, access: Access, connection: str, project: str, location: str, cancel: list[str] | None
    ) -> dict[str, Any]:
        """Return the jobs that no task waits for any more, among those of DAGs that the user may act on.

        :param cancel: names of those to cancel, if they are orphans still; ``None`` to look only.
        """
        place = self._place(access, Place(connection, project, location), "")
        if place is None:
            raise HTTPException(404, "No place to look in: no DAG that you may read has created a job yet.")
        deployment = _deployment()
        if cancel is not None and not deployment:
            raise HTTPException(
                409,
                "This Airflow has no name. Set [vertex_ai_tuning] deployment first: without it, jobs of another "
                "Airflow with the same DAGs cannot be told from its own.",
            )
        owners = self._records.owners()
        try:
            found = self._google.under_way(place, _any_of(shown.ACTIVE_STATES), limit=_MOST_LOOKED_AT)
        except TroubleError as trouble:
            raise self._refusal(access, trouble, place.connection) from None
        jobs = [
            job
            for job in found
            if (dags := dags_of(job, owners, deployment))
            and access.may_read_dags(dags)
            and access.may_act_on_dags(dags)
        ]
        creators = records.creators(jobs, owners, deployment)
        orphans = _orphans(jobs, creators, deployment)
        cancelled = []
        for orphan in orphans if cancel is not None else ():
            name = orphan["name"]
            if name in (cancel or ()):
                details = {"tuning_job": name, "why": orphan["why"]}
                records.write_audit(
                    access.user, "tuning_jobs.cancel_orphan", details, creators[orphan["key"]]
                )
                orphan["outcome"] = self._cancel(access, place.connection, name)
                cancelled.append(name)
        if cancelled:
            self._google.forget(place.connection)
        return {
            "place": asdict(place),
            "looked_at": len(jobs),
            "orphans": orphans,
            "cancelled": cancelled,
            "may_cancel": bool(deployment),
        }

    # -- rights -------------------------------------------------------------------------------------------

    def _uses(self, access: Access) -> list[Use]:
        return [use for use in self._records.uses() if use.dag_id in access.readable_dags]

    def _place(self, access: Access, wanted: Place, dag_id: str) -> Place | None:
        """Return where to look: what was asked for, or where runs had jobs last; ``None`` for nowhere."""
        uses = self._uses(access)
        if not wanted.connection:
            of_dag = [use for use in uses if dag_id and label_value(use.dag_id) == label_value(dag_id)]
            if of_dag or uses:
                return (of_dag or uses)[0].place
            return Place(DEFAULT_CONN_ID) if access.may_read_connection(DEFAULT_CONN_ID) else None
        if any(use.place == wanted for use in uses) or access.may_read_connection(wanted.connection):
            return wanted
        raise HTTPException(
            403,
            "You may look where DAGs that you may read have jobs. To look elsewhere needs the permission to read "
            "the connection.",
        )

    def _find(
        self, access: Access, connection: str, name: str
    ) -> tuple[dict[str, Any], frozenset[str], dict[str, Creator]]:
        """Return a job that the user may see, the DAGs that it may be of, and its task instance."""
        try:
            parsed = TuningJobName.parse(name, field="name")
        except InvalidInputError as error:
            raise HTTPException(400, str(error)) from None
        uses = self._uses(access)
        used = any(
            use.place == Place(connection, parsed.project, parsed.location) for use in uses
        ) or access.may_read_connection(connection)
        if not used:
            raise HTTPException(404, _NOT_YOURS)
        try:
            job = self._google.job(connection, name)
        except TroubleError as trouble:
            if trouble.error.kind is ErrorKind.NOT_FOUND:
                raise HTTPException(404, _NOT_YOURS) from None
            raise self._refusal(access, trouble, connection) from None
        owners, deployment = self._records.owners(), _deployment()
        dags = dags_of(job, owners, deployment)
        if not access.may_see(dags, connection):
            raise HTTPException(404, _NOT_YOURS)
        return job, dags, records.creators([job], owners, deployment)

    def _in_words(self, access: Access, trouble: TroubleError, connection: str) -> dict[str, Any]:
        return shown.trouble(trouble.error, connection, in_full=access.may_read_connection(connection))

    def _refusal(self, access: Access, trouble: TroubleError, connection: str) -> HTTPException:
        words = self._in_words(access, trouble, connection)
        text = " ".join(filter(None, (words["title"], words["advice"], words["details"])))
        return HTTPException(_STATUS.get(trouble.error.kind, 502), text)


def _deployment() -> str:
    return configuration(CONFIG_SECTION, "deployment")


def _any_of(states: tuple[str, ...]) -> str:
    return "(" + " OR ".join(f'state="{state}"' for state in states) + ")"


def _filter(question: Question, now: float) -> str:
    """Return the list filter for a question; the time is rounded, so that a page's token stays good."""
    since = datetime.fromtimestamp(now - question.days * 86400, timezone.utc)
    parts = [f'create_time>="{since:%Y-%m-%d}T00:00:00Z"']
    if question.state in shown.STATE_FILTERS:
        parts.append(_any_of(shown.STATE_FILTERS[question.state]))
    if question.dag:
        parts.append(f'labels.{DAG_LABEL}="{label_value(question.dag)}"')
    return " AND ".join(parts)


def _orphans(
    jobs: list[dict[str, Any]], creators: Mapping[str, Creator], deployment: str
) -> list[dict[str, Any]]:
    states: dict[str, dict[str, dict[str, str | None]]] = {}
    for one in creators.values():
        name = one.task_id if one.map_index < 0 else f"{one.task_id}_{one.map_index}"
        states.setdefault(one.dag_id, {}).setdefault(one.run_id, {})[name] = one.state
    findings = judge(
        jobs, states, ended=ENDED_TASK_STATES, deployment=deployment, now=time.time(), min_age=_MIN_AGE
    )
    found = []
    for finding in findings:
        key = str(labels_of(finding.job).get(KEY_LABEL))
        # By its key: a mapped task's name can be another task's own.
        if finding.orphan and key in creators and creators[key].state in ENDED_TASK_STATES:
            item = shown.row(finding.job, time.time())
            found.append(
                {
                    "name": finding.name,
                    "key": key,
                    "id": item["id"],
                    "display_name": item["display_name"],
                    "created": item["created"],
                    "why": finding.reason,
                    "outcome": "",
                }
            )
    return found
