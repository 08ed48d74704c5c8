"""Every method of the hook, against the emulator."""

from __future__ import annotations

import itertools
import math
import threading
import time
from typing import Any

import pytest

from airflow_tuning_provider import __version__
from airflow_tuning_provider.api import waiting
from airflow_tuning_provider.emulator.testing import Emulator
from airflow_tuning_provider.exceptions import (
    AirflowFailException,
    TuningBadRequestError,
    TuningError,
    TuningInvalidInputError,
    TuningJobCancelledError,
    TuningJobFailedError,
    TuningNotFoundError,
    TuningUnavailableError,
    TuningWaitTimeoutError,
)
from airflow_tuning_provider.hooks import tuning_job
from airflow_tuning_provider.hooks.tuning_job import TuningJobHook
from tests.integration.conftest import BODY, PARENT, QUICK, Connect, Hooks
from tests.integration.servers import Server, Stopwatch, answering, free_port

OPERATION = f"{PARENT}/operations/1234567890123456789"


def lists(emulator: Emulator) -> list[dict[str, Any]]:
    return [r for r in emulator.requests() if r["method"] == "GET" and r["path"].endswith("/tuningJobs")]


def emulator_words(emulator: Emulator) -> str:
    """Return the API's own words, as it says them to anybody."""
    with TuningJobHook() as hook, pytest.raises(TuningError) as caught:
        hook.get_tuning_job("1")
    assert caught.value.api_error is not None
    return caught.value.api_error.message


def bodies(emulator: Emulator) -> list[Any]:
    return [r["body"] for r in emulator.requests() if r["method"] == "POST"]


class TestCreateAndGet:
    def test_the_body_goes_out_in_camel_case_and_the_job_comes_back_as_the_api_sent_it(
        self, hook: TuningJobHook, emulator: Emulator
    ) -> None:
        snake = {
            "base_model": "gemini-3.5-flash",
            "supervised_tuning_spec": {"training_dataset_uri": "gs://bucket/train.jsonl"},
            "labels": {"team": "a"},
        }
        job = hook.create_tuning_job(snake)
        assert bodies(emulator) == [{**BODY, "labels": {"team": "a"}}]
        assert job["state"] == "JOB_STATE_PENDING"
        assert hook.get_tuning_job(job["name"])["labels"] == {"team": "a"}

    def test_a_bare_id_means_the_connection_s_project_and_location(
        self, hook: TuningJobHook, emulator: Emulator
    ) -> None:
        name = hook.create_tuning_job(BODY)["name"]
        job_id = name.rpartition("/")[2]
        assert hook.get_tuning_job(job_id)["name"] == name
        assert emulator.requests()[-1]["path"] == f"/v1/{PARENT}/tuningJobs/{job_id}"

    def test_an_unknown_job_is_not_found(self, hook: TuningJobHook, emulator: Emulator) -> None:
        with pytest.raises(TuningNotFoundError, match=r"404 NOT_FOUND.*\n.*Check the name"):
            hook.get_tuning_job("12345")
        assert len(emulator.requests()) == 1

    @pytest.mark.parametrize(
        ("method", "argument"),
        [
            ("create_tuning_job", {}),
            ("create_tuning_job", {"baseModel": "m", "labels": {"A": "x"}}),
            ("get_tuning_job", "../../secret"),
            ("get_tuning_job", "projects/p/locations/evil.com#/tuningJobs/1"),
            ("cancel_tuning_job", ""),
            ("get_operation", "operations/1"),
            ("cancel_operation", f"{PARENT}/tuningJobs/1"),
            ("wait_for_tuning_job", "a/b"),
            ("wait_for_tuning_job", 5),
        ],
    )
    def test_input_that_cannot_be_right_is_refused_before_anything_is_sent(
        self, hook: TuningJobHook, emulator: Emulator, method: str, argument: Any
    ) -> None:
        with pytest.raises(TuningInvalidInputError, match="Nothing was sent"):
            getattr(hook, method)(argument)
        assert emulator.requests() == []

    def test_what_the_api_refuses_is_told_in_its_own_words(
        self, hook: TuningJobHook, emulator: Emulator
    ) -> None:
        error = {"code": 400, "status": "INVALID_ARGUMENT", "message": "Base model m is not supported"}
        emulator.fault(status=400, body={"error": error})
        with pytest.raises(TuningBadRequestError, match=r"INVALID_ARGUMENT.*Base model m is not supported"):
            hook.create_tuning_job(BODY)
        assert len(emulator.requests()) == 1


class TestScope:
    def test_the_call_s_scope_wins_over_the_hook_s_and_that_over_the_connection_s(
        self, hooks: Hooks, emulator: Emulator, connect: Connect
    ) -> None:
        connect(api_endpoint=emulator.url)
        hook = hooks(project_id="hook-project", location="europe-west4")
        hook.create_tuning_job(BODY)
        hook.create_tuning_job(BODY, project_id="call-project", location="us-east1")
        list(hook.list_tuning_jobs(project_id="call-project"))
        assert [r["path"] for r in emulator.requests()] == [
            "/v1/projects/hook-project/locations/europe-west4/tuningJobs",
            "/v1/projects/call-project/locations/us-east1/tuningJobs",
            "/v1/projects/call-project/locations/europe-west4/tuningJobs",
        ]

    def test_without_a_location_anywhere_the_message_says_where_to_put_one(
        self, hooks: Hooks, emulator: Emulator, connect: Connect
    ) -> None:
        connect(api_endpoint=emulator.url, location=None)
        with pytest.raises(
            TuningInvalidInputError, match=r"location=None .* the extra of connection 'google_cloud_default'"
        ):
            hooks().create_tuning_job(BODY)

    @pytest.mark.parametrize(
        "arguments",
        [
            {"api_version": "v2"},
            {"request_timeout": 0},
            {"request_timeout": "5"},
            {"request_timeout": float("nan")},
            {"project_id": "../x"},
            {"location": "evil.example"},
            {"impersonation_chain": "not an address"},
        ],
    )
    def test_a_hook_s_own_parameters_are_checked(
        self, hooks: Hooks, emulator: Emulator, connect: Connect, arguments: dict[str, Any]
    ) -> None:
        connect(api_endpoint=emulator.url)
        with pytest.raises(TuningInvalidInputError, match=next(iter(arguments))):
            hooks(**arguments).get_tuning_job("1")
        assert emulator.requests() == []

    def test_the_beta_api_is_asked_where_it_is_wanted(
        self, hooks: Hooks, emulator: Emulator, connect: Connect
    ) -> None:
        connect(api_endpoint=emulator.url)
        hook = hooks(api_version="v1beta1")
        hook.get_tuning_job(hook.create_tuning_job(BODY)["name"])
        assert all(r["path"].startswith("/v1beta1/projects/") for r in emulator.requests())

    def test_requests_say_who_sends_them(self, hook: TuningJobHook, emulator: Emulator) -> None:
        hook.create_tuning_job(BODY)
        headers = emulator.requests()[0]["headers"]
        assert headers["user-agent"] == f"airflow-tuning-provider/{__version__} (gzip)"
        assert headers["x-goog-api-client"] == f"airflow-tuning-provider/{__version__}"
        assert headers["content-type"] == "application/json; charset=utf-8"

    def test_a_path_below_the_endpoint_s_host_is_kept(self, hooks: Hooks, connect: Connect) -> None:
        with Server(answering({})) as server:
            connect(api_endpoint=f"{server.url}/proxy/vertex/")
            assert list(hooks().list_tuning_jobs()) == []
        assert server.requests[0].startswith(f"GET /proxy/vertex/v1/{PARENT}/tuningJobs HTTP".encode())


class TestList:
    @pytest.fixture
    def five(self, hook: TuningJobHook, emulator: Emulator) -> list[str]:
        names = [hook.create_tuning_job({**BODY, "labels": {"n": str(n % 2)}})["name"] for n in range(5)]
        return names[::-1]

    def test_pages_are_fetched_when_they_are_needed(
        self, hook: TuningJobHook, emulator: Emulator, five: list[str]
    ) -> None:
        jobs = hook.list_tuning_jobs(page_size=2)
        assert lists(emulator) == []
        assert [next(jobs)["name"], next(jobs)["name"]] == five[:2]
        assert len(lists(emulator)) == 1
        assert next(jobs)["name"] == five[2]
        assert len(lists(emulator)) == 2
        assert [job["name"] for job in jobs] == five[3:]
        assert [r["query"].get("pageSize") for r in lists(emulator)] == ["2", "2", "2"]

    @pytest.mark.parametrize(("limit", "pages"), [(0, 0), (1, 1), (2, 1), (3, 2), (4, 2), (5, 3), (9, 3)])
    def test_a_limit_saves_the_pages_beyond_it(
        self, hook: TuningJobHook, emulator: Emulator, five: list[str], limit: int, pages: int
    ) -> None:
        assert [j["name"] for j in hook.list_tuning_jobs(page_size=2, limit=limit)] == five[:limit]
        assert len(lists(emulator)) == pages

    def test_the_filter_reaches_the_server_on_every_page(
        self, hook: TuningJobHook, emulator: Emulator, five: list[str]
    ) -> None:
        jobs = hook.list_tuning_jobs(filter="labels.n=0", page_size=2)
        assert [job["name"] for job in jobs] == five[::2]
        assert [r["query"]["filter"] for r in lists(emulator)] == ["labels.n=0"] * 2

    def test_an_empty_list_is_empty(self, hook: TuningJobHook) -> None:
        assert list(hook.list_tuning_jobs()) == []

    def test_a_page_that_fails_for_a_moment_is_asked_again(
        self, hook: TuningJobHook, emulator: Emulator, five: list[str]
    ) -> None:
        jobs = hook.list_tuning_jobs(page_size=3)
        first = list(itertools.islice(jobs, 3))
        emulator.fault(status=503)
        assert [job["name"] for job in [*first, *jobs]] == five

    @pytest.mark.parametrize("page_size", [0, -1, 1001, True])
    def test_a_page_size_that_no_server_accepts_is_refused(
        self, hook: TuningJobHook, emulator: Emulator, page_size: Any
    ) -> None:
        with pytest.raises(TuningInvalidInputError, match="page_size"):
            next(hook.list_tuning_jobs(page_size=page_size))
        assert emulator.requests() == []

    def test_a_mask_of_fields_goes_with_every_page(
        self, hook: TuningJobHook, emulator: Emulator, five: list[str]
    ) -> None:
        jobs = hook.list_tuning_jobs(page_size=3, fields="nextPageToken,tuningJobs(name,state)")
        assert [job["name"] for job in jobs] == five
        assert {r["query"]["fields"] for r in lists(emulator)} == {"nextPageToken,tuningJobs(name,state)"}

    def test_a_mask_that_is_refused_is_left_out(
        self, hook: TuningJobHook, emulator: Emulator, five: list[str]
    ) -> None:
        jobs = hook.list_tuning_jobs(page_size=2, fields="nextPageToken,tuningJobs(name)")
        first = next(jobs)
        emulator.fault(method="GET", status=400)
        rest = list(jobs)
        assert [job["name"] for job in [first, *rest]] == five
        assert ["fields" in r["query"] for r in lists(emulator)] == [True, True, False, False]
        assert "baseModel" in rest[-1]

    def test_a_bad_filter_stays_one_with_a_mask(self, hook: TuningJobHook, emulator: Emulator) -> None:
        emulator.fault(method="GET", status=400, times=-1)
        with pytest.raises(TuningBadRequestError):
            list(hook.list_tuning_jobs(filter="?", fields="tuningJobs(name)"))
        assert len(lists(emulator)) == 2

    def test_list_now_sends_one_request_over_a_connection_of_its_own(
        self, hook: TuningJobHook, emulator: Emulator, five: list[str]
    ) -> None:
        found = hook.list_now("labels.n=1", timeout=3.0)
        assert [job["name"] for job in found] == five[1::2]
        emulator.fault(method="GET", status=503)
        with pytest.raises(TuningUnavailableError):
            hook.list_now(None)
        emulator.fault(method="GET", delay_seconds=5)
        with Stopwatch() as watch, pytest.raises(TuningUnavailableError):
            hook.list_now(None, project_id="test-project", location="us-central1", timeout=0.3)
        assert watch.seconds < 2
        assert len(lists(emulator)) == 3


class TestCancel:
    def test_a_job_is_cancelled(self, hook: TuningJobHook, emulator: Emulator) -> None:
        name = hook.create_tuning_job(BODY)["name"]
        assert hook.cancel_tuning_job(name) is None
        with pytest.raises(TuningJobCancelledError):
            hook.wait_for_tuning_job(name, poll_interval=0.05)

    def test_a_job_that_has_ended_cannot_be_cancelled(self, hook: TuningJobHook, emulator: Emulator) -> None:
        name = hook.create_tuning_job(BODY)["name"]
        emulator.set_state(name, "JOB_STATE_SUCCEEDED")
        with pytest.raises(TuningBadRequestError):
            hook.cancel_tuning_job(name)

    def test_a_cancellation_is_repeated_after_a_fault(self, hook: TuningJobHook, emulator: Emulator) -> None:
        name = hook.create_tuning_job(BODY)["name"]
        emulator.fault(path_regex=":cancel$", status=503, times=2)
        hook.cancel_tuning_job(name)
        assert [r["status"] for r in emulator.requests()][1:] == [503, 503, 200]

    def test_cancel_now_sends_one_request_over_a_connection_of_its_own(
        self, emulator: Emulator, connect: Connect
    ) -> None:
        connect(api_endpoint=emulator.url)
        with TuningJobHook(retry_policy=QUICK) as hook:
            name = hook.create_tuning_job(BODY)["name"]
            emulator.fault(path_regex=":cancel$", status=503)
            with pytest.raises(TuningUnavailableError):
                hook.cancel_now(name)
            hook.cancel_now(name)
            assert [r["status"] for r in emulator.requests()][1:] == [503, 200]
            started = time.monotonic()
            emulator.fault(path_regex=":cancel$", delay_seconds=5)
            with pytest.raises(TuningUnavailableError, match="request_timeout"):
                hook.cancel_now(name, timeout=0.3)
            assert time.monotonic() - started < 2

    def test_cancel_now_knows_operations(self, emulator: Emulator, connect: Connect) -> None:
        connect(api_endpoint=emulator.url)
        with TuningJobHook(retry_policy=QUICK) as hook, pytest.raises(TuningBadRequestError, match="404"):
            hook.cancel_now(OPERATION)
        assert emulator.requests()[0]["path"] == f"/v1/{OPERATION}:cancel"


class TestOperations:
    @pytest.fixture
    def operation(self, hook: TuningJobHook, emulator: Emulator) -> str:
        job = hook.create_tuning_job(BODY)
        hook.wait_for_tuning_job(job["name"], poll_interval=0.05)
        body = {
            "tunedModelRef": {"tuningJob": job["name"]},
            "tuningJob": {"baseModel": "gemini-3.5-flash"},
        }
        return str(hook.rebase_tuned_model(body)["name"])

    def test_a_rebase_is_an_operation_that_can_be_waited_for(
        self, hook: TuningJobHook, emulator: Emulator, operation: str
    ) -> None:
        assert hook.get_operation(operation)["name"] == operation
        done = hook.wait_until_ended(operation, poll_interval=0.05, deadline=None)
        assert done["done"] is True
        assert "tuningJobs/" in done["response"]["name"]
        rebase = next(r for r in emulator.requests() if "rebase" in r["path"])
        assert rebase["path"] == f"/v1/{PARENT}/tuningJobs:rebaseTunedModel"

    def test_an_operation_can_be_cancelled(self, hook: TuningJobHook, operation: str) -> None:
        hook.cancel_operation(operation)
        done = hook.wait_until_ended(operation, poll_interval=0.05, deadline=None)
        assert done["done"] is True

    def test_waiting_for_an_operation_ends_at_the_deadline(self, hooks: Hooks, connect: Connect) -> None:
        with Server(answering({"name": OPERATION})) as server:
            connect(api_endpoint=server.url)
            with pytest.raises(TuningWaitTimeoutError, match="did not end in time"):
                hooks().wait_until_ended(OPERATION, poll_interval=0.1, deadline=time.time() + 0.3)

    def test_an_operation_without_a_name_is_a_bad_response(self, hooks: Hooks, connect: Connect) -> None:
        with Server(answering({"done": True})) as server:
            connect(api_endpoint=server.url, num_retries=0)
            with pytest.raises(TuningUnavailableError, match="'name'"):
                hooks(retry_policy=None).get_operation(OPERATION)


class TestWait:
    def test_the_job_comes_back_when_it_has_succeeded(self, hook: TuningJobHook) -> None:
        name = hook.create_tuning_job(BODY)["name"]
        job = hook.wait_for_tuning_job(name, poll_interval=0.1)
        assert job["state"] == "JOB_STATE_SUCCEEDED"
        assert job["tunedModel"]["endpoint"]

    @pytest.mark.parametrize("state", ["JOB_STATE_FAILED", "JOB_STATE_EXPIRED"])
    def test_a_failed_job_raises(self, hook: TuningJobHook, emulator: Emulator, state: str) -> None:
        name = hook.create_tuning_job(BODY)["name"]
        emulator.set_state(name, state, {"code": 13, "message": "Failed to create endpoint."})
        with pytest.raises(TuningJobFailedError, match="Failed to create endpoint"):
            hook.wait_for_tuning_job(name)

    def test_the_wait_ends_in_time_and_the_job_goes_on(self, hook: TuningJobHook, emulator: Emulator) -> None:
        name = hook.create_tuning_job(BODY)["name"]
        emulator.set_state(name, "JOB_STATE_RUNNING")
        started = time.monotonic()
        with pytest.raises(TuningWaitTimeoutError, match="goes on and may cost money"):
            hook.wait_for_tuning_job(name, poll_interval=60, timeout=0.5)
        assert 0.4 < time.monotonic() - started < 3
        assert not any(r["path"].endswith(":cancel") for r in emulator.requests())

    def test_faults_during_the_wait_do_not_end_it(self, hook: TuningJobHook, emulator: Emulator) -> None:
        name = hook.create_tuning_job(BODY)["name"]
        emulator.set_state(name, "JOB_STATE_SUCCEEDED")
        emulator.fault(drop="before_processing")
        emulator.fault(status=200, body="<html>")
        assert hook.wait_for_tuning_job(name, poll_interval=0.05)["state"] == "JOB_STATE_SUCCEEDED"
        assert len(emulator.requests()) == 4

    def test_the_error_budget_ends_the_wait(self, hook: TuningJobHook, emulator: Emulator) -> None:
        name = hook.create_tuning_job(BODY)["name"]
        emulator.fault(status=503, times=-1)
        with pytest.raises(TuningUnavailableError, match="503"):
            hook.wait_for_tuning_job(name, poll_interval=0.05, error_budget=0.2)

    @pytest.mark.parametrize("status", [400, 401, 403, 404])
    def test_failing_to_see_is_not_an_end(self, hook: TuningJobHook, emulator: Emulator, status: int) -> None:
        name = hook.create_tuning_job(BODY)["name"]
        emulator.fault(method="GET", status=status, times=4)
        assert hook.wait_for_tuning_job(name, poll_interval=0.05)["state"] == "JOB_STATE_SUCCEEDED"

    @pytest.mark.parametrize("status", [403, 404])
    def test_a_job_that_stays_out_of_sight_goes_on_and_a_retry_may_see_it(
        self, hook: TuningJobHook, emulator: Emulator, monkeypatch: pytest.MonkeyPatch, status: int
    ) -> None:
        monkeypatch.setattr(waiting, "SIGHT_SECONDS", 0.5)
        name = hook.create_tuning_job(BODY)["name"]
        emulator.fault(method="GET", status=status, times=-1)
        with Stopwatch() as watch, pytest.raises(TuningUnavailableError) as caught:
            hook.wait_until_ended(name, poll_interval=0.1, deadline=None)
        assert 0.5 <= watch.seconds < 3
        assert not isinstance(caught.value, AirflowFailException)
        assert caught.value.tuning_job_name == name
        for words in (name, "goes on and may cost money", f"{status} ", emulator_words(emulator)):
            assert words in str(caught.value)

    def test_a_connection_that_is_missing_or_broken_for_a_moment_is_no_end(
        self, hooks: Hooks, emulator: Emulator, connect: Connect, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        connect(api_endpoint=emulator.url)
        name = hooks().create_tuning_job(BODY)["name"]
        emulator.set_state(name, "JOB_STATE_SUCCEEDED")
        monkeypatch.delenv("AIRFLOW_CONN_GOOGLE_CLOUD_DEFAULT")
        threading.Timer(0.3, connect, kwargs={"api_endpoint": "ftp://nonsense"}).start()
        threading.Timer(0.6, connect, kwargs={"password": None, "key_path": "/not/yet/mounted"}).start()
        threading.Timer(0.9, connect, kwargs={"api_endpoint": emulator.url}).start()
        with Stopwatch() as watch:
            job = hooks().wait_until_ended(name, poll_interval=0.1, deadline=None)
        assert job["state"] == "JOB_STATE_SUCCEEDED"
        assert watch.seconds >= 0.8

    def test_a_key_that_is_replaced_during_the_wait_is_picked_up(
        self, hooks: Hooks, emulator: Emulator, connect: Connect, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(tuning_job, "RENEW_AFTER", 0.2)
        with Emulator(speed=4000, datasets="skip", token="new-token") as strict:
            connect(api_endpoint=strict.url, password="new-token")
            name = hooks().create_tuning_job(BODY)["name"]
            connect(api_endpoint=strict.url, password="old-token")
            hook = hooks()
            threading.Timer(
                0.5, connect, kwargs={"api_endpoint": strict.url, "password": "new-token"}
            ).start()
            assert hook.wait_until_ended(name, poll_interval=0.1, deadline=None)["name"] == name

    @pytest.mark.parametrize(
        "wrong",
        [{"poll_interval": math.inf}, {"poll_interval": 0}, {"timeout": 1e12}, {"timeout": -1}],
        ids=str,
    )
    def test_durations_are_bounded(self, hook: TuningJobHook, emulator: Emulator, wrong: Any) -> None:
        with pytest.raises(TuningInvalidInputError, match=next(iter(wrong))):
            hook.wait_for_tuning_job("1", **wrong)
        assert emulator.requests() == []


class TestGenerate:
    def test_a_tuned_endpoint_answers(self, hook: TuningJobHook, emulator: Emulator) -> None:
        name = hook.create_tuning_job(BODY)["name"]
        endpoint = hook.wait_for_tuning_job(name, poll_interval=0.05)["tunedModel"]["endpoint"]
        answer = hook.generate_content(endpoint, "Hello", generation_config={"max_output_tokens": 5})
        assert answer["candidates"][0]["content"]["parts"]
        sent = emulator.requests()[-1]
        assert sent["path"] == f"/v1/{endpoint}:generateContent"
        assert sent["body"] == {
            "contents": [{"role": "user", "parts": [{"text": "Hello"}]}],
            "generationConfig": {"maxOutputTokens": 5},
        }

    def test_a_model_id_means_google_s_model(self, hook: TuningJobHook, emulator: Emulator) -> None:
        # An older one: newer ones answer in no single region.
        hook.generate_content("gemini-2.5-flash", "Hello")
        path = f"/v1/{PARENT}/publishers/google/models/gemini-2.5-flash:generateContent"
        assert emulator.requests()[-1]["path"] == path

    def test_a_tuned_model_s_name_is_refused_with_the_right_hint(self, hook: TuningJobHook) -> None:
        with pytest.raises(TuningInvalidInputError, match="through its endpoint"):
            hook.generate_content(f"{PARENT}/models/123@1", "Hello")


class TestTestConnection:
    def test_a_good_connection(self, hook: TuningJobHook, emulator: Emulator) -> None:
        good, message = hook.test_connection()
        assert good
        assert message == "Works: connection, credentials, reach, API enabled, list permission."
        assert lists(emulator)[0]["query"] == {"pageSize": "1"}

    def test_a_bad_one_says_why(self, hooks: Hooks, emulator: Emulator, connect: Connect) -> None:
        connect(api_endpoint=emulator.url)
        emulator.fault(status=403, times=-1)
        good, message = hooks().test_connection()
        assert not good
        assert "403" in message
        assert message.startswith("List permission: 403")

    def test_one_that_does_not_exist(self, hooks: Hooks, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("AIRFLOW_CONN_GOOGLE_CLOUD_DEFAULT", raising=False)
        good, message = hooks(gcp_conn_id="no_such_connection").test_connection()
        assert not good
        assert "no_such_connection" in message

    def test_an_unreachable_one(self, hooks: Hooks, connect: Connect) -> None:
        connect(api_endpoint=f"http://127.0.0.1:{free_port()}", num_retries=0)
        good, message = hooks(retry_policy=None).test_connection()
        assert not good
        assert "the connection failed" in message


def test_a_closed_hook_can_be_used_again(hooks: Hooks, emulator: Emulator, connect: Connect) -> None:
    connect(api_endpoint=emulator.url)
    hook = hooks()
    for _ in range(2):
        assert list(hook.list_tuning_jobs()) == []
        hook.close()


def test_get_conn_is_an_authorized_session(emulator: Emulator, connect: Connect) -> None:
    connect(api_endpoint=emulator.url)
    with TuningJobHook() as hook:
        response = hook.get_conn().get(f"{emulator.url}/v1/{PARENT}/tuningJobs")
        assert response.status_code == 200
