"""CancelTuningJobOperator and RebaseTunedModelOperator against the emulator."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_tuning_provider import exceptions as errors
from airflow_tuning_provider.api.errors import ApiError, ErrorKind
from airflow_tuning_provider.emulator.testing import Emulator
from airflow_tuning_provider.hooks.tuning_job import TuningJobHook
from airflow_tuning_provider.operators.tuning_job import (
    CancelTuningJobOperator,
    CreateTuningJobOperator,
    RebaseTunedModelOperator,
)
from tests.integration.tasks.conftest import BODY, TaskInstance, cancels, is_permanent

MODES = pytest.mark.parametrize("deferrable", [True, False], ids=["deferrable", "blocking"])
GONE = "projects/test-project/locations/us-central1/tuningJobs/4711"


def running_job(epochs: int = 1_000_000) -> str:
    task = CreateTuningJobOperator(task_id="tune", wait_for_completion=False, epoch_count=epochs, **BODY)
    return str(TaskInstance(run_id=f"run-{epochs}").run(task)["tuning_job_name"])


def cancel(name: str, **kwargs: Any) -> CancelTuningJobOperator:
    return CancelTuningJobOperator(task_id="cancel", tuning_job_name=name, poll_interval=0.2, **kwargs)


@MODES
def test_cancel_waits_for_the_end(server: Emulator, ti: TaskInstance, deferrable: bool) -> None:
    name = running_job()
    result = ti.run(cancel(name, deferrable=deferrable))
    assert result["state"] == "JOB_STATE_CANCELLED"
    assert len(cancels(server)) == 1
    assert len(ti.deferrals) == int(deferrable)


def test_bare_id_is_enough_where_the_connection_knows_the_rest(server: Emulator, ti: TaskInstance) -> None:
    name = running_job()
    assert ti.run(cancel(name.rsplit("/", 1)[1]))["tuning_job_name"] == name


def test_cancel_without_waiting_returns_at_once(server: Emulator, ti: TaskInstance) -> None:
    state = ti.run(cancel(running_job(), wait_for_completion=False))["state"]
    assert state in ("JOB_STATE_CANCELLING", "JOB_STATE_CANCELLED")
    assert not ti.deferrals


def test_job_that_has_ended_is_a_success(server: Emulator, ti: TaskInstance) -> None:
    name = running_job()
    server.set_state(name, "JOB_STATE_SUCCEEDED")
    assert ti.run(cancel(name))["state"] == "JOB_STATE_SUCCEEDED"
    assert cancels(server) == []


def test_job_that_ends_meanwhile_is_a_success(server: Emulator, ti: TaskInstance) -> None:
    name = running_job()
    refusal = {"error": {"code": 400, "message": "is not cancellable", "status": "FAILED_PRECONDITION"}}
    server.fault(method="POST", path_regex=":cancel$", times=1, status=400, body=refusal, delay_seconds=None)
    server.set_state(name, "JOB_STATE_SUCCEEDED")
    assert ti.run(cancel(name))["state"] == "JOB_STATE_SUCCEEDED"


def test_job_that_is_gone_is_a_success(server: Emulator, ti: TaskInstance) -> None:
    assert ti.run(cancel(GONE)) is None


def test_strict_cancel_fails_where_there_is_nothing_to_cancel(server: Emulator, ti: TaskInstance) -> None:
    name = running_job()
    server.set_state(name, "JOB_STATE_FAILED", {"code": 13, "message": "x"})
    with pytest.raises(errors.TuningBadRequestError, match="has failed already"):
        ti.run(cancel(name, fail_if_ended=True))
    with pytest.raises(errors.TuningNotFoundError):
        ti.run(cancel(GONE, fail_if_ended="true"))


@pytest.mark.parametrize("name", ["projects/p/tuningJobs/1", "https://evil.example/", "a b", "../x"])
def test_name_of_another_shape_is_refused(server: Emulator, ti: TaskInstance, name: str) -> None:
    with pytest.raises(errors.TuningInvalidInputError, match="tuning_job_name"):
        ti.run(cancel(name))
    assert server.requests() == []


# -- rebase ----------------------------------------------------------------------------------------


def tuned_model() -> str:
    task = CreateTuningJobOperator(task_id="tune", poll_interval=0.2, **BODY)
    return str(TaskInstance(run_id="first").run(task)["tuned_model"])


def rebase(**kwargs: Any) -> RebaseTunedModelOperator:
    body = {"base_model": "gemini-3.5-flash"}
    return RebaseTunedModelOperator(
        **{"task_id": "rebase", "poll_interval": 0.2, "tuning_job": body, **kwargs}
    )


@MODES
def test_rebase_waits_for_the_new_job(server: Emulator, ti: TaskInstance, deferrable: bool) -> None:
    result = ti.run(rebase(tuned_model=tuned_model(), deferrable=deferrable))
    assert result["state"] == "JOB_STATE_SUCCEEDED"
    assert result["endpoint"]
    assert len(server.jobs()) == 2


def test_rebase_of_a_tuning_job(server: Emulator, ti: TaskInstance) -> None:
    tuned_model()
    (job,) = server.jobs()
    assert ti.run(rebase(tuning_job_name=job["name"]))["state"] == "JOB_STATE_SUCCEEDED"


def test_clear_after_a_rebase_does_not_pay_again(server: Emulator, ti: TaskInstance) -> None:
    model = tuned_model()
    first = ti.run(rebase(tuned_model=model))
    assert ti.clear().run(rebase(tuned_model=model))["tuning_job_name"] == first["tuning_job_name"]
    assert len(server.jobs()) == 2


@pytest.fixture
def _rebases_take_long(server: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hold the job that comes of an operation, so that the wait for it does not end by itself."""
    known = RebaseTunedModelOperator._job

    def held(self: RebaseTunedModelOperator, context: Any, job: Any, **_: Any) -> Any:
        server.set_state(job["name"], "JOB_STATE_RUNNING")
        return known(self, context, self.hook.get_tuning_job(job["name"]))

    monkeypatch.setattr(RebaseTunedModelOperator, "_job", held)


@pytest.mark.usefixtures("_rebases_take_long")
@MODES
def test_rebase_that_takes_too_long_is_cancelled(
    server: Emulator, ti: TaskInstance, deferrable: bool
) -> None:
    model = tuned_model()
    with pytest.raises(errors.TuningWaitTimeoutError, match="Asked for its cancellation"):
        ti.run(rebase(tuned_model=model, deferrable=deferrable, timeout=4))
    assert len(cancels(server)) == 1


@pytest.mark.usefixtures("_rebases_take_long")
def test_rebase_whose_trigger_is_lost_is_cancelled(server: Emulator, ti: TaskInstance) -> None:
    model = tuned_model()
    waits = []

    def lose(deferred: Any) -> None:
        waits.append(deferred)
        if deferred.trigger.tuning_job_name:
            raise KeyboardInterrupt

    ti.before_trigger = lose
    task = rebase(tuned_model=model)
    with pytest.raises(KeyboardInterrupt):
        ti.run(task)
    with pytest.raises(errors.TuningWaitTimeoutError, match="Asked for its cancellation"):
        ti.fail_deferral(rebase(tuned_model=model), "Trigger timeout")
    (cancel,) = cancels(server)
    assert ti.xcoms["tuning_job_name"] in cancel["path"]


@pytest.mark.usefixtures("_rebases_take_long")
def test_kill_after_the_operation_is_done_cancels_the_job(
    server: Emulator, ti: TaskInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tuned_model()
    task = rebase(tuned_model=model, deferrable=False)
    waits = TuningJobHook.wait_until_ended

    def killed(hook: TuningJobHook, name: str, **kwargs: Any) -> Any:
        if "/operations/" not in name:
            task.on_kill()
        return waits(hook, name, **kwargs)

    monkeypatch.setattr(TuningJobHook, "wait_until_ended", killed)
    with pytest.raises(errors.TuningJobCancelledError):
        ti.run(task)
    (cancel,) = cancels(server)
    assert cancel["path"].endswith(f"{ti.xcoms['tuning_job_name']}:cancel")


def test_rebase_whose_answer_is_lost_is_not_sent_twice(server: Emulator, ti: TaskInstance) -> None:
    model = tuned_model()
    server.fault(method="POST", path_regex=":rebaseTunedModel$", times=1, drop="after_processing")
    assert ti.run(rebase(tuned_model=model))["state"] == "JOB_STATE_SUCCEEDED"
    assert len(server.jobs()) == 2


def hyper_parameters(server: Emulator) -> list[Any]:
    """Return what the jobs were asked for, the oldest first: the server fills in what was left out."""
    asked = [r["body"] for r in server.requests() if r["method"] == "POST" and "tuningJob" in r["path"]]
    specs = [body.get("tuningJob", body).get("supervisedTuningSpec", {}) for body in asked]
    return [spec.get("hyperParameters") for spec in specs]


@pytest.mark.parametrize("by", ["tuned_model", "tuning_job_name"])
def test_rebase_leaves_the_hyperparameters_behind(server: Emulator, ti: TaskInstance, by: str) -> None:
    task = CreateTuningJobOperator(task_id="tune", poll_interval=0.2, epoch_count=7, adapter_size=8, **BODY)
    first = TaskInstance(run_id="first").run(task)
    assert first["hyper_parameters"]["epoch_count"] == 7
    second = ti.run(rebase(**{by: first[by]}))
    assert hyper_parameters(server)[1] is None
    assert second["hyper_parameters"]["epoch_count"] != 7
    third = TaskInstance(run_id="third").run(rebase(**{by: first[by]}, keep_hyper_parameters="true"))
    assert third["hyper_parameters"] == first["hyper_parameters"]
    assert all("keepHyperParameters" not in (r["body"] or {}) for r in server.requests())
    sources = [job["supervisedTuningSpec"]["trainingDatasetUri"] for job in server.jobs()]
    assert sources == [BODY["training_dataset_uri"]] * 3


def test_rebase_with_hyperparameters_of_its_own_keeps_those(server: Emulator, ti: TaskInstance) -> None:
    model = tuned_model()
    spec = {"trainingDatasetUri": "gs://bucket/train.jsonl", "hyperParameters": {"epochCount": 3}}
    job = {"baseModel": "gemini-3.5-flash", "supervisedTuningSpec": spec}
    assert ti.run(rebase(tuned_model=model, tuning_job=job))["hyper_parameters"]["epoch_count"] == 3


def test_rebase_of_a_model_whose_job_is_not_to_be_found(server: Emulator, ti: TaskInstance) -> None:
    model = "projects/test-project/locations/us-central1/models/1@1"
    with pytest.raises(errors.TuningInvalidInputError, match="keep_hyper_parameters=True") as caught:
        ti.run(rebase(tuned_model=model))
    assert is_permanent(caught.value)
    assert [r for r in server.requests() if r["method"] == "POST"] == []


def test_rebase_whose_source_cannot_be_read_is_not_taken_for_sent(
    server: Emulator, ti: TaskInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tuned_model()
    (job,) = server.jobs()

    def away(*_: Any, **__: Any) -> Any:
        error = ApiError(ErrorKind.UNAVAILABLE, "away", http_status=503)
        raise errors.TuningUnavailableError("away", api_error=error)

    with monkeypatch.context() as patch, pytest.raises(errors.TuningUnavailableError, match="was not sent"):
        patch.setattr(TuningJobHook, "get_tuning_job", away)
        ti.run(rebase(tuning_job_name=job["name"]))
    assert len(server.jobs()) == 1
    assert ti.retry().run(rebase(tuned_model=model))["state"] == "JOB_STATE_SUCCEEDED"
    assert len(server.jobs()) == 2


@pytest.mark.parametrize(
    ("parameters", "field"),
    [
        ({"tuning_job_name": GONE, "keep_hyper_parameters": "maybe"}, "keep_hyper_parameters"),
        ({}, "tuned_model"),
        ({"tuned_model": "projects/p/locations/l/models/1", "tuning_job_name": GONE}, "tuned_model"),
        ({"tuned_model": "my-model"}, "tuned_model"),
        ({"tuning_job_name": "projects/p/models/1"}, "tuning_job_name"),
        ({"tuning_job_name": GONE, "artifact_destination": "/tmp"}, "artifact_destination"),
        ({"tuning_job_name": GONE, "deploy_to_same_endpoint": "maybe"}, "deploy_to_same_endpoint"),
    ],
)
def test_bad_rebase_is_refused(
    server: Emulator, ti: TaskInstance, parameters: dict[str, Any], field: str
) -> None:
    with pytest.raises(errors.TuningInvalidInputError, match=field) as caught:
        ti.run(rebase(**parameters))
    assert is_permanent(caught.value)
    assert server.requests() == []
