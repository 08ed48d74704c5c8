"""The expectations. Each asks a server, takes down what it found, and fails where that is not what is expected."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise

from tests.contract.session import ENDED, RUN_LABEL, NotSeen, Session

GOOGLE = "yes"
PARTLY = "in part"
NOT = "no"

ACTIVE = ("JOB_STATE_QUEUED", "JOB_STATE_PENDING", "JOB_STATE_RUNNING")
KNOWN_STATES = {
    *ENDED,
    *ACTIVE,
    *(f"JOB_STATE_{s}" for s in ("UNSPECIFIED", "CANCELLING", "PAUSED", "UPDATING", "PARTIALLY_SUCCEEDED")),
}


@dataclass(frozen=True)
class Expectation:
    """Something that this provider relies on.

    :param name: short, for tests and recordings.
    :param says: what is expected, in one sentence.
    :param documented: whether Google documents it: ``yes``, ``in part``, ``no``.
    :param check: asks a server, notes facts, and raises ``AssertionError`` or :class:`NotSeen`.
    :param emulator: whether the emulator does it.
    :param to_the_end: whether it needs a job that has succeeded.
    """

    name: str
    says: str
    documented: str
    check: Callable[[Session], None]
    emulator: bool = True
    to_the_end: bool = False


EXPECTATIONS: list[Expectation] = []


def expected(
    says: str, documented: str, *, emulator: bool = True, to_the_end: bool = False
) -> Callable[[Callable[[Session], None]], Callable[[Session], None]]:
    """Enter a check into the list, in the order of the file."""

    def enter(check: Callable[[Session], None]) -> Callable[[Session], None]:
        name = check.__name__.replace("_", "-")
        EXPECTATIONS.append(Expectation(name, says, documented, check, emulator, to_the_end))
        return check

    return enter


# -- refusals, which cost nothing ------------------------------------------------------------------------


@expected(
    "A request without a token is answered 401 `UNAUTHENTICATED`, with an `ErrorInfo` that gives a reason.",
    PARTLY,
)
def no_token(s: Session) -> None:
    answer = s.ask("GET", s.jobs_path, authorized=False)
    s.note(**answer.refusal())
    assert (answer.status, answer.error.get("status")) == (401, "UNAUTHENTICATED")
    assert answer.refusal().get("reason")


@expected("A URL that no API has is answered 404 without the error envelope.", NOT)
def unknown_url(s: Session) -> None:
    answer = s.ask("GET", f"/v1/{s.parent}/tuningTasks")
    s.note(http=answer.status, envelope=bool(answer.error))
    assert answer.status == 404
    assert not answer.error


@expected("A field that the API does not know is refused with 400, and `fieldViolations` name it.", PARTLY)
def unknown_field(s: Session) -> None:
    answer = s.create(tuningJobb="x")
    s.note(**answer.refusal())
    assert (answer.status, answer.error.get("status")) == (400, "INVALID_ARGUMENT")
    assert "tuningJobb" in answer.text
    assert any("fieldViolations" in item for item in answer.details)


@expected("A training set that is no `gs://….jsonl` is refused with 400 before a job exists.", PARTLY)
def wrong_uri(s: Session) -> None:
    spec = {"trainingDatasetUri": s.data_uri.removesuffix(".jsonl") + ".csv"}
    answer = s.create(supervisedTuningSpec=spec)
    s.note(http=answer.status, status=answer.error.get("status"))
    assert (answer.status, answer.error.get("status")) == (400, "INVALID_ARGUMENT")


@expected("A model that cannot be tuned is refused with 400.", NOT)
def unknown_model(s: Session) -> None:
    answer = s.create(baseModel="text-bison@001")
    s.note(http=answer.status, status=answer.error.get("status"))
    assert (answer.status, answer.error.get("status")) == (400, "INVALID_ARGUMENT")


@expected("A label with a capital letter is refused with 400.", PARTLY)
def wrong_label(s: Session) -> None:
    answer = s.create(labels={RUN_LABEL: s.run, "team": "Capital"})
    s.note(http=answer.status, status=answer.error.get("status"))
    assert (answer.status, answer.error.get("status")) == (400, "INVALID_ARGUMENT")


@expected("A job that does not exist is 404 `NOT_FOUND`, for get as for cancel.", GOOGLE)
def no_such_job(s: Session) -> None:
    name = f"{s.parent}/tuningJobs/1"
    answers = {"get": s.get(name), "cancel": s.cancel(name)}
    for call, answer in answers.items():
        s.note(**{call: answer.refusal()})
        assert (answer.status, answer.error.get("status")) == (404, "NOT_FOUND")


@expected("A filter that cannot be read is refused with 400.", NOT)
def malformed_filter(s: Session) -> None:
    answer = s.page(filter='state="JOB_STATE_RUNNING')
    s.note(http=answer.status, status=answer.error.get("status"))
    assert (answer.status, answer.error.get("status")) == (400, "INVALID_ARGUMENT")


@expected("A `fields` mask with an unknown field is refused with 400.", PARTLY)
def unknown_mask(s: Session) -> None:
    answer = s.page(fields="tuningJobs(nameOfTheJob)")
    s.note(http=answer.status, status=answer.error.get("status"))
    assert (answer.status, answer.error.get("status")) == (400, "INVALID_ARGUMENT")


@expected("A page token that the API did not give is refused with 400.", NOT)
def wrong_page_token(s: Session) -> None:
    answer = s.page(pageToken="no-token")
    s.note(http=answer.status, status=answer.error.get("status"))
    assert (answer.status, answer.error.get("status")) == (400, "INVALID_ARGUMENT")


# -- a job, and what is seen of it -----------------------------------------------------------------------


@expected(
    "Create answers with the job: its full name with the project's number, a state, its labels, `createTime`.",
    GOOGLE,
)
def created_job(s: Session) -> None:
    job = s.job("first")
    s.note(waits=job.get("state") in ACTIVE, labels=RUN_LABEL in job.get("labels", {}))
    assert re.fullmatch(r"projects/[0-9]+/locations/[a-z0-9-]+/tuningJobs/[0-9]+", job["name"])
    assert job["state"] in ACTIVE
    assert job["labels"] == {RUN_LABEL: s.run}
    assert datetime.fromisoformat(re.sub(r"(\.\d{1,6})?\d*Z$", r"\1+00:00", job["createTime"]))


@expected('Whole numbers come as strings (`"epochCount": "1"`), and enums as names.', GOOGLE)
def numbers_as_strings(s: Session) -> None:
    hyper = s.get(s.job("first")["name"]).json["supervisedTuningSpec"].get("hyperParameters", {})
    s.note(epochCount=type(hyper.get("epochCount")).__name__)
    assert hyper["epochCount"] == "1"


@expected("A `tunedModelDisplayName` that was left out is filled in when the job is created.", PARTLY)
def display_name(s: Session) -> None:
    job = s.job("first")
    s.note(filled_in="tunedModelDisplayName" in job)
    assert job["tunedModelDisplayName"]


@expected("Get finds a job within a minute of its creation.", NOT)
def lag_of_get(s: Session) -> None:
    name = s.job("first")["name"]
    lag = s.seconds_until(lambda: s.get(name).status == 200)
    s.measure(seconds=lag)
    assert lag < 60


@expected("The list shows a job within a minute of its creation.", NOT)
def lag_of_list(s: Session) -> None:
    name = s.job("first")["name"]
    shown = lambda: any(job["name"] == name for job in s.page(pageSize=10).json.get("tuningJobs", []))  # noqa: E731
    lag = s.seconds_until(shown)
    s.measure(seconds=lag)
    assert lag < 60


@expected("A job is found by the project's id as by its number.", PARTLY)
def project_by_id(s: Session) -> None:
    number = s.job("first")["name"].split("/")[1]
    name = s.job("first")["name"].replace(f"projects/{number}/", f"{s.parent.split('/locations')[0]}/")
    answer = s.get(name)
    s.note(http=answer.status)
    assert answer.json["name"] == s.job("first")["name"]


@expected("The list shows a job's labels.", PARTLY)
def labels_in_the_list(s: Session) -> None:
    first = s.job("first")
    found = [job for job in s.walk(pageSize=100) if job["name"] == first["name"]]
    s.note(labels=bool(found and found[0].get("labels")))
    assert [job["labels"] for job in found] == [{RUN_LABEL: s.run}]


@expected('The filter `labels.KEY="VALUE"` finds the jobs with that label and no others.', NOT)
def label_filter(s: Session) -> None:
    first = s.job("first")
    found = s.page(filter=f'labels.{RUN_LABEL}="{s.run}"')
    none = s.page(filter=f'labels.{RUN_LABEL}="{s.run}-not"')
    s.note(http=found.status)
    assert found.status == 200, found.text
    jobs = found.json.get("tuningJobs", [])
    s.note(others=sum(job.get("labels", {}).get(RUN_LABEL) != s.run for job in jobs), none=none.json)
    assert first["name"] in [job["name"] for job in jobs]
    assert all(job["labels"][RUN_LABEL] == s.run for job in jobs)
    assert none.json == {}


@expected('The filter `state="JOB_STATE_…"` finds the jobs in that state and no others.', NOT)
def state_filter(s: Session) -> None:
    s.job("first")
    answer = s.page(filter='state="JOB_STATE_CANCELLED"')
    s.note(http=answer.status)
    assert answer.status == 200, answer.text
    assert {job["state"] for job in answer.json.get("tuningJobs", [])} <= {"JOB_STATE_CANCELLED"}


@expected("`fields` on a list sends the named fields only, the next page's token among them.", PARTLY)
def fields_mask(s: Session) -> None:
    s.job("first")
    answer = s.page(fields="nextPageToken,tuningJobs(name,state,labels)", pageSize=1)
    shown = {field for job in answer.json["tuningJobs"] for field in job}
    s.note(http=answer.status, fields=sorted(shown))
    assert {"name", "state"} <= shown <= {"name", "state", "labels"}


@expected("The list is newest first.", NOT)
def newest_first(s: Session) -> None:
    s.job("first")
    s.attempt("second")  # where it is refused, what is there already will do
    jobs = s.walk(pageSize=100)
    if len(jobs) < 2:
        raise NotSeen("there is one job only")
    times = [job["createTime"] for job in jobs]
    s.note(newest_first=all(one >= other for one, other in pairwise(times)))
    assert times == sorted(times, reverse=True)


@expected("Pages follow each other by their token, and each job is on one of them.", PARTLY)
def pages(s: Session) -> None:
    s.job("first")
    whole = [job["name"] for job in s.walk(pageSize=1000)]
    if not 2 <= len(whole) <= 200:
        raise NotSeen(f"there are {len(whole)} jobs, of 2 to 200")
    size = max(1, len(whole) // 3)
    paged = [job["name"] for job in s.walk(pageSize=size)]
    s.note(same=paged == whole)
    assert paged == whole


@expected("Without a size, a page has 100 jobs.", NOT)
def default_page_size(s: Session) -> None:
    if len(s.walk(pageSize=1000)) <= 100:
        raise NotSeen("there are no more than 100 jobs")
    count = len(s.page().json["tuningJobs"])
    s.note(jobs=count)
    assert count == 100


@expected("A page size above 1000 is taken for 1000.", NOT)
def large_page_size(s: Session) -> None:
    s.job("first")
    answer = s.page(pageSize=5000)
    s.note(http=answer.status)
    assert answer.status == 200, answer.text
    assert len(answer.json["tuningJobs"]) <= 1000


@expected("Both API versions show the same job, `v1beta1` with a `tuningJobState`.", PARTLY)
def both_versions(s: Session) -> None:
    job = s.job("first")
    beta = s.get(job["name"], "v1beta1")
    s.note(http=beta.status, tuningJobState="tuningJobState" in beta.json)
    assert beta.json["name"] == job["name"]
    assert "tuningJobState" in beta.json


# -- the quota -------------------------------------------------------------------------------------------


@expected(
    "A create beyond the quota of concurrent jobs is 429 `RESOURCE_EXHAUSTED`, or its job waits.", PARTLY
)
def over_quota(s: Session) -> None:
    for role in ("first", "second", "third"):
        answer = s.attempt(role)
        if answer.status == 429:
            # Not noted how: the emulator has both, and one of them is as it is started.
            s.note(held_back=answer.error.get("status") == "RESOURCE_EXHAUSTED")
            assert answer.error.get("status") == "RESOURCE_EXHAUSTED"
            return
        assert answer.status == 200, answer.text
    states = [s.get(s.job(role)["name"]).json["state"] for role in ("first", "second", "third")]
    if "JOB_STATE_QUEUED" not in states:
        raise NotSeen("three jobs are within the quota")
    s.note(held_back=True)


@expected("The 429 for too many concurrent jobs tells by `RetryInfo` when to come again.", NOT)
def retry_info(s: Session) -> None:
    refused = [a for role in ("first", "second", "third") if (a := s.attempt(role)).status == 429]
    if not refused:
        raise NotSeen("no create was refused for lack of quota")
    s.note(details=refused[0].refusal()["details"])
    assert "RetryInfo" in refused[0].refusal()["details"]


# -- the end of a job ------------------------------------------------------------------------------------


@expected("Cancel answers 200 `{}`, at once.", GOOGLE)
def cancel(s: Session) -> None:
    name = s.job("first")["name"]
    answer = s.once("cancel", lambda: s.cancel(name))
    s.once("cancel again", lambda: s.cancel(name))
    s.note(http=answer.status, body=answer.json)
    s.measure(seconds=answer.seconds)
    assert (answer.status, answer.json) == (200, {})


@expected("Cancelling a job that is being cancelled is fine: 200 `{}`.", NOT)
def cancel_twice(s: Session) -> None:
    cancel(s)
    s.facts.clear()
    state = s.get(s.job("first")["name"]).json["state"]
    again = s.answers["cancel again"]
    if again.status == 400 and state == "JOB_STATE_CANCELLED":
        raise NotSeen("the job was cancelled before the second request came")
    s.note(**({"http": 200, "body": again.json} if again.status == 200 else again.refusal()))
    assert (again.status, again.json) == (200, {})


@expected(
    "A cancelled job goes through `CANCELLING` to `CANCELLED`, with the error's code 1 and an end.", GOOGLE
)
def cancelled_job(s: Session) -> None:
    cancel(s)
    s.facts.clear()
    job = s.until(s.job("first")["name"], ENDED)
    s.note(state=job["state"], code=job.get("error", {}).get("code"), ended="endTime" in job)
    assert job["state"] == "JOB_STATE_CANCELLED"
    assert job["error"]["code"] == 1
    assert job["endTime"] >= job["createTime"]


@expected("Cancelling a job that has ended is refused with 400 `FAILED_PRECONDITION`.", NOT)
def cancel_ended(s: Session) -> None:
    cancelled_job(s)
    answer = s.cancel(s.job("first")["name"])
    s.facts.clear()
    s.note(**answer.refusal())
    assert (answer.status, answer.error.get("status")) == (400, "FAILED_PRECONDITION")


@expected("A job whose training set is not there ends as `FAILED`, with an error that says so.", NOT)
def missing_data(s: Session) -> None:
    for role in ("second", "third"):
        if role in s.answers and s.answers[role].status == 200:
            s.cancel(s.job(role)["name"])
            s.until(s.job(role)["name"], ENDED)
    spec = {
        "trainingDatasetUri": s.data_uri.replace(".jsonl", "-missing.jsonl"),
        "hyperParameters": {"epochCount": 1},
    }
    answer = s.attempt("missing-data", supervisedTuningSpec=spec)
    if answer.status == 400:
        s.note(refused=answer.error.get("status"))
        raise AssertionError("refused when it was created")
    job = s.until(s.job("missing-data")["name"], ENDED)
    s.note(state=job["state"], code=job.get("error", {}).get("code"))
    assert job["state"] == "JOB_STATE_FAILED"
    assert job["error"]["message"]


@expected("Every state that a list shows is one of those that Google documents.", GOOGLE)
def known_states(s: Session) -> None:
    s.job("first")
    seen = {job["state"] for job in s.walk(pageSize=1000)}
    assert seen <= KNOWN_STATES, seen - KNOWN_STATES


# -- a job that succeeds ---------------------------------------------------------------------------------


def _succeeded(s: Session) -> dict[str, object]:
    if not s.to_the_end_seconds:
        raise NotSeen("no job was run to its end")
    name = s.job("to the end")["name"]
    job = s.until(name, ENDED, s.to_the_end_seconds)
    assert job["state"] == "JOB_STATE_SUCCEEDED", job
    return job


@expected(
    "A job that succeeded names its model with a version, its endpoint, its checkpoints and its end.",
    GOOGLE,
    to_the_end=True,
)
def succeeded_job(s: Session) -> None:
    job: dict = _succeeded(s)  # type: ignore[type-arg]
    tuned = job["tunedModel"]
    s.note(version="@" in tuned["model"], endpoint="endpoint" in tuned, started="startTime" in job)
    assert re.fullmatch(r"projects/[^/]+/locations/[^/]+/models/[^@/]+@[0-9]+", tuned["model"])
    assert re.fullmatch(r"projects/[^/]+/locations/[^/]+/endpoints/[0-9]+", tuned["endpoint"])
    assert job["createTime"] <= job["startTime"] <= job["endTime"]


@expected(
    "Learning rate multiplier and adapter size are filled in by then, and the billable tokens are told.",
    PARTLY,
    to_the_end=True,
)
def back_filled(s: Session) -> None:
    spec: dict = _succeeded(s)  # type: ignore[type-arg]
    hyper = spec["supervisedTuningSpec"]["hyperParameters"]
    stats = spec["tuningDataStats"]["supervisedTuningDataStats"]
    s.note(hyperParameters=sorted(hyper), tokens=type(stats["totalBillableTokenCount"]).__name__)
    assert hyper["learningRateMultiplier"] == 1
    assert hyper["adapterSize"].startswith("ADAPTER_SIZE_")
    assert int(stats["totalBillableTokenCount"]) > 0


@expected(
    "The endpoint of a Gemini 3 model is in `us` or `eu`, whatever the job's region.", PARTLY, to_the_end=True
)
def endpoint_in_multi_region(s: Session) -> None:
    job: dict = _succeeded(s)  # type: ignore[type-arg]
    location = job["tunedModel"]["endpoint"].split("/")[3]
    s.note(multi_region=location in ("us", "eu"))
    assert location in ("us", "eu")


@expected(
    "Aliases of a tuned model's version are set by `:mergeVersionAliases`.",
    GOOGLE,
    to_the_end=True,
)
def aliases(s: Session) -> None:
    job: dict = _succeeded(s)  # type: ignore[type-arg]
    model = job["tunedModel"]["model"]
    answer = s.ask("POST", f"/v1/{model}:mergeVersionAliases", {"versionAliases": ["tuning-contract"]})
    s.note(http=answer.status)
    assert answer.status == 200, answer.text
    assert "tuning-contract" in answer.json["versionAliases"]
    s.ask("POST", f"/v1/{model}:mergeVersionAliases", {"versionAliases": ["-tuning-contract"]})
