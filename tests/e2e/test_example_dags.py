"""The example DAGs on a real Airflow: scheduler, triggerer, API server, metadata database."""

from __future__ import annotations

import random
import signal
import time
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from testbed.services import wait_until
from tests.e2e.conftest import upload

if TYPE_CHECKING:
    from .conftest import World

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

FAST = {"poll_interval": 1}
CONSOLE = "https://console.cloud.google.com/"


def start(world: World, dag: str, /, **conf: Any) -> str:
    world.airflow.wait_for_dag(dag)
    return world.client.trigger(dag, conf={**FAST, **conf})


def waits_without_a_worker(world: World, dag: str, run_id: str, task_id: str) -> None:
    """Wait until a task is deferred, and see that the process it ran in is gone."""
    instance = world.client.wait_for_task(dag, run_id, task_id, "deferred")
    wait_until(lambda: not psutil.pid_exists(instance["pid"]), what=f"{task_id} to leave its worker")
    assert world.client.task_instance(dag, run_id, task_id)["state"] == "deferred"


def deferred_tune(world: World, **conf: Any) -> tuple[str, dict[str, Any]]:
    """Start ``tune_minimal``, and return its run and its job once the triggerer watches the held job."""
    run_id = start(world, "tune_minimal", **conf)
    job = world.wait_for_job("tune_minimal", run_id)
    world.emulator.set_state(job["name"], "JOB_STATE_RUNNING")  # it stays there until it is told otherwise
    world.client.wait_for_task("tune_minimal", run_id, "tune", "deferred")
    wait_until(lambda: world.looks_at(job["name"]), what="the triggerer to watch the job")
    return run_id, job


def watched_again(world: World, job: dict[str, Any]) -> None:
    """Wait for one more look at a job."""
    looks = world.looks_at(job["name"])
    wait_until(lambda: world.looks_at(job["name"]) > looks, what="the triggerer to watch the job")


def test_retrain_weekly_promotes_the_better_model(world: World) -> None:
    run_id = start(world, "retrain_weekly")

    waits_without_a_worker(world, "retrain_weekly", run_id, "tune")
    assert world.client.wait_for_run("retrain_weekly", run_id) == "success"

    states = {name: ti["state"] for name, ti in world.client.task_instances("retrain_weekly", run_id).items()}
    assert states["promote"] == "success"
    assert states["approve"] == "skipped"

    manifest = world.client.xcom("retrain_weekly", run_id, "tune")
    assert manifest["state"] == "JOB_STATE_SUCCEEDED"
    assert manifest["example_count"] > 300
    evaluation = world.client.xcom("retrain_weekly", run_id, "evaluate")
    assert (evaluation["verdict"], evaluation["passed"]) == ("better", True)
    assert evaluation["report_uri"].startswith("gs://my-tuning-data/support-router/")
    accuracy = evaluation["metrics"]["accuracy"]
    assert accuracy["candidate"] >= 0.5
    assert accuracy["low"] > 0
    [event] = world.client.asset_events(source_dag_id="retrain_weekly", source_run_id=run_id)
    assert event["name"] == "support-router"
    assert event["extra"]["endpoint"] == manifest["endpoint"]
    assert event["extra"]["verdict"] == "better"
    dataset = world.client.xcom("retrain_weekly", run_id, "prepare")
    assert event["extra"]["dataset_hash"] == dataset["content_hash"]


def test_retrain_weekly_keeps_what_serves_when_the_new_model_is_not_good_enough(world: World) -> None:
    run_id = start(world, "retrain_weekly", min_accuracy=1.01)

    assert world.client.wait_for_run("retrain_weekly", run_id) == "success"
    states = {name: ti["state"] for name, ti in world.client.task_instances("retrain_weekly", run_id).items()}
    assert (states["approve"], states["promote"]) == ("skipped", "skipped")
    assert world.client.xcom("retrain_weekly", run_id, "evaluate")["reasons"]
    assert world.client.asset_events(source_dag_id="retrain_weekly", source_run_id=run_id) == []


def test_retrain_weekly_creates_nothing_that_costs_too_much(world: World) -> None:
    jobs = set(world.jobs())
    run_id = start(world, "retrain_weekly", max_cost=0.0001)

    assert world.client.wait_for_run("retrain_weekly", run_id) == "failed"
    assert world.client.task_instance("retrain_weekly", run_id, "tune")["try_number"] == 1, "no retry helps"
    assert set(world.jobs()) == jobs


def test_retrain_weekly_that_is_marked_failed_leaves_no_job_running(world: World) -> None:
    run_id = start(world, "retrain_weekly")
    job = world.wait_for_job("retrain_weekly", run_id)
    world.emulator.set_state(job["name"], "JOB_STATE_RUNNING")
    world.client.wait_for_task("retrain_weekly", run_id, "tune", "deferred")
    wait_until(lambda: world.looks_at(job["name"]), what="the triggerer to watch the job")

    world.client.set_task_state("retrain_weekly", run_id, "tune", "failed")

    assert world.wait_for_state(job["name"], "JOB_STATE_CANCELLING", "JOB_STATE_CANCELLED")


def test_sensors_that_start_in_the_triggerer_find_the_job_of_another_task(world: World) -> None:
    """The template of the name is rendered there, where only some ways to ask for an XCom are answered."""
    run_id = start(world, "start_in_triggerer")
    assert world.client.wait_for_run("start_in_triggerer", run_id) == "success"
    created = world.client.xcom("start_in_triggerer", run_id, "create")
    waited = world.client.xcom("start_in_triggerer", run_id, "wait")
    assert waited["tuning_job_name"] == created["tuning_job_name"]
    assert waited["state"] == "JOB_STATE_SUCCEEDED"
    instance = world.client.task_instance("start_in_triggerer", run_id, "wait")
    assert not instance["pid"], "no worker was needed"
    assert world.client.xcom("start_in_triggerer", run_id, "use") == waited["endpoint"]


def test_tune_minimal_waits_deferred_with_its_links_and_tells_the_story(world: World) -> None:
    run_id = start(world, "tune_minimal")
    waits_without_a_worker(world, "tune_minimal", run_id, "tune")
    job = world.wait_for_job("tune_minimal", run_id)
    job_id = job["name"].split("/")[-1]

    link = world.client.links("tune_minimal", run_id, "tune")["Tuning job"]
    assert link is not None
    assert link.startswith(CONSOLE)
    assert job_id in link
    assert world.client.wait_for_run("tune_minimal", run_id) == "success"

    manifest = world.client.xcom("tune_minimal", run_id, "tune")
    assert manifest["tuning_job_name"].endswith(job_id)
    assert manifest["endpoint"]
    assert manifest["tuned_model"]
    log = world.client.task_log("tune_minimal", run_id, "tune")
    assert job_id in log
    assert CONSOLE in log
    assert manifest["endpoint"] in log
    assert "RUNNING" in log.upper()


def test_clearing_a_succeeded_task_gives_the_same_model_for_free(world: World) -> None:
    run_id = start(world, "tune_minimal")
    assert world.client.wait_for_run("tune_minimal", run_id) == "success"
    first = world.client.xcom("tune_minimal", run_id, "tune")
    jobs = set(world.jobs())

    world.client.clear("tune_minimal", run_id, "tune")
    world.client.wait_for_task("tune_minimal", run_id, "tune", "scheduled", "queued", "running")
    assert world.client.wait_for_run("tune_minimal", run_id) == "success"

    assert world.client.xcom("tune_minimal", run_id, "tune") == first
    assert set(world.jobs()) == jobs, "no second job"


def test_a_failed_job_fails_the_task_at_once_in_the_words_of_the_api(world: World) -> None:
    run_id, job = deferred_tune(world)
    words = "Row 17 of the training dataset has no model turn."
    world.emulator.set_state(job["name"], "JOB_STATE_FAILED", {"code": 3, "message": words})

    assert world.client.wait_for_run("tune_minimal", run_id) == "failed"
    instance = world.client.task_instance("tune_minimal", run_id, "tune")
    assert instance["state"] == "failed"
    assert instance["try_number"] == 1, "a retry would not mend the data set"
    log = world.client.task_log("tune_minimal", run_id, "tune")
    assert words in log
    assert job["name"].split("/")[-1] in log
    link = world.client.links("tune_minimal", run_id, "tune")["Tuning job"]
    assert link is not None
    assert job["name"].split("/")[-1] in link


def test_jobs_that_fail_within_a_second_are_not_paid_for_again(world: World) -> None:
    # Airflow sees the process end that has deferred up to 5 s later: what resumes by then may count as killed.
    before = set(world.jobs())
    run_ids = [start(world, "tune_minimal") for _ in range(4)]
    for run_id in run_ids:
        job = world.wait_for_job("tune_minimal", run_id)
        world.emulator.set_state(job["name"], "JOB_STATE_FAILED", {"code": 3, "message": "No such data set."})

    assert [world.client.wait_for_run("tune_minimal", run_id) for run_id in run_ids] == ["failed"] * 4
    tries = [world.client.task_instance("tune_minimal", run_id, "tune")["try_number"] for run_id in run_ids]
    assert tries == [1] * 4
    assert len(set(world.jobs()) - before) == 4


@pytest.mark.matrix
@pytest.mark.parametrize("state", ["failed", "success"])
def test_marking_a_deferred_task_cancels_its_job(world: World, state: str) -> None:
    run_id, job = deferred_tune(world)

    world.client.set_task_state("tune_minimal", run_id, "tune", state)

    ended = world.wait_for_state(job["name"], "JOB_STATE_CANCELLING", "JOB_STATE_CANCELLED")
    assert ended


@pytest.mark.matrix
def test_clearing_a_deferred_task_leaves_its_job_to_the_next_attempt(world: World) -> None:
    run_id, job = deferred_tune(world)
    jobs = set(world.jobs())

    world.client.clear("tune_minimal", run_id, "tune")

    def deferred_anew() -> bool:
        instance = world.client.task_instance("tune_minimal", run_id, "tune")
        return instance["try_number"] == 2 and instance["state"] == "deferred"

    wait_until(deferred_anew, what="the next attempt to be deferred")
    watched_again(world, job)
    assert not world.cancellations(job["name"])
    world.emulator.set_state(job["name"], "JOB_STATE_SUCCEEDED")
    assert world.client.wait_for_run("tune_minimal", run_id) == "success"
    assert set(world.jobs()) == jobs


@pytest.mark.matrix
def test_a_triggerer_that_stops_or_dies_takes_nothing_along(world: World) -> None:
    run_id, job = deferred_tune(world)
    jobs = set(world.jobs())

    for number in (signal.SIGTERM, signal.SIGKILL):
        world.airflow.kill_component("triggerer", number)
        world.airflow.start_component("triggerer")
        watched_again(world, job)
    assert not world.cancellations(job["name"])
    world.emulator.set_state(job["name"], "JOB_STATE_SUCCEEDED")

    assert world.client.wait_for_run("tune_minimal", run_id) == "success"
    assert set(world.jobs()) == jobs
    assert world.client.xcom("tune_minimal", run_id, "tune")["state"] == "JOB_STATE_SUCCEEDED"


def test_fire_and_forget_ends_at_once_and_the_other_dag_waits(world: World) -> None:
    world.airflow.wait_for_dag("fire_and_forget_wait")
    run_id = start(world, "fire_and_forget")
    assert world.client.wait_for_run("fire_and_forget", run_id) == "success"
    created = world.client.xcom("fire_and_forget", run_id, "create")
    assert created["endpoint"] is None, "the job has only been created"

    def other_run() -> str | None:
        runs = world.client.runs("fire_and_forget_wait")
        return runs[0]["dag_run_id"] if runs else None

    waiting = wait_until(other_run, what="a run of fire_and_forget_wait")
    assert world.client.wait_for_run("fire_and_forget_wait", waiting) == "success"
    manifest = world.client.xcom("fire_and_forget_wait", waiting, "wait")
    assert manifest["tuning_job_name"] == created["tuning_job_name"]
    assert world.client.xcom("fire_and_forget_wait", waiting, "use") == manifest["endpoint"]


def test_cancel_running_jobs_lists_first_and_then_cancels_what_was_asked_for(world: World) -> None:
    run_id, job = deferred_tune(world)
    dry = start(world, "cancel_running_jobs", dag_id="tune_minimal")
    assert world.client.wait_for_run("cancel_running_jobs", dry) == "success"
    assert job["name"].split("/")[-1] in world.client.task_log("cancel_running_jobs", dry, "find_jobs")
    assert world.jobs()[job["name"]]["state"] == "JOB_STATE_RUNNING"

    wet = start(world, "cancel_running_jobs", dag_id="tune_minimal", dry_run=False)
    assert world.client.wait_for_run("cancel_running_jobs", wet) == "success"

    assert world.wait_for_state(job["name"], "JOB_STATE_CANCELLED")
    assert world.client.wait_for_run("tune_minimal", run_id) == "failed"


# -- promotion ----------------------------------------------------------------------------------------------


def seeded(world: World, display_name: str) -> dict[str, Any]:
    """Return a tuning job that has succeeded."""
    job = {
        "state": "JOB_STATE_SUCCEEDED",
        "tunedModelDisplayName": display_name,
        "supervisedTuningSpec": {"trainingDatasetUri": "gs://my-tuning-data/support-router/train.jsonl"},
    }
    (name,) = world.emulator.seed(job, project="demo-project")
    return world.jobs()[name]


def promoted(world: World, display_name: str, answer: str = "Approve") -> tuple[str, dict[str, Any]]:
    """Run ``promote_with_approval`` for a new model, and answer as a person; return the run and the job."""
    job = seeded(world, display_name)
    dag = "promote_with_approval"
    run_id = start(world, dag, tuning_job_name=job["name"])
    path = f"/dags/{dag}/dagRuns/{run_id}/taskInstances/approve/-1/hitlDetails"

    # Airflow creates the question a moment before it lets the task wait for the answer, and sees the end of the process
    # that asked up to five seconds later: what is answered by then counts as failed (3.3.2). No person is that quick.
    world.client.wait_for_task(dag, run_id, "approve", "awaiting_input", "deferred")
    time.sleep(8)
    detail = world.client.request("GET", path)
    assert detail["subject"] == f"Promote {display_name}?"
    assert "**answers**" in detail["body"]
    assert "- answered: 2" in detail["body"]
    assert job["tunedModel"]["model"] in detail["body"]
    world.client.request("PATCH", path, {"chosen_options": [answer], "params_input": {}})
    succeeded(world, dag, run_id)
    return run_id, job


def succeeded(world: World, dag: str, run_id: str) -> None:
    """Wait for the end of a run, and tell the log of a task that has failed."""
    if world.client.wait_for_run(dag, run_id) != "success":
        states = {name: ti["state"] for name, ti in world.client.task_instances(dag, run_id).items()}
        broken = next((name for name, state in states.items() if state == "failed"), None)
        log = world.client.task_log(dag, run_id, broken) if broken else ""
        pytest.fail(f"{dag}: {states}\n{log[-4000:]}", pytrace=False)


def rolled_out(world: World, endpoint: str) -> None:
    """Wait until ``roll_out`` serves an endpoint."""

    def served() -> bool:
        return any(
            world.client.xcom("roll_out", run["dag_run_id"], "serve") == endpoint
            for run in world.client.runs("roll_out")
            if run["state"] == "success"
        )

    wait_until(served, what=f"roll_out to serve {endpoint}")


def test_promote_with_approval_asks_and_the_roll_back_returns(world: World) -> None:
    world.airflow.wait_for_dag("roll_out")
    line = "line-of-the-roll-back"
    run_id, first = promoted(world, line)
    [event] = world.client.asset_events(source_dag_id="promote_with_approval", source_run_id=run_id)
    assert event["extra"]["model"] == first["tunedModel"]["model"]
    assert event["extra"]["metrics"] == {"asked": 2, "answered": 2}
    rolled_out(world, first["tunedModel"]["endpoint"])

    run_id, second = promoted(world, line)
    [event] = world.client.asset_events(source_dag_id="promote_with_approval", source_run_id=run_id)
    assert event["extra"]["previous_model"] == first["tunedModel"]["model"]
    rolled_out(world, second["tunedModel"]["endpoint"])

    for _ in range(2):
        run_id = start(world, "roll_back", display_name=line)
        succeeded(world, "roll_back", run_id)
        [event] = world.client.asset_events(source_dag_id="roll_back", source_run_id=run_id)
        assert event["extra"]["action"] == "rolled_back"
        assert event["extra"]["model"] == first["tunedModel"]["model"]
        assert event["extra"]["tuning_job_name"] == first["name"], "from the event of its promotion"


def test_promote_with_approval_promotes_nothing_that_a_person_rejects(world: World) -> None:
    run_id, _ = promoted(world, "line-that-is-rejected", answer="Reject")
    states = world.client.task_instances("promote_with_approval", run_id)
    assert states["promote"]["state"] == "skipped"
    assert world.client.asset_events(source_dag_id="promote_with_approval", source_run_id=run_id) == []


def test_clean_up_models_lists_first_and_then_deletes_what_has_lost(world: World) -> None:
    line = "line-that-is-cleaned-up"
    lost = seeded(world, line)
    _, champion = promoted(world, line)
    given = {"display_name": line, "keep_latest": 0, "min_age_days": 0}

    dry = start(world, "clean_up_models", **given)
    succeeded(world, "clean_up_models", dry)
    told = world.client.xcom("clean_up_models", dry, "clean_up")
    assert (told["models"], told["deleted"]) == ([lost["tunedModel"]["model"]], [])
    assert champion["tunedModel"]["model"] in told["left_alone"]

    wet = start(world, "clean_up_models", **given, dry_run=False)
    succeeded(world, "clean_up_models", wet)
    told = world.client.xcom("clean_up_models", wet, "clean_up")
    assert set(told["deleted"]) == {
        lost["tunedModel"]["model"],
        *(checkpoint["endpoint"] for checkpoint in lost["tunedModel"]["checkpoints"]),
    }


def test_retune_before_retirement_rebases_the_champions(world: World) -> None:
    line = "line-that-is-retuned"
    _, champion = promoted(world, line)
    dag = "retune_before_retirement"

    quiet = start(world, dag, warn_days=0)
    succeeded(world, dag, quiet)
    assert world.client.xcom(dag, quiet, "watch") == []

    run_id = start(world, dag, warn_days=3650)
    succeeded(world, dag, run_id)
    found = world.client.xcom(dag, run_id, "watch")
    index = [one["tuning_job_name"] for one in found].index(champion["name"])
    assert found[index]["rebase_to"] == "gemini-3.5-flash"
    rebased = world.client.xcom(dag, run_id, "rebase", map_index=index)
    assert rebased["tuned_model"] != champion["tunedModel"]["model"]
    assert rebased["tuned_model_display_name"] == line


def reviews() -> bytes:
    """Return 600 labelled reviews as CSV: three classes, some noise in the labels, some rows twice."""
    chance = random.Random(7)
    words = {
        "positive": ["wonderful", "lovely", "perfect", "delicious", "excellent"],
        "neutral": ["ordinary", "average", "usual", "plain", "expected"],
        "negative": ["awful", "broken", "stale", "horrible", "bitter"],
    }
    rows = ["text,label"]
    for number in range(600):
        label = chance.choice(sorted(words))
        said = label if chance.random() > 0.05 else chance.choice(sorted(words))
        told = " ".join(chance.sample(words[label], 2))
        rows.append(f'"Order {number // 2 if number % 50 == 1 else number}: the coffee was {told}.",{said}')
    return "\n".join(rows).encode()


def test_sweep_sentiment_keeps_the_best_of_what_succeeded_and_rolls_it_out(world: World) -> None:
    upload(world.storage_url, "reviews.csv", reviews())
    run_id = start(world, "sweep_sentiment")
    world.airflow.wait_for_dag("serve_sentiment")
    world.client.pause("serve_sentiment", False)

    def sweep() -> list[dict[str, Any]]:
        jobs = [job for job in world.emulator.jobs() if job.get("tunedModelDisplayName") == "sentiment"]
        return jobs if len(jobs) == 3 else []

    jobs = wait_until(sweep, what="three jobs")
    by_setting = {
        (spec["epochCount"], spec.get("learningRateMultiplier")): job["name"]
        for job in jobs
        for spec in [job["supervisedTuningSpec"]["hyperParameters"]]
    }
    lost = by_setting["2", 1]
    world.emulator.set_state(lost, "JOB_STATE_FAILED", {"code": 3, "message": "Row 7 is empty."})
    world.emulator.set_quality(by_setting["4", 0.5], 0.7)
    world.emulator.set_quality(by_setting["4", 1], 0.95)

    world.client.wait_for_run("sweep_sentiment", run_id)
    log = world.client.task_log("sweep_sentiment", run_id, "gate", 1)
    states = {
        name: ti["state"] for name, ti in world.client.task_instances("sweep_sentiment", run_id).items()
    }
    assert states["promote"] == "success", log[-2000:]
    best = world.client.xcom("sweep_sentiment", run_id, "select")
    assert best["tuning_job_name"] == by_setting["4", 1]
    table = world.client.xcom("sweep_sentiment", run_id, "select", "table")
    assert len(table) == 2, "the setting that failed is left out"
    [event] = world.client.asset_events(source_dag_id="sweep_sentiment", source_run_id=run_id)
    served = wait_until(lambda: world.client.runs("serve_sentiment"), what="the roll-out")
    assert world.client.wait_for_run("serve_sentiment", served[0]["dag_run_id"]) == "success"
    assert (
        world.client.xcom("serve_sentiment", served[0]["dag_run_id"], "roll_out")
        == event["extra"]["endpoint"]
        == best["endpoint"]
    )
