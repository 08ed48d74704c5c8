"""One conversation with a tuning API: raw requests, what they were answered, and the jobs that it has begun."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, cast

import requests

from airflow_tuning_provider.hooks.tuning_job import TuningJobHook

Json = dict[str, Any]

RUN_LABEL = "tuning-contract"
"""The label that every job of a conversation carries, with a value of its own."""
MOST_JOBS = 8
"""Jobs that a conversation may have created, also by requests that it expects to be refused."""

ENDED = tuple(f"JOB_STATE_{state}" for state in ("SUCCEEDED", "FAILED", "CANCELLED", "EXPIRED"))
_KEPT_HEADERS = ("content-type", "retry-after", "www-authenticate")


class NotSeen(Exception):  # noqa: N818 - no error: the server gave no occasion
    """The server gave no occasion to see whether an expectation holds."""


class BudgetError(Exception):
    """One more job would be one too many."""


@dataclass(frozen=True)
class Answer:
    """What a request was answered.

    :param seconds: from the request to its whole answer.
    """

    status: int
    headers: dict[str, str]
    text: str
    json: Any
    seconds: float

    @property
    def error(self) -> Json:
        """Google's error envelope, or an empty object."""
        envelope = self.json.get("error") if isinstance(self.json, dict) else None
        return envelope if isinstance(envelope, dict) else {}

    @property
    def details(self) -> list[Json]:
        """The details of the error."""
        return [item for item in self.error.get("details", []) if isinstance(item, dict)]

    def refusal(self) -> Json:
        """Return the parts of a refusal that a program can decide on."""
        kinds = sorted(str(item.get("@type", "")).rpartition(".")[2] for item in self.details)
        reasons = [item["reason"] for item in self.details if "reason" in item]
        return {
            "http": self.status,
            "status": self.error.get("status"),
            "details": kinds,
            **({"reason": reasons[0]} if reasons else {}),
        }


@dataclass
class Session:
    """A conversation in one project and location.

    :param hook: whose connection, credentials and endpoint are used.
    :param data_uri: a small training set that the API can read.
    :param model: the base model of its jobs.
    :param pause: seconds between two looks.
    :param patience: seconds to wait for what takes minutes at Google: a state, the reading of a data set.
    :param to_the_end_seconds: seconds to wait for a job to succeed; 0 to let none.
    """

    hook: TuningJobHook
    data_uri: str
    model: str
    pause: float
    patience: float
    to_the_end_seconds: float
    run: str = field(default_factory=lambda: f"run-{secrets.token_hex(4)}")
    facts: Json = field(default_factory=dict)
    measured: Json = field(default_factory=dict)
    exchanges: list[Json] = field(default_factory=list)
    created: dict[str, Json] = field(default_factory=dict)
    answers: dict[str, Answer] = field(default_factory=dict)
    _said: dict[str, Json] = field(default_factory=dict)

    @property
    def parent(self) -> str:
        """``projects/…/locations/…`` of the conversation."""
        return str(self.hook.parent)

    @property
    def jobs_path(self) -> str:
        """Where jobs are created and listed."""
        return f"/v1/{self.parent}/tuningJobs"

    @contextmanager
    def about(self) -> Iterator[None]:
        """Begin to talk about another expectation."""
        self.facts, self.measured, self.exchanges = {}, {}, []
        yield

    def note(self, **facts: Any) -> None:
        """Take down what was found out; the emulator has to agree with it."""
        self.facts.update(facts)

    def measure(self, **figures: float) -> None:
        """Take down what differs from one time to the next."""
        self.measured.update({name: round(value, 2) for name, value in figures.items()})

    # -- asking ------------------------------------------------------------------------------------------

    def ask(
        self,
        method: str,
        path: str,
        body: Json | None = None,
        query: dict[str, str] | None = None,
        *,
        authorized: bool = True,
    ) -> Answer:
        """Send one request as it is; a read that is turned away for the moment is sent again."""
        for again in (2, 1, 0):
            answer = self._send(method, path, body, query, authorized)
            busy = answer.status == 429 or answer.status >= 500
            if method != "GET" or not busy or not again:
                break
            time.sleep(self.pause * 2)
        said = answer.json if answer.json is not None else answer.text[:2000]
        self.exchanges.append(
            {
                "request": {"method": method, "path": path, "query": query or {}, "body": body},
                "answer": {"status": answer.status, "headers": answer.headers, "body": said},
            }
        )
        return answer

    def _send(
        self, method: str, path: str, body: Json | None, query: dict[str, str] | None, authorized: bool
    ) -> Answer:
        session: Any = self.hook.get_conn() if authorized else requests.Session()
        location = self.hook.settings.location or ""
        if path.startswith("/v1") and "/locations/" in path:
            location = path.split("/locations/")[1].split("/")[0]
        began = time.monotonic()
        response = session.request(
            method,
            self.hook.settings.base_url(location) + path,
            params=query,
            json=body,
            timeout=60,
            allow_redirects=False,
            proxies={"http": ""},
        )
        try:
            parsed = response.json()
        except ValueError:
            parsed = None
        headers = {k.lower(): v for k, v in response.headers.items() if k.lower() in _KEPT_HEADERS}
        return Answer(response.status_code, headers, response.text, parsed, time.monotonic() - began)

    def body(self, **fields: Any) -> Json:
        """Return the body of a create, with other or further fields (None: without one)."""
        hyper = {"epochCount": "1"}
        spec = {"trainingDatasetUri": self.data_uri, "hyperParameters": hyper}
        labels = {RUN_LABEL: self.run}
        whole = {"baseModel": self.model, "supervisedTuningSpec": spec, "labels": labels, **fields}
        return {name: value for name, value in whole.items() if value is not None}

    def create(self, **fields: Any) -> Answer:
        """Send a create. Whatever is created is cancelled in the end, and counts.

        :raises BudgetError: instead of a job too many.
        """
        if len(self.created) >= MOST_JOBS:
            raise BudgetError(f"{MOST_JOBS} jobs were created; no more are.")
        answer = self.ask("POST", self.jobs_path, self.body(**fields))
        if answer.status == 200 and isinstance(answer.json, dict) and "name" in answer.json:
            self.created[str(answer.json["name"])] = answer.json
        return answer

    def get(self, name: str, version: str = "v1") -> Answer:
        """Get a job, or anything else by its name."""
        return self.ask("GET", f"/{version}/{name}")

    def page(self, **query: Any) -> Answer:
        """Ask for one page of jobs."""
        return self.ask("GET", self.jobs_path, query={name: str(value) for name, value in query.items()})

    def walk(self, **query: Any) -> list[Json]:
        """Return the jobs of every page."""
        jobs, token = [], ""
        while True:
            answer = self.page(**query, **({"pageToken": token} if token else {}))
            assert answer.status == 200, answer.text
            jobs += answer.json.get("tuningJobs", [])
            if not (token := answer.json.get("nextPageToken", "")):
                return jobs

    def cancel(self, name: str) -> Answer:
        """Ask for the cancellation of a job."""
        return self.ask("POST", f"/v1/{name}:cancel", {})

    # -- the jobs that the expectations share ------------------------------------------------------------

    def job(self, role: str, **fields: Any) -> Json:
        """Return the job that was created for a role, as the create answered.

        :raises NotSeen: if it was refused.
        """
        answer = self.attempt(role, **fields)
        if answer.status == 429:
            raise NotSeen(f"the {role} job was refused for lack of quota: {answer.error.get('message')}")
        assert answer.status == 200, answer.text
        return cast("Json", answer.json)

    def attempt(self, role: str, **fields: Any) -> Answer:
        """Create the job for a role once, and return how that was answered."""
        return self.once(role, lambda: self.create(**fields))

    def once(self, what: str, ask: Callable[[], Answer]) -> Answer:
        """Ask something once in the conversation; what was said belongs to every expectation that builds on it."""
        if what not in self.answers:
            self.answers[what] = ask()
            self._said[what] = self.exchanges[-1]
        elif self._said[what] not in self.exchanges:
            self.exchanges.append(self._said[what])
        return self.answers[what]

    def until(self, name: str, states: tuple[str, ...], seconds: float | None = None) -> Json:
        """Look at a job until it is in one of the states.

        :raises NotSeen: if it does not get there in time.
        """
        give_up = time.monotonic() + (self.patience if seconds is None else seconds)
        before = len(self.exchanges)
        while True:
            job = self.get(name).json
            del self.exchanges[before:-1]  # the last look tells it all
            if job.get("state") in states:
                return cast("Json", job)
            if time.monotonic() > give_up:
                raise NotSeen(f"the job is still {job.get('state')}")
            time.sleep(self.pause)

    def seconds_until(self, seen: Callable[[], bool]) -> float:
        """Return how long it takes until something is seen."""
        began = time.monotonic()
        while not seen():
            if time.monotonic() - began > self.patience:
                raise AssertionError(f"not seen within {self.patience:.0f} s")
            time.sleep(self.pause)
        return time.monotonic() - began

    # -- the end -----------------------------------------------------------------------------------------

    def clean_up(self) -> list[str]:
        """Cancel every job of this conversation that goes on, and return those that could not be.

        A job whose create was not answered is found by its label.
        """
        names = set(self.created)
        try:
            jobs = self.walk(pageSize=1000)
            names |= {str(job["name"]) for job in jobs if job.get("labels", {}).get(RUN_LABEL) == self.run}
        except (AssertionError, OSError):
            pass  # what is known is cancelled all the same
        left = []
        for name in sorted(names):
            try:
                self.cancel(name)
                self.until(name, (*ENDED, "JOB_STATE_CANCELLING"))
            except (NotSeen, OSError, AttributeError, ValueError):
                left.append(name)
        return left
