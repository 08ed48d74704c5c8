"""The sensor in each of its modes: deferrable, poke, and started in the triggerer."""

from __future__ import annotations

import importlib
import json
import os
import threading
import time
from typing import Any

import jinja2
import pytest
from airflow.sdk import DAG, XComArg
from airflow.triggers.base import TaskSuccessEvent

from airflow_tuning_provider import exceptions as errors
from airflow_tuning_provider.emulator.testing import Emulator
from airflow_tuning_provider.operators.tuning_job import CreateTuningJobOperator
from airflow_tuning_provider.sensors.tuning_job import TuningJobSensor
from tests.integration.servers import Server, answering
from tests.integration.tasks.conftest import (
    BODY,
    LONG,
    MODES,
    TaskInstance,
    as_task,
    cancels,
    connection,
    first_event,
    is_permanent,
    rebuilt,
)

JOB_PATH = r"/tuningJobs/\d+$"
ALL_MODES = pytest.mark.parametrize("mode", ["deferrable", "poke", "triggerer"])


def sensor(name: Any, **kwargs: Any) -> TuningJobSensor:
    return TuningJobSensor(
        **{"task_id": "wait", "tuning_job_name": name, "poll_interval": 0.2, "timeout": 30, **kwargs}
    )


def running(server: Emulator, **body: Any) -> str:
    task = CreateTuningJobOperator(**{"task_id": "tune", "wait_for_completion": False, **LONG, **body})
    return str(TaskInstance().run(task)["tuning_job_name"])


def started_in_triggerer(task: TuningJobSensor, ti: TaskInstance, **rendered: Any) -> Any:
    """Run a sensor as Airflow does that starts it in the triggerer; a failure is raised on a worker."""
    arguments = task.start_trigger_args
    module, name = arguments.trigger_cls.rsplit(".", 1)
    trigger = getattr(importlib.import_module(module), name)(**{**arguments.trigger_kwargs, **rendered})
    event = first_event(rebuilt(trigger))
    if isinstance(event, TaskSuccessEvent):
        return event.xcoms["return_value"]
    for field, value in rendered.items():
        setattr(task, field, value)
    kwargs = {"event": event.payload}
    return as_task(task, lambda: task.resume_execution(arguments.next_method, kwargs, ti.context))


def run(mode: str, name: Any, ti: TaskInstance, **kwargs: Any) -> Any:
    if mode == "triggerer":
        return started_in_triggerer(
            sensor(name or "x", start_from_trigger=True, **kwargs), ti, tuning_job_name=name
        )
    return ti.run(sensor(name, deferrable=mode == "deferrable", **kwargs))


@pytest.mark.parametrize("name", [None, "", "a b"], ids=repr)
def test_name_that_is_none_is_refused_alike_in_every_mode(
    server: Emulator, ti: TaskInstance, name: Any
) -> None:
    """As a template renders that refers to a task which has returned nothing."""
    words = ""
    for mode in ("deferrable", "poke", "triggerer"):
        with pytest.raises(errors.TuningBadRequestError, match="tuning_job_name") as caught:
            run(mode, name, ti)
        assert is_permanent(caught.value)
        # After the value, which a template renders as a text.
        words = words or str(caught.value).partition("is not valid")[2]
        assert words in str(caught.value)
    assert server.requests() == []


def test_name_from_another_task_is_asked_for_as_the_triggerer_can() -> None:
    """Its supervisor answers a question for one XCom; for a slice of them it never does."""
    asked: list[dict[str, Any]] = []

    class Ti:
        def xcom_pull(self, **kwargs: Any) -> str:
            asked.append(kwargs)
            return "projects/p/locations/us-central1/tuningJobs/1"

    with DAG("d"):
        tune: Any = CreateTuningJobOperator(task_id="tune", wait_for_completion=False, **BODY)
        wait = sensor(XComArg(tune)["tuning_job_name"], start_from_trigger=True)
    template = wait.start_trigger_args.trigger_kwargs["tuning_job_name"]
    rendered = jinja2.Environment().from_string(str(template)).render(ti=Ti(), task_instance=Ti())
    assert rendered == "projects/p/locations/us-central1/tuningJobs/1"
    assert [one.get("map_indexes") for one in asked] == [-1]


def test_a_limit_stands_in_the_trigger_itself(server: Emulator, ti: TaskInstance) -> None:
    """Airflow's own timeout of a deferral comes late, or not at all where the triggerer hangs."""
    name = running(server)
    began = time.monotonic()
    with pytest.raises(errors.TuningSensorTimeoutError):
        started_in_triggerer(sensor(name, start_from_trigger=True, timeout=1), ti)
    assert time.monotonic() - began < 10


@ALL_MODES
@pytest.mark.parametrize("status", [403, 404])
def test_refusal_while_watching_is_borne(server: Emulator, ti: TaskInstance, mode: str, status: int) -> None:
    name = running(server, epoch_count=1)
    server.fault(method="GET", path_regex=JOB_PATH, times=2, status=status)
    assert run(mode, name, ti)["state"] == "JOB_STATE_SUCCEEDED"


@ALL_MODES
def test_refusal_that_lasts_ends_at_the_timeout(server: Emulator, ti: TaskInstance, mode: str) -> None:
    name = running(server)
    server.fault(method="GET", path_regex=JOB_PATH, times=-1, status=403)
    with pytest.raises(errors.TuningSensorTimeoutError):
        run(mode, name, ti, timeout=2)
    assert cancels(server) == []


@MODES
def test_job_that_has_just_succeeded_was_not_cancelled(
    server: Emulator, ti: TaskInstance, deferrable: bool
) -> None:
    """The cancellation at the timeout is refused: nobody may read that it was asked for."""
    name = running(server)
    refusal = {"error": {"code": 400, "message": "has ended", "status": "FAILED_PRECONDITION"}}
    server.fault(method="POST", path_regex=":cancel$", times=-1, status=400, body=refusal)
    stop = threading.Event()

    def succeed_when_cancelled() -> None:
        while not stop.wait(0.01):
            if cancels(server):
                server.set_state(name, "JOB_STATE_SUCCEEDED")

    thread = threading.Thread(target=succeed_when_cancelled)
    thread.start()
    try:
        result = ti.run(sensor(name, deferrable=deferrable, timeout=1, cancel_on_timeout=True))
    except errors.TuningError as error:
        assert "Asked for its cancellation" not in str(error)  # noqa: PT017
    else:
        assert result["state"] == "JOB_STATE_SUCCEEDED"
    finally:
        stop.set()
        thread.join()


@pytest.mark.parametrize("where", ["triggerer", "resumption", "started-in-triggerer"])
def test_key_that_is_missing_for_a_moment_is_borne(
    server: Emulator, ti: TaskInstance, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = running(server, epoch_count=1)
    variable = "AIRFLOW_CONN_GOOGLE_CLOUD_DEFAULT"
    good = os.environ[variable]
    monkeypatch.setenv(variable, good)  # for it to be restored
    timer = threading.Timer(1.5, os.environ.__setitem__, (variable, good))

    def break_it(_: Any) -> None:
        if timer.ident is None:  # the first time only
            extra = {"key_path": "/no/such/key.json"}
            os.environ[variable] = json.dumps({"conn_type": "google_cloud_platform", "extra": extra})
            timer.start()

    task = sensor(name, start_from_trigger=where == "started-in-triggerer")
    try:
        if where == "started-in-triggerer":
            break_it(None)
            result = started_in_triggerer(task, ti)
        else:
            setattr(ti, {"triggerer": "before_trigger", "resumption": "before_resume"}[where], break_it)
            result = ti.run(task)
    finally:
        timer.join()
    assert result["state"] == "JOB_STATE_SUCCEEDED"


@MODES
def test_sensor_resumes_with_the_event_alone(server: Emulator, deferrable: bool) -> None:
    name = running(server, epoch_count=1)
    ti = TaskInstance(task_id="wait", event_alone=True)
    assert ti.run(sensor(name, deferrable=deferrable))["state"] == "JOB_STATE_SUCCEEDED"


def test_model_that_cannot_be_seen_in_the_triggerer_is_looked_at_by_a_worker(
    ti: TaskInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A list has told that the job succeeded: a refusal for a moment must not make a failure of it."""
    name = "projects/test-project/locations/us-central1/tuningJobs/1"
    listed = {"name": name, "state": "JOB_STATE_SUCCEEDED"}
    refusal = 403, {"error": {"code": 403, "message": "not now", "status": "PERMISSION_DENIED"}}
    whole = {**listed, "tunedModel": {"model": "projects/1/locations/us-central1/models/1"}}
    with Server(answering(listed, refusal, refusal, whole)) as api:
        monkeypatch.setenv("AIRFLOW_CONN_GOOGLE_CLOUD_DEFAULT", connection(api.url))
        assert run("triggerer", name, ti)["tuned_model"]
