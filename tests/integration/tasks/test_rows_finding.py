"""What an attempt makes of the jobs that are there: an automatic retry continues, only a person pays again."""

from __future__ import annotations

import json
import threading
import time
from typing import Any

import pytest

from airflow_tuning_provider import exceptions as errors
from airflow_tuning_provider._tasks import lookup
from airflow_tuning_provider.emulator.testing import Emulator
from airflow_tuning_provider.hooks.tuning_job import TuningJobHook
from airflow_tuning_provider.operators.tuning_job import CreateTuningJobOperator
from tests.integration.tasks.conftest import (
    BODY,
    LONG,
    MODES,
    Store,
    TaskInstance,
    blind,
    cancels,
    connection,
    creates,
    is_permanent,
    lists,
    live,
)

WORDS = "The eleventh row is of no use."


def operator(**kwargs: Any) -> CreateTuningJobOperator:
    return CreateTuningJobOperator(
        **{"task_id": "tune", "poll_interval": 0.2, "timeout": 10, **BODY, **kwargs}
    )


def lose(server: Emulator, ti: TaskInstance, **kwargs: Any) -> str:
    """Run an attempt whose process is lost while its job runs; return the job's name."""
    ti.lose(operator(**{**LONG, **kwargs}))
    return str(live(server)[-1])


def succeed(server: Emulator) -> None:
    for name in live(server):
        server.set_state(name, "JOB_STATE_SUCCEEDED")


def twin(server: Emulator, name: str) -> str:
    """Create another job that carries the labels of one."""
    (job,) = [job for job in server.jobs() if job["name"] == name]
    body = {key: job[key] for key in ("baseModel", "supervisedTuningSpec", "labels")}
    with TuningJobHook() as hook:
        return str(hook.create_tuning_job(body)["name"])


# -- several jobs of one task instance ---------------------------------------------------------------


@MODES
def test_of_three_live_jobs_the_oldest_goes_on(server: Emulator, ti: TaskInstance, deferrable: bool) -> None:
    first = lose(server, ti)
    others = [twin(server, first), twin(server, first)]
    ti.store = None  # what the store names is joined without a list
    joined = ti.retry().run(operator(**LONG, wait_for_completion=False, deferrable=deferrable))
    assert joined["tuning_job_name"] == first
    assert live(server) == [first]
    assert sorted(r["path"].rpartition("/")[2] for r in cancels(server)) == sorted(
        f"{name.rpartition('/')[2]}:cancel" for name in others
    )


@MODES
def test_of_several_live_jobs_the_one_with_the_same_input_goes_on(
    server: Emulator, ti: TaskInstance, deferrable: bool
) -> None:
    lose(server, ti, adapter_size=8)
    same = TaskInstance(run_id=ti.run_id)
    # A second attempt that saw nothing of the first: the list was late, say.
    blind(server)
    wanted = same.run(operator(**LONG, wait_for_completion=False))["tuning_job_name"]
    server.clear_faults()
    ti.store = Store()
    joined = ti.retry().run(operator(**LONG, wait_for_completion=False, deferrable=deferrable))
    assert joined["tuning_job_name"] == wanted
    assert live(server) == [wanted]


@MODES
@pytest.mark.parametrize("status", [403, 429])
def test_surplus_job_that_cannot_be_cancelled_does_not_end_the_task(
    server: Emulator, ti: TaskInstance, deferrable: bool, status: int
) -> None:
    first = lose(server, ti)
    twin(server, first)
    ti.store = None
    server.fault(method="POST", path_regex=":cancel$", times=1, status=status)
    task = operator(**LONG, deferrable=deferrable, wait_for_completion=False)
    assert ti.retry().run(task)["tuning_job_name"] == first


@MODES
def test_stale_job_that_cannot_be_cancelled_for_a_moment_is_cancelled_later(
    server: Emulator, ti: TaskInstance, deferrable: bool
) -> None:
    stale = lose(server, ti)
    server.fault(method="POST", path_regex=":cancel$", times=1, status=403)
    edited = {**LONG, "epoch_count": 999_999, "deferrable": deferrable, "wait_for_completion": False}
    made = ti.retry().run(operator(**edited))["tuning_job_name"]
    assert live(server) == [made] != [stale]


@MODES
def test_kill_cancels_every_live_job(server: Emulator, ti: TaskInstance, deferrable: bool) -> None:
    first = lose(server, ti)
    twin(server, first)
    ti.retry().kill(operator(**LONG, deferrable=deferrable))
    assert live(server) == []


# -- what differs ------------------------------------------------------------------------------------

COSMETIC = [
    {"labels": {"try": "2"}},
    {"description": "second try"},
    {"tuned_model_display_name": "support-router-2"},
]


@pytest.mark.parametrize("differs", COSMETIC, ids=lambda field: next(iter(field)))
@MODES
def test_job_that_differs_in_words_only_is_joined(
    server: Emulator, ti: TaskInstance, deferrable: bool, differs: dict[str, Any]
) -> None:
    name = lose(server, ti, labels={"try": "1"}, description="a", tuned_model_display_name="support-router")
    ti.before_trigger = lambda _: succeed(server)
    if not deferrable:
        succeed(server)
    given = {
        "labels": {"try": "1"},
        "description": "a",
        "tuned_model_display_name": "support-router",
        **differs,
    }
    assert ti.retry().run(operator(**LONG, **given, deferrable=deferrable))["tuning_job_name"] == name
    assert len(creates(server)) == 1
    assert cancels(server) == []


@pytest.mark.parametrize("field", ["labels", "description", "tunedModelDisplayName"])
def test_whole_body_that_differs_in_words_only_is_joined(
    server: Emulator, ti: TaskInstance, field: str
) -> None:
    body = {
        "baseModel": "gemini-3.5-flash",
        "supervisedTuningSpec": {"trainingDatasetUri": "gs://bucket/t.jsonl"},
    }
    names = []
    for words in ("one", "two"):
        value: Any = {"try": words} if field == "labels" else words
        task = CreateTuningJobOperator(
            task_id="tune", tuning_job={**body, field: value}, wait_for_completion=False
        )
        names.append(ti.run(task)["tuning_job_name"])
        ti.retry()
    assert names[0] == names[1]
    assert len(creates(server)) == 1


@MODES
def test_retry_with_other_input_says_which_fields_and_has_never_two_jobs(
    server: Emulator, ti: TaskInstance, deferrable: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    first = lose(server, ti, epoch_count=900_000, adapter_size=8)
    server.cancel_takes(2)
    before: list[str] = []
    ti.before_trigger = lambda _: before.append(server.jobs()[0]["state"])
    second = ti.retry().run(operator(epoch_count=2, adapter_size=8, deferrable=deferrable))
    assert second["tuning_job_name"] != first
    assert second["state"] == "JOB_STATE_SUCCEEDED"
    jobs = server.jobs()
    assert [job["state"] for job in jobs] == ["JOB_STATE_CANCELLED", "JOB_STATE_SUCCEEDED"]
    assert jobs[0]["endTime"] <= jobs[1]["createTime"], "the second began when the first had ended"
    told = "".join(line for line in capsys.readouterr().out.splitlines() if "warning" in line)
    assert "epoch" in told.lower()
    assert "adapter" not in told.lower()
    if deferrable:
        assert before[0] == "JOB_STATE_CANCELLING", "waiting for a stale job takes no worker"


# -- ends, retries and clears ------------------------------------------------------------------------

LASTING = [
    ("JOB_STATE_FAILED", {"code": 3, "message": WORDS}, errors.TuningJobFailedPermanentlyError),
    ("JOB_STATE_CANCELLED", {"code": 1, "message": WORDS}, errors.TuningJobCancelledError),
]
ENDS = pytest.mark.parametrize(("state", "error", "raised"), LASTING, ids=["failed-for-good", "cancelled"])


@ENDS
@MODES
@pytest.mark.parametrize("restarted", [False, True], ids=["retry", "restart"])
def test_retry_ends_as_its_job_has_ended_between_the_tries(
    server: Emulator,
    deferrable: bool,
    state: str,
    error: dict[str, Any],
    raised: type[Exception],
    restarted: bool,
) -> None:
    ti = TaskInstance(retries=3)
    name = lose(server, ti, deferrable=deferrable, retries=3)
    server.set_state(name, state, error)
    ti = ti.restart() if restarted else ti.retry()
    with pytest.raises(raised, match=WORDS) as caught:
        ti.run(operator(**LONG, deferrable=deferrable, retries=3))
    assert is_permanent(caught.value)
    assert name in str(caught.value)
    assert len(creates(server)) == 1


@ENDS
@MODES
def test_clear_after_such_an_end_creates(
    server: Emulator, deferrable: bool, state: str, error: dict[str, Any], raised: type[Exception]
) -> None:
    ti = TaskInstance(retries=3)
    name = lose(server, ti, deferrable=deferrable, retries=3)
    server.set_state(name, state, error)
    result = ti.clear().run(operator(deferrable=deferrable, retries=3, **{**LONG, "epoch_count": 1}))
    assert result["tuning_job_name"] != name
    assert result["state"] == "JOB_STATE_SUCCEEDED"
    assert len(creates(server)) == 2


@MODES
@pytest.mark.parametrize(
    ("state", "error"),
    [
        ("JOB_STATE_CANCELLED", {"code": 1, "message": "Cancelled."}),
        ("JOB_STATE_FAILED", {"code": 3, "message": WORDS}),
    ],
)
def test_run_that_was_deleted_and_created_anew_creates(
    server: Emulator, deferrable: bool, state: str, error: dict[str, Any]
) -> None:
    """Its first attempt is no retry, although the task instance has the same name and max_tries."""
    server.set_state(lose(server, TaskInstance(store=None)), state, error)
    anew = TaskInstance(store=None)
    made = anew.run(operator(**LONG, deferrable=deferrable, wait_for_completion=False))
    assert live(server) == [made["tuning_job_name"]]


def test_retry_after_a_clear_ends_as_the_new_job_has_ended(server: Emulator) -> None:
    """The job before the clear was another generation's, whatever became of it."""
    ti = TaskInstance(retries=3)
    server.set_state(lose(server, ti, retries=3), "JOB_STATE_CANCELLED", {"code": 1, "message": "Before."})
    second = lose(server, ti.clear(), retries=3)
    server.set_state(second, "JOB_STATE_CANCELLED", {"code": 1, "message": WORDS})
    with pytest.raises(errors.TuningJobCancelledError, match=WORDS):
        ti.retry().run(operator(**LONG, retries=3))
    assert len(creates(server)) == 2


def test_edited_retries_make_no_clear_of_a_retry(server: Emulator) -> None:
    ti = TaskInstance(retries=3)
    name = lose(server, ti, retries=3)
    server.set_state(name, "JOB_STATE_CANCELLED", {"code": 1, "message": WORDS})
    with pytest.raises(errors.TuningJobCancelledError, match=WORDS):
        ti.retry().run(operator(**LONG, retries=7))
    assert len(creates(server)) == 1


@MODES
def test_retry_after_an_end_that_it_can_mend_creates_once(server: Emulator, deferrable: bool) -> None:
    ti = TaskInstance(retries=3)
    name = lose(server, ti, deferrable=deferrable, retries=3)
    server.set_state(name, "JOB_STATE_FAILED", {"code": 13, "message": "Internal error."})
    second = lose(server, ti.retry(), deferrable=deferrable, retries=3)
    assert second != name
    assert ti.retry().run(operator(**LONG, wait_for_completion=False, retries=3))["tuning_job_name"] == second
    assert len(creates(server)) == 2


@pytest.mark.parametrize("store", [True, False], ids=["store", "no-store"])
def test_surplus_job_that_was_cancelled_is_no_verdict_on_the_retry(
    server: Emulator, ti: TaskInstance, store: bool
) -> None:
    first = lose(server, ti)
    twin(server, first)
    if ti.store is not None:
        ti.store["tuning_job"]["doubt"] = True  # else the list is not looked at
    if not store:
        ti.store = None
    ti.retry().lose(operator(**LONG))
    time.sleep(0.1)
    server.set_state(first, "JOB_STATE_FAILED", {"code": 13, "message": "Internal error."})
    made = ti.retry().run(operator(**LONG, wait_for_completion=False))
    assert live(server) == [made["tuning_job_name"]]


@pytest.mark.parametrize("store", [True, False], ids=["store", "no-store"])
def test_input_that_was_edited_there_and_back_is_trained(
    server: Emulator, ti: TaskInstance, store: bool
) -> None:
    if not store:
        ti.store = None
    lose(server, ti)
    ti.retry().lose(operator(**{**LONG, "epoch_count": 999_999}))
    made = ti.retry().run(operator(**LONG, wait_for_completion=False))
    assert live(server) == [made["tuning_job_name"]]


@MODES
def test_retry_after_a_success_returns_it(server: Emulator, deferrable: bool) -> None:
    ti = TaskInstance(retries=3)
    name = lose(server, ti, deferrable=deferrable)
    succeed(server)
    assert ti.retry().run(operator(**LONG, deferrable=deferrable))["tuning_job_name"] == name
    assert len(creates(server)) == 1


# -- force_new ---------------------------------------------------------------------------------------


@MODES
@pytest.mark.parametrize("edited", [0, 5], ids=["as-before", "retries-edited"])
def test_clear_of_a_task_that_waits_joins_its_job_although_it_is_forced(
    server: Emulator, deferrable: bool, edited: int
) -> None:
    ti = TaskInstance()
    name = lose(server, ti, force_new=True)
    ti.clear(retries=edited)
    forced = operator(
        **LONG, force_new=True, retries=edited, deferrable=deferrable, wait_for_completion=False
    )
    assert ti.run(forced)["tuning_job_name"] == name
    assert live(server) == [name]
    assert len(creates(server)) == 1


@MODES
@pytest.mark.parametrize("retries", [(0, 0), (0, 3), (3, 0), (2, 2)], ids=str)
def test_forced_clear_after_a_success_pays_again_once(
    server: Emulator, deferrable: bool, retries: tuple[int, int]
) -> None:
    ti = TaskInstance(retries=retries[0])
    task = {"force_new": True, "deferrable": deferrable}
    first = ti.run(operator(**task, retries=retries[0]))
    ti.clear(retries=retries[1])
    second = ti.run(operator(**task, retries=retries[1]))
    assert second["tuning_job_name"] != first["tuning_job_name"]
    assert (
        ti.retry().run(operator(**task, retries=retries[1]))["tuning_job_name"] == second["tuning_job_name"]
    )
    assert len(creates(server)) == 2


def test_retry_of_a_forced_clear_joins_its_job_although_it_is_forced_no_more(server: Emulator) -> None:
    ti = TaskInstance(store=None)
    lose(server, ti, force_new=True)
    succeed(server)
    name = lose(server, ti.clear(), force_new=True)
    joined = ti.retry().run(operator(**LONG, wait_for_completion=False))
    assert joined["tuning_job_name"] == name
    assert live(server) == [name]


# -- places that change between attempts -------------------------------------------------------------


@MODES
@pytest.mark.parametrize("moved", ["location", "project", "deployment"])
def test_job_that_was_left_in_another_place_does_not_go_on_unseen(
    server: Emulator, ti: TaskInstance, monkeypatch: pytest.MonkeyPatch, deferrable: bool, moved: str
) -> None:
    """Airflow 3.3's task state store remembers it; the list of another place does not show it."""
    lose(server, ti, deferrable=deferrable)
    place = {"location": {"location": "europe-west4"}, "project": {"project_id": "other-project"}}.get(
        moved, {}
    )
    if moved == "deployment":
        monkeypatch.setenv("AIRFLOW__VERTEX_AI_TUNING__DEPLOYMENT", "renamed")
    result = ti.retry().run(operator(**LONG, **place, deferrable=deferrable, wait_for_completion=False))
    assert live(server) == [result["tuning_job_name"]]


@pytest.mark.parametrize("numbers", [(False, True), (True, False)], ids=["id-to-number", "number-to-id"])
def test_project_that_is_spelled_otherwise_is_the_same_place(
    server: Emulator, ti: TaskInstance, numbers: tuple[bool, bool]
) -> None:
    number = lose(server, TaskInstance(run_id="another")).split("/")[1]
    succeed(server)
    before, after = (number if as_number else "test-project" for as_number in numbers)
    name = lose(server, ti, project_id=before)
    ti.retry().run(operator(**LONG, project_id=after, wait_for_completion=False))
    assert live(server) == [name]
    assert cancels(server) == []


def test_what_the_store_names_takes_one_look_and_no_list(server: Emulator, ti: TaskInstance) -> None:
    name = lose(server, ti)
    before = len(lists(server))
    assert ti.retry().run(operator(**LONG, wait_for_completion=False))["tuning_job_name"] == name
    assert len(lists(server)) == before


@pytest.mark.parametrize(
    "found",
    [
        pytest.param("{}", id="empty"),
        pytest.param('"text"', id="text"),
        pytest.param("[1]", id="list"),
        pytest.param('{"name": "projects/p/locations/l/tuningJobs/4711"}', id="gone"),
        pytest.param('{"name": "https://evil.example/"}', id="evil"),
        pytest.param('{"name": 5, "job": {}}', id="types"),
    ],
)
def test_memory_of_any_content_is_no_reason_to_fail_or_to_pay_twice(
    server: Emulator, ti: TaskInstance, found: str
) -> None:
    """Another version wrote it, or a person: the labels stay the first memory."""
    name = lose(server, ti)
    assert ti.store is not None
    ti.store.update(dict.fromkeys(ti.store or ["tuning_job"], json.loads(found)))
    assert ti.retry().run(operator(**LONG, wait_for_completion=False))["tuning_job_name"] == name
    assert len(creates(server)) == 1


@MODES
def test_without_a_store_the_labels_are_enough(server: Emulator, deferrable: bool) -> None:
    ti = TaskInstance(store=None)
    name = lose(server, ti, deferrable=deferrable)
    succeed(server)
    assert ti.retry().run(operator(**LONG, deferrable=deferrable))["tuning_job_name"] == name


# -- many jobs, and lists that are late or refuse ----------------------------------------------------


@pytest.mark.timeout(180)
def test_fifty_thousand_jobs_of_others_take_at_most_sixty_requests(
    server: Emulator, ti: TaskInstance
) -> None:
    server.seed(count=50_000)
    ti.store = None
    server.fault(method="POST", path_regex="/tuningJobs$", times=2, status=429)
    task = operator(**{**LONG, "timeout": 120}, deferrable=False, wait_for_completion=False)
    ti.retry().run(task)
    assert len(creates(server)) == 3
    assert len(server.requests()) <= 60


def test_list_without_an_end_is_not_followed_for_ever(server: Emulator, ti: TaskInstance) -> None:
    """Two pages that name each other as the next."""
    for page in range(120):
        body = {"nextPageToken": "ab"[page % 2]}
        server.fault(method="GET", path_regex="/tuningJobs$", times=1, status=200, body=body)
    with pytest.raises(errors.TuningUnavailableError, match="more jobs than"):
        ti.run(operator(**LONG))
    assert len(lists(server)) <= 60
    assert creates(server) == []


def test_ignored_filter_is_walked_through_once(
    server: Emulator, ti: TaskInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    pages = TuningJobHook.pages
    monkeypatch.setattr(
        TuningJobHook, "pages", lambda hook, **kwargs: pages(hook, **{**kwargs, "filter": None})
    )
    monkeypatch.setattr(lookup, "_PAGE_SIZE", 10)
    server.seed(count=55)
    ti.retry().run(operator(**LONG, wait_for_completion=False))
    assert len(lists(server)) == 2 * 6  # before the create and after it


def test_filter_is_proven_by_one_of_the_same_form(
    server: Emulator, ti: TaskInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It finds no label with a hyphen in its name: there it takes it for a minus, for instance."""
    name = lose(server, ti)
    ti.store = None
    server.seed({"labels": {"team": "support"}})
    pages = TuningJobHook.pages

    def without_hyphens(hook: TuningJobHook, *, filter: str | None = None, **kwargs: Any) -> Any:
        nothing = filter is not None and "-" in filter
        return iter([([], False)]) if nothing else pages(hook, filter=filter, **kwargs)

    monkeypatch.setattr(TuningJobHook, "pages", without_hyphens)
    monkeypatch.setattr(lookup, "_PAGE_SIZE", 1)
    found = ti.retry().run(operator(**LONG, wait_for_completion=False))
    assert found["tuning_job_name"] == name


def test_list_that_shows_a_cancellation_late_is_not_stormed(server: Emulator, ti: TaskInstance) -> None:
    lose(server, ti)
    server.lag(list_state_seconds=3)
    since = server.last_request()
    result = ti.retry().run(operator(epoch_count=2, wait_for_completion=False))
    assert live(server) == [result["tuning_job_name"]]
    assert len(server.requests(since)) <= 30


@MODES
def test_refused_list_before_a_create_is_borne_once(
    server: Emulator, ti: TaskInstance, deferrable: bool
) -> None:
    """Another attempt's job may be live behind it: a retry must not end for good."""
    lose(server, ti)
    ti.store = None
    server.fault(method="GET", path_regex="/tuningJobs$", times=1, status=403)
    began = time.monotonic()
    try:
        joined = ti.retry().run(operator(**LONG, deferrable=deferrable, wait_for_completion=False))
    except errors.TuningError as error:
        assert not is_permanent(error)  # noqa: PT017
    else:
        assert live(server) == [joined["tuning_job_name"]]
    assert time.monotonic() - began < 60
    assert len(creates(server)) == 1


# -- one job that looks like two ---------------------------------------------------------------------


def shown(server: Emulator, name: str) -> dict[str, Any]:
    return next(job for job in server.jobs() if job["name"] == name)


def by_id(name: str) -> str:
    """Return a job's name with its project's id in place of the number."""
    return f"projects/test-project/{name.split('/', 2)[2]}"


def test_job_that_is_listed_twice_is_one(server: Emulator, ti: TaskInstance) -> None:
    """Pages shift when a job is created while they are read."""
    name = lose(server, ti)
    ti.store = None
    page = {"tuningJobs": [shown(server, name)] * 2}
    server.fault(method="GET", path_regex="/tuningJobs$", times=-1, status=200, body=page)
    ti.retry().run(operator(**LONG, wait_for_completion=False))
    assert live(server) == [name]


def test_job_that_a_create_and_a_list_name_differently_is_one(
    server: Emulator, ti: TaskInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    create = TuningJobHook.create_tuning_job

    def answered_with_the_id(self: TuningJobHook, body: Any, **kwargs: Any) -> dict[str, Any]:
        job = create(self, body, **kwargs)
        return {**job, "name": by_id(job["name"])}

    monkeypatch.setattr(TuningJobHook, "create_tuning_job", answered_with_the_id)
    ti.run(operator(**LONG, wait_for_completion=False))
    assert len(live(server)) == 1


def test_job_that_a_get_and_a_list_name_differently_is_one(server: Emulator, ti: TaskInstance) -> None:
    name = lose(server, ti)
    assert ti.store is not None
    ti.store["tuning_job"].update(doubt=True, name=by_id(name))
    body = {**shown(server, name), "name": by_id(name)}
    server.fault(method="GET", path_regex="/tuningJobs/", times=1, status=200, body=body)
    ti.retry().run(operator(**LONG, wait_for_completion=False))
    assert live(server) == [name]


# -- a first look that fails -------------------------------------------------------------------------


@MODES
@pytest.mark.parametrize("store", [True, False], ids=["store", "no-store"])
@pytest.mark.parametrize("ended", [True, False], ids=["ended", "live"])
@pytest.mark.parametrize("status", [403, 404, 503])
def test_job_that_cannot_be_seen_for_a_moment_is_looked_at_again(
    server: Emulator, ti: TaskInstance, deferrable: bool, store: bool, ended: bool, status: int
) -> None:
    """This may be the last attempt: where it fails at once, a job goes on that nobody waits for."""
    name = lose(server, ti)
    if ended:
        succeed(server)
    if not store:
        ti.store = None
    server.fault(method="GET", path_regex="/tuningJobs/", times=1, status=status)
    found = ti.retry().run(operator(**LONG, deferrable=deferrable, wait_for_completion=False))
    assert found["tuning_job_name"] == name
    assert len(creates(server)) == 1


@MODES
def test_connection_that_is_broken_for_a_moment_before_the_first_look_is_borne(
    server: Emulator, ti: TaskInstance, monkeypatch: pytest.MonkeyPatch, deferrable: bool
) -> None:
    name = lose(server, ti)
    good = connection(server.url)
    monkeypatch.setenv("AIRFLOW_CONN_GOOGLE_CLOUD_DEFAULT", "{broken")

    def mend(*_: Any) -> None:
        monkeypatch.setenv("AIRFLOW_CONN_GOOGLE_CLOUD_DEFAULT", good)

    timer = threading.Timer(1.0, mend)
    timer.start()
    try:
        found = ti.retry().run(operator(**LONG, deferrable=deferrable, wait_for_completion=False))
    finally:
        timer.join()
    assert found["tuning_job_name"] == name
