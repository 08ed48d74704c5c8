"""CreateTuningJobOperator against the emulator: one job per task instance, whatever happens."""

from __future__ import annotations

import inspect
import logging
import os
import signal
import sys
import threading
import time
from datetime import timedelta
from typing import Any

import pytest

from airflow_tuning_provider import _supervisor
from airflow_tuning_provider import exceptions as errors
from airflow_tuning_provider._tasks import submission
from airflow_tuning_provider.api.identity import FINGERPRINT_LABEL, KEY_LABEL
from airflow_tuning_provider.emulator.testing import Emulator
from airflow_tuning_provider.hooks.tuning_job import TuningJobHook
from airflow_tuning_provider.operators.tuning_job import CreateTuningJobOperator
from tests.integration.tasks.conftest import BODY, TaskInstance, cancels, creates, is_permanent

MODES = pytest.mark.parametrize("deferrable", [True, False], ids=["deferrable", "blocking"])


def operator(**kwargs: Any) -> CreateTuningJobOperator:
    return CreateTuningJobOperator(**{"task_id": "tune", "poll_interval": 0.2, **BODY, **kwargs})


@MODES
def test_job_is_created_watched_and_returned(
    server: Emulator, ti: TaskInstance, deferrable: bool, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        result = ti.run(operator(deferrable=deferrable, epoch_count="3", labels={"team": "search"}))
    (job,) = server.jobs()
    assert result["tuning_job_name"] == job["name"]
    assert result["state"] == "JOB_STATE_SUCCEEDED"
    assert result["endpoint"] == job["tunedModel"]["endpoint"]
    assert result["tuned_model"] == job["tunedModel"]["model"]
    assert result["tuned_model_version"] == "1"
    assert [point["epoch"] for point in result["checkpoints"]] == [1, 2, 3]
    assert result["example_count"] > 0
    assert result["billable_token_count"] > 0
    assert len(creates(server)) == 1
    assert ti.xcoms["tuning_job_url"].startswith("https://console.cloud.google.com/")
    assert ti.xcoms["tuned_model_url"].endswith(job["name"].split("/")[1])
    assert ti.xcoms["tuned_endpoint_url"]
    assert len(ti.deferrals) == int(deferrable)


def test_job_carries_labels_of_its_task_instance(server: Emulator) -> None:
    ti = TaskInstance(dag_id="Retrain.Weekly", run_id="manual__2026-11-22T10:00:00+00:00", map_index=7)
    ti.run(operator(labels={"team": "search"}, wait_for_completion=False))
    labels = server.jobs()[0]["labels"]
    assert labels["team"] == "search"
    assert labels["airflow-dag-id"] == "retrain_weekly"
    assert labels["airflow-run-id"] == "manual__2026-11-22t10_00_00_00_00"
    assert labels["airflow-task-id"] == "tune"
    assert labels["airflow-map-index"] == "7"
    assert labels[KEY_LABEL]
    assert labels[FINGERPRINT_LABEL]


def test_result_is_the_same_in_both_modes(server: Emulator) -> None:
    volatile = {
        "tuning_job_name",
        "tuned_model",
        "endpoint",
        "checkpoints",
        "tuned_model_display_name",
        "labels",
    }
    volatile |= {"create_time", "start_time", "end_time", "pending_seconds", "running_seconds"}
    results = [TaskInstance(task_id=f"t{mode}").run(operator(deferrable=mode)) for mode in (True, False)]
    assert results[0].keys() == results[1].keys()
    assert {k: v for k, v in results[0].items() if k not in volatile} == {
        k: v for k, v in results[1].items() if k not in volatile
    }


def test_link_is_there_while_the_job_still_runs(server: Emulator, ti: TaskInstance) -> None:
    seen: list[dict[str, Any]] = []
    ti.before_trigger = lambda deferred: seen.append(dict(ti.xcoms))
    ti.run(operator())
    assert seen[0]["tuning_job_url"]
    assert seen[0]["tuning_job_name"] == server.jobs()[0]["name"]


def test_not_waiting_returns_the_same_keys_at_once(server: Emulator, ti: TaskInstance) -> None:
    at_once = ti.run(operator(wait_for_completion=False))
    assert at_once["state"] == "JOB_STATE_PENDING"
    assert at_once["endpoint"] is None
    assert not ti.deferrals
    assert at_once.keys() == TaskInstance(task_id="other").run(operator()).keys()


@pytest.mark.parametrize(
    ("parameters", "sent"),
    [
        (
            {"epoch_count": 2, "learning_rate_multiplier": "0.5", "adapter_size": 4},
            {
                "hyperParameters": {
                    "epochCount": "2",
                    "learningRateMultiplier": 0.5,
                    "adapterSize": "ADAPTER_SIZE_FOUR",
                }
            },
        ),
        ({"validation_dataset_uri": "gs://bucket/v.jsonl"}, {"validationDatasetUri": "gs://bucket/v.jsonl"}),
        ({"export_last_checkpoint_only": "true"}, {"exportLastCheckpointOnly": True}),
    ],
)
def test_supervised_parameters(
    server: Emulator, ti: TaskInstance, parameters: dict[str, Any], sent: dict[str, Any]
) -> None:
    ti.run(operator(**parameters, wait_for_completion=False))
    spec = server.jobs()[0]["supervisedTuningSpec"]
    for key, value in sent.items():
        assert spec[key] == value


def test_all_other_parameters(server: Emulator, ti: TaskInstance) -> None:
    key = "projects/test-project/locations/us-central1/keyRings/ring/cryptoKeys/key"
    account = "tuner@test-project.iam.gserviceaccount.com"
    ti.run(
        operator(
            tuned_model_display_name="router",
            description="weekly",
            kms_key_name=key,
            service_account=account,
            evaluation_config={
                "metrics": [{"exact_match_spec": {}}],
                "output_config": {"gcs_destination": {"output_uri_prefix": "gs://bucket/eval/"}},
            },
            wait_for_completion=False,
        )
    )
    (job,) = server.jobs()
    assert job["tunedModelDisplayName"] == "router"
    assert job["description"] == "weekly"
    assert job["encryptionSpec"] == {"kmsKeyName": key}
    assert job["serviceAccount"] == account
    assert job["supervisedTuningSpec"]["evaluationConfig"]["metrics"]


def test_continuous_tuning(server: Emulator, ti: TaskInstance) -> None:
    first = ti.run(operator())
    ti = TaskInstance(task_id="further")
    ti.run(
        operator(
            base_model=None,
            pre_tuned_model=first["tuned_model"],
            pre_tuned_model_checkpoint_id=1,
            wait_for_completion=False,
        )
    )
    job = next(job for job in server.jobs() if "preTunedModel" in job)
    assert job["preTunedModel"]["tunedModelName"] == first["tuned_model"]
    assert job["preTunedModel"]["checkpointId"] == "1"


def test_preference_optimization(server: Emulator, ti: TaskInstance) -> None:
    ti.run(operator(preference_optimization=True, beta="0.1", adapter_size="8", wait_for_completion=False))
    spec = server.jobs()[0]["preferenceOptimizationSpec"]
    assert spec["hyperParameters"]["beta"] == 0.1
    assert spec["hyperParameters"]["adapterSize"] == "ADAPTER_SIZE_EIGHT"


def test_whole_body_of_v1beta1(server: Emulator, ti: TaskInstance) -> None:
    body = {
        "base_model": "gemini-3.5-flash",
        "reinforcement_tuning_spec": {
            "training_dataset_uri": "gs://bucket/rl.jsonl",
            "single_reward_config": {"string_match_reward_scorer": {"correct_answer_reward": 1.0}},
            "hyper_parameters": {"samples_per_prompt": 4},
        },
    }
    task = CreateTuningJobOperator(
        task_id="tune", tuning_job=body, api_version="v1beta1", wait_for_completion=False
    )
    ti.run(task)
    assert server.jobs()[0]["reinforcementTuningSpec"]["hyperParameters"]["samplesPerPrompt"] == 4
    assert creates(server)[0]["path"].startswith("/v1beta1/")


@pytest.mark.parametrize(
    ("parameters", "field"),
    [
        ({"adapter_size": 3}, "adapter_size"),
        ({"epoch_count": 0}, "epoch_count"),
        ({"epoch_count": True}, "epoch_count"),
        ({"learning_rate_multiplier": "nan"}, "learning_rate_multiplier"),
        ({"pre_tuned_model": "projects/p/locations/us-central1/models/1"}, "base_model"),
        ({"base_model": None}, "base_model"),
        ({"training_dataset_uri": "s3://bucket/train.jsonl"}, "training_dataset_uri"),
        ({"training_dataset_uri": None}, "training_dataset_uri"),
        ({"validation_dataset_uri": "train.jsonl"}, "validation_dataset_uri"),
        ({"labels": {"Team": "x"}}, "labels"),
        ({"labels": {"team": "Search"}}, "labels"),
        ({"beta": 0.1}, "beta"),
        ({"location": "evil.example/"}, "location"),
        ({"project_id": "a/../b"}, "project_id"),
        ({"api_version": "v2"}, "api_version"),
        ({"poll_interval": "soon"}, "poll_interval"),
        ({"timeout": -1}, "timeout"),
        ({"force_new": "perhaps"}, "force_new"),
        ({"tuning_job": {"baseModel": "m"}}, "base_model"),
        ({"kms_key_name": "my-key"}, "kms_key_name"),
        ({"service_account": "me"}, "service_account"),
        ({"request_timeout": 0}, "request_timeout"),
        ({"impersonation_chain": "not-an-account"}, "impersonation_chain"),
    ],
)
def test_bad_input_is_refused_before_anything_is_sent(
    server: Emulator, ti: TaskInstance, parameters: dict[str, Any], field: str
) -> None:
    with pytest.raises(errors.TuningInvalidInputError, match=field) as caught:
        ti.run(operator(**parameters))
    assert caught.value.field.startswith(field)
    assert is_permanent(caught.value)
    assert server.requests() == []


def fail_while_waiting(server: Emulator, state: str, error: dict[str, Any] | None) -> Any:
    def act(deferred: Any) -> None:
        server.set_state(server.jobs()[-1]["name"], state, error)

    return act


def test_failed_job_fails_with_the_words_of_the_api(server: Emulator, ti: TaskInstance) -> None:
    error = {"code": 13, "message": "Failed to create endpoint."}
    ti.before_trigger = fail_while_waiting(server, "JOB_STATE_FAILED", error)
    with pytest.raises(errors.TuningJobFailedError, match=r"INTERNAL: Failed to create endpoint\.") as caught:
        ti.run(operator())
    assert not is_permanent(caught.value)
    for words in (
        "https://console.cloud.google.com/",
        "costs nothing more",
        "A retry of the task creates a new job",
    ):
        assert words in str(caught.value)


def test_job_that_cannot_succeed_fails_at_once_without_retries(server: Emulator, ti: TaskInstance) -> None:
    error = {"code": 3, "message": "Row: 0. Missing required `contents` field."}
    ti.before_trigger = fail_while_waiting(server, "JOB_STATE_FAILED", error)
    with pytest.raises(errors.TuningJobFailedPermanentlyError, match="Missing required `contents`") as caught:
        ti.run(operator())
    assert is_permanent(caught.value)
    assert "not retried" in str(caught.value)
    assert ti.xcoms["tuning_job_url"]


def test_cancelled_job_is_not_made_again_by_itself(server: Emulator, ti: TaskInstance) -> None:
    ti.before_trigger = fail_while_waiting(
        server, "JOB_STATE_CANCELLED", {"code": 1, "message": "Cancelled."}
    )
    with pytest.raises(errors.TuningJobCancelledError) as caught:
        ti.run(operator())
    assert is_permanent(caught.value)


def test_expired_job_may_be_retried(server: Emulator, ti: TaskInstance) -> None:
    ti.before_trigger = fail_while_waiting(server, "JOB_STATE_EXPIRED", None)
    with pytest.raises(errors.TuningJobFailedError) as caught:
        ti.run(operator())
    assert not is_permanent(caught.value)


def test_unknown_state_waits_with_one_warning(
    server: Emulator, ti: TaskInstance, caplog: pytest.LogCaptureFixture
) -> None:
    name = ti.run(operator(wait_for_completion=False))["tuning_job_name"]
    server.set_state(name, "JOB_STATE_FROBNICATING")
    with caplog.at_level(logging.INFO), pytest.raises(errors.TuningWaitTimeoutError):
        ti.retry().run(operator(timeout=2, deferrable=False))
    told = [
        r
        for r in caplog.records
        if "JOB_STATE_FROBNICATING" in r.getMessage() and r.levelno >= logging.WARNING
    ]
    assert len(told) <= 1


# -- one job per task instance ---------------------------------------------------------------------


@MODES
def test_retry_joins_the_job_of_the_attempt_before(
    server: Emulator, ti: TaskInstance, deferrable: bool
) -> None:
    first = ti.run(operator(wait_for_completion=False))
    second = ti.retry().run(operator(deferrable=deferrable))
    assert second["tuning_job_name"] == first["tuning_job_name"]
    assert len(creates(server)) == 1


def test_clear_after_success_returns_the_same_model_at_no_cost_and_says_so(
    server: Emulator, ti: TaskInstance, capsys: pytest.CaptureFixture[str]
) -> None:
    first = ti.run(operator())
    assert "at no cost" not in capsys.readouterr().out
    assert ti.clear().run(operator()) == first
    told = capsys.readouterr().out
    assert "the result of the job that has succeeded for this task" in told
    assert f"· {first['tuning_job_name']}" in told
    assert "set force_new and clear the task" in told
    assert len(creates(server)) == 1


def test_retry_after_a_cancelled_job_is_not_told_of_a_success(
    server: Emulator, ti: TaskInstance, capsys: pytest.CaptureFixture[str]
) -> None:
    first = ti.run(operator(wait_for_completion=False))
    server.set_state(first["tuning_job_name"], "JOB_STATE_CANCELLED")
    with pytest.raises(errors.TuningError, match=first["tuning_job_name"]):
        ti.retry().run(operator())
    assert "at no cost" not in capsys.readouterr().out
    assert len(creates(server)) == 1


def test_force_new_pays_once_for_each_clear(server: Emulator, ti: TaskInstance) -> None:
    first = ti.run(operator())
    forced = ti.clear().run(operator(force_new="true"))
    assert forced["tuning_job_name"] != first["tuning_job_name"]
    # A retry of the same attempt lineage must not pay again.
    assert ti.retry().run(operator(force_new=True))["tuning_job_name"] == forced["tuning_job_name"]
    assert len(creates(server)) == 2


def test_retry_after_a_failed_job_creates_anew(server: Emulator, ti: TaskInstance) -> None:
    first = ti.run(operator(wait_for_completion=False))
    server.set_state(first["tuning_job_name"], "JOB_STATE_FAILED", {"code": 13, "message": "x"})
    assert ti.retry().run(operator())["tuning_job_name"] != first["tuning_job_name"]


def test_job_that_is_being_cancelled_is_not_joined(server: Emulator, ti: TaskInstance) -> None:
    first = ti.run(operator(wait_for_completion=False))
    with TuningJobHook() as hook:
        hook.cancel_tuning_job(first["tuning_job_name"])
    second = ti.clear().run(operator())
    assert second["tuning_job_name"] != first["tuning_job_name"]
    assert second["state"] == "JOB_STATE_SUCCEEDED"


def test_changed_input_cancels_the_stale_job(server: Emulator, ti: TaskInstance) -> None:
    first = ti.run(operator(wait_for_completion=False))
    second = ti.retry().run(operator(epoch_count=2))
    states = {job["name"]: job["state"] for job in server.jobs()}
    assert states[first["tuning_job_name"]] == "JOB_STATE_CANCELLED"
    assert states[second["tuning_job_name"]] == "JOB_STATE_SUCCEEDED"


def test_task_instances_never_mix(server: Emulator) -> None:
    instances = [
        TaskInstance(),
        TaskInstance(task_id="other"),
        TaskInstance(run_id="manual__1"),
        TaskInstance(dag_id="other"),
        TaskInstance(map_index=0),
        TaskInstance(map_index=1),
    ]
    names = {ti.run(operator(wait_for_completion=False))["tuning_job_name"] for ti in instances}
    assert len(names) == len(instances)


@pytest.mark.parametrize(
    "fault",
    [
        {"drop": "after_processing"},
        {"status": 503},
        {"drop": "before_processing"},
        {"truncate_body": True},
        {"status": 200, "body": "<html>"},
    ],
    ids=str,
)
def test_create_whose_answer_is_lost_is_never_sent_twice(
    server: Emulator, ti: TaskInstance, fault: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    server.fault(method="POST", path_regex="/tuningJobs$", times=1, **fault)
    try:
        result = ti.run(operator())
    except errors.TuningFateUnknownError:
        assert len(creates(server)) == 1
        assert server.jobs() == []  # it was never processed, but who knows?
        result = ti.retry().run(operator())
    assert result["state"] == "JOB_STATE_SUCCEEDED"
    assert len(server.jobs()) == 1


def test_two_attempts_at_the_same_moment_keep_one_job(server: Emulator) -> None:
    """Airflow ran the task twice: both looked before either created."""
    attempts = [TaskInstance(), TaskInstance(try_number=2)]
    meet = threading.Barrier(2, timeout=20)

    class Meeting(submission.Submission):
        def _create(self, own: Any) -> Any:
            meet.wait()
            return super()._create(own)

        def _alone(self, job: Any) -> Any:
            meet.wait()
            return super()._alone(job)

        def _cancel(self, decision: Any) -> None:
            if decision.cancel:
                remembered.append(self._memory.name)
            super()._cancel(decision)

    results: list[str] = []
    remembered: list[str | None] = []

    def run(ti: TaskInstance) -> None:
        task = operator(wait_for_completion=False, epoch_count=1_000_000)
        results.append(ti.run(task)["tuning_job_name"])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(submission, "Submission", Meeting)
        threads = [threading.Thread(target=run, args=(ti,)) for ti in attempts]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(creates(server)) == 2
    alive = [j["name"] for j in server.jobs() if j["state"] in ("JOB_STATE_PENDING", "JOB_STATE_RUNNING")]
    assert results == [alive[0], alive[0]]
    assert len(alive) == 1
    assert remembered == [alive[0]] * len(remembered), "an attempt that dies now leaves the one that goes on"
    assert remembered


def test_lost_answer_and_failing_lookup_fails_closed(
    server: Emulator, ti: TaskInstance, monkeypatch: pytest.MonkeyPatch
) -> None:

    server.fault(method="POST", path_regex="/tuningJobs$", times=1, drop="after_processing")

    def forbid_listing(*_: Any) -> None:
        server.fault(method="GET", path_regex="/tuningJobs$", times=-1, status=403)

    real = submission.Submission._create
    monkeypatch.setattr(
        submission.Submission, "_create", lambda self, own: (forbid_listing(), real(self, own))[1]
    )
    with pytest.raises(errors.TuningFateUnknownError, match="could not be found out") as caught:
        ti.run(operator())
    assert not is_permanent(caught.value)
    assert len(server.jobs()) == 1
    server.clear_faults()
    monkeypatch.undo()


def test_refused_filter_is_done_without(server: Emulator, ti: TaskInstance) -> None:
    first = ti.run(operator(wait_for_completion=False))
    server.fault(method="GET", path_regex="/tuningJobs$", times=1, status=400)
    assert ti.retry().run(operator(wait_for_completion=False))["tuning_job_name"] == first["tuning_job_name"]


def test_lookup_that_is_refused_creates_nothing(server: Emulator, ti: TaskInstance) -> None:
    server.fault(method="GET", path_regex="/tuningJobs$", times=-1, status=403)
    with pytest.raises(errors.TuningPermissionError) as caught:
        ti.run(operator())
    assert is_permanent(caught.value)
    assert creates(server) == []


def test_refused_create_lists_every_field(server: Emulator, ti: TaskInstance) -> None:
    body = {
        "error": {
            "code": 400,
            "message": "List of found errors: 1.Field: a; Message: b",
            "status": "INVALID_ARGUMENT",
            "details": [
                {
                    "@type": "type.googleapis.com/google.rpc.BadRequest",
                    "fieldViolations": [
                        {"field": "tuning_job.one", "description": "is wrong"},
                        {"field": "tuning_job.two", "description": "is too"},
                    ],
                }
            ],
        }
    }
    server.fault(method="POST", path_regex="/tuningJobs$", times=1, status=400, body=body)
    with pytest.raises(errors.TuningBadRequestError) as caught:
        ti.run(operator())
    assert is_permanent(caught.value)
    for words in ("tuning_job.one: is wrong", "tuning_job.two: is too"):
        assert words in str(caught.value)


# -- deadlines and kills ---------------------------------------------------------------------------


@MODES
def test_timeout_cancels_the_job(server: Emulator, ti: TaskInstance, deferrable: bool) -> None:
    with pytest.raises(errors.TuningWaitTimeoutError, match="Asked for its cancellation"):
        ti.run(operator(deferrable=deferrable, timeout=0.5, epoch_count=1_000_000))
    assert len(cancels(server)) == 1


def test_timeout_counts_from_the_creation_of_the_job(server: Emulator, ti: TaskInstance) -> None:
    ti.run(operator(wait_for_completion=False, epoch_count=1_000_000))
    time.sleep(1.1)
    with pytest.raises(errors.TuningWaitTimeoutError):
        ti.retry().run(operator(timeout=1, epoch_count=1_000_000))


def test_timeout_can_leave_the_job_alone(server: Emulator, ti: TaskInstance) -> None:
    with pytest.raises(errors.TuningWaitTimeoutError, match="goes on and may cost money"):
        ti.run(operator(timeout=0.5, cancel_on_timeout=False, epoch_count=1_000_000))
    assert cancels(server) == []


def test_execution_timeout_bounds_the_deferral_too(server: Emulator, ti: TaskInstance) -> None:
    with pytest.raises(errors.TuningWaitTimeoutError):
        ti.run(operator(execution_timeout=timedelta(seconds=0.5), epoch_count=1_000_000))
    assert len(cancels(server)) == 1


@pytest.mark.parametrize("error", ["Trigger timeout", "Trigger failure"])
def test_lost_trigger_ends_like_a_watched_one(server: Emulator, ti: TaskInstance, error: str) -> None:
    task = operator()
    first = ti.run(operator())
    assert ti.fail_deferral(task, error) == first


def test_deferral_that_times_out_cancels_the_job(server: Emulator, ti: TaskInstance) -> None:
    ti.run(operator(wait_for_completion=False, epoch_count=1_000_000))
    with pytest.raises(errors.TuningWaitTimeoutError, match="Asked for its cancellation"):
        ti.fail_deferral(operator(epoch_count=1_000_000), "Trigger timeout")
    assert len(cancels(server)) == 1


def test_broken_trigger_leaves_a_healthy_job_alone(server: Emulator, ti: TaskInstance) -> None:
    ti.run(operator(wait_for_completion=False, epoch_count=1_000_000))
    with pytest.raises(errors.TuningUnavailableError, match="A retry of the task joins it") as caught:
        ti.fail_deferral(operator(epoch_count=1_000_000), "Trigger failure")
    assert not is_permanent(caught.value)
    assert cancels(server) == []


class Lost(BaseException):
    """The process ends while its task waits."""


@pytest.fixture
def lost(ti: TaskInstance) -> None:
    def lose(_: Any) -> None:
        raise Lost

    ti.before_trigger = lose


@pytest.mark.usefixtures("lost")
def test_kill_on_the_worker_cancels_once(server: Emulator, ti: TaskInstance) -> None:
    task = operator(epoch_count=1_000_000)
    with pytest.raises(Lost):
        ti.run(task)
    task.on_kill()
    assert [r["status"] for r in cancels(server)] == [200]


def test_kill_after_the_task_has_done_its_part_leaves_the_job_alone(
    server: Emulator, ti: TaskInstance
) -> None:
    """Airflow ends a process too that is slow to end after its task's success."""
    task = operator(wait_for_completion=False)
    ti.run(task)
    task.on_kill()
    assert cancels(server) == []


@pytest.mark.usefixtures("lost")
@pytest.mark.parametrize("replaced", [False, True])
def test_kill_during_the_lookup_of_a_job_that_is_there(
    server: Emulator, ti: TaskInstance, monkeypatch: pytest.MonkeyPatch, replaced: bool
) -> None:
    with pytest.raises(Lost):
        ti.run(operator(epoch_count=1_000_000))
    ti.before_trigger = None
    monkeypatch.setattr(_supervisor, "_is_replaced", lambda: replaced)
    task = operator(epoch_count=1_000_000)
    looked = TuningJobHook.pages

    def killed(hook: TuningJobHook, **kwargs: Any) -> Any:
        task.on_kill()
        return looked(hook, **kwargs)

    monkeypatch.setattr(TuningJobHook, "pages", killed)
    ti.store = None  # else it is found by its name
    with pytest.raises(errors.TuningError, match="killed before"):
        ti.retry().run(task)
    assert len(server.jobs()) == 1
    assert [r["status"] for r in cancels(server)].count(200) == (0 if replaced else 1)


def test_kill_of_a_task_that_resumes_after_its_deadline(
    server: Emulator, ti: TaskInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = operator(epoch_count=1_000_000, timeout=0.5, cancel_on_timeout=False)
    looked = TuningJobHook.look

    def killed(hook: TuningJobHook, name: str) -> Any:
        task.on_kill()
        return looked(hook, name)

    def resume_elsewhere(_: Any) -> None:
        task.work = None
        monkeypatch.setattr(TuningJobHook, "look", killed)

    ti.before_resume = resume_elsewhere
    with pytest.raises((errors.TuningWaitTimeoutError, errors.TuningJobCancelledError)):
        ti.run(task)
    assert len(cancels(server)) == 1


def test_kill_before_anything_was_sent_sends_nothing(server: Emulator) -> None:
    operator().on_kill()
    assert server.requests() == []


def test_kill_can_leave_the_job_alone(server: Emulator, ti: TaskInstance) -> None:
    task = operator(wait_for_completion=False, cancel_on_kill=False)
    ti.run(task)
    task.on_kill()
    assert cancels(server) == []


def test_kill_while_the_create_is_under_way_cancels_its_job(
    server: Emulator, ti: TaskInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The handler of SIGTERM runs in the middle of the request, in the same thread."""
    task = operator()
    server.fault(method="POST", path_regex="/tuningJobs$", times=1, delay_seconds=1.0)
    before = signal.signal(signal.SIGTERM, lambda *_: task.on_kill())
    timer = threading.Timer(0.6, os.kill, (os.getpid(), signal.SIGTERM))
    timer.start()
    try:
        with pytest.raises(errors.TuningError, match="killed before"):
            ti.run(task)
    finally:
        timer.join()
        signal.signal(signal.SIGTERM, before)
    assert len(creates(server)) == 1
    assert len(cancels(server)) == 1


def test_task_timeout_in_the_middle_of_the_create_leaves_no_job(server: Emulator, ti: TaskInstance) -> None:
    """Airflow raises the timeout anywhere, then calls on_kill: the job is found by its labels."""

    class Alarm(BaseException):
        pass

    def strike(*_: Any) -> None:
        raise Alarm

    task = operator(epoch_count=1_000_000)
    server.fault(method="POST", path_regex="/tuningJobs$", times=1, delay_seconds=1.0)
    before = signal.signal(signal.SIGALRM, strike)
    signal.setitimer(signal.ITIMER_REAL, 0.6)
    try:
        with pytest.raises(Alarm):
            ti.run(task)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    time.sleep(1.0)  # the request that was cut off is still processed
    task.on_kill()
    assert [job["state"] for job in server.jobs()] in (["JOB_STATE_CANCELLING"], ["JOB_STATE_CANCELLED"])


# -- quota -----------------------------------------------------------------------------------------


@MODES
def test_quota_is_waited_for(server: Emulator, ti: TaskInstance, deferrable: bool) -> None:
    server.fault(method="POST", path_regex="/tuningJobs$", times=2, status=429)
    result = ti.run(operator(deferrable=deferrable))
    assert result["state"] == "JOB_STATE_SUCCEEDED"
    assert [r["status"] for r in creates(server)] == [429, 429, 200]
    assert len(ti.deferrals) == (3 if deferrable else 0)


def test_a_long_wait_for_quota_takes_no_deeper_stack(server: Emulator, ti: TaskInstance) -> None:
    server.fault(method="POST", path_regex="/tuningJobs$", times=200, status=429)
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(len(inspect.stack()) + 180)
    try:
        result = ti.run(operator(deferrable=False, poll_interval=0.02))
    finally:
        sys.setrecursionlimit(limit)
    assert result["state"] == "JOB_STATE_SUCCEEDED"
    assert len(creates(server)) == 201


def test_waiting_for_quota_is_bounded_by_the_timeout(server: Emulator, ti: TaskInstance) -> None:
    server.fault(
        method="POST", path_regex="/tuningJobs$", times=-1, status=429, headers={"Retry-After": "30"}
    )
    with pytest.raises(errors.TuningQuotaError) as caught:
        ti.run(operator(timeout=2))
    assert not is_permanent(caught.value)
    assert server.jobs() == []
