"""The demo: a real Airflow retrains a model every week, here and now, without an account.

``python -m demo`` starts a storage emulator, a tuning emulator and Airflow on the loopback interface, runs
the example DAG ``retrain_weekly`` and shows what came out. At a terminal it then stays up until Ctrl-C. When
it ends it leaves nothing behind: no process, no file.
"""

from __future__ import annotations

import argparse
import secrets
import signal
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import quote

from airflow_tuning_provider.emulator.testing import Emulator, EmulatorError
from testbed.client import ApiError
from testbed.services import (
    REPOSITORY,
    StepError,
    connection,
    storage_emulator,
    tail,
    time_limit,
    tuning_emulator,
)
from testbed.stack import AirflowStack

DAG_ID = "retrain_weekly"
BUCKET = "my-tuning-data"
TIME_LIMIT = 300
# The emulator's jobs take half an hour, as on Vertex AI; this many times faster it is twelve seconds.
SPEED = 160
POLL_INTERVAL = 1
PREFERRED_PORT = 8080

TASK_STORY = {
    "prepare": "check, split and upload the messages",
    "tune": "create the tuning job, and wait for it without holding a worker",
    "evaluate": "ask the base and the tuned model about the held-out messages",
    "decide": "decide whether the tuned model is good enough, and better",
    "approve": "ask a person",
    "promote": "make the tuned model the champion",
}
FINISHED = {"success": "done", "skipped": "not needed", "failed": "FAILED", "upstream_failed": "not run"}


class Story:
    """What the visitor reads."""

    def __init__(self) -> None:
        self.began = time.monotonic()
        self.last = ""

    def say(self, text: str) -> None:
        """Print one line, with the seconds since the beginning."""
        self.last = text.strip()
        self.plain(f"{time.monotonic() - self.began:6.1f} s  {text}")

    def plain(self, text: str = "") -> None:
        """Print text as it is."""
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()


class Progress:
    """Tells about each task once when it starts, waits and ends."""

    def __init__(self, story: Story, emulator: Emulator) -> None:
        self.story = story
        self.emulator = emulator
        self.states: dict[str, str | None] = {}
        self.job_state = ""

    def __call__(self, instances: dict[str, dict[str, Any]]) -> None:
        """Look at the task instances of the run."""
        for task_id, story in TASK_STORY.items():
            state = instances.get(task_id, {}).get("state")
            if state == self.states.get(task_id):
                continue
            self.states[task_id] = state
            if state in FINISHED:
                self.story.say(f"  {task_id:<13} {FINISHED[state]:<11} {story}")
            elif state == "deferred":
                self.story.say(f"  {task_id:<13} {'deferred':<11} {story}: the triggerer watches")
            elif state == "up_for_retry":
                raise StepError(f"Task {task_id} of {DAG_ID} failed.")
        if self.states.get("tune") == "deferred":
            self._job()

    def _job(self) -> None:
        jobs = self.emulator.jobs()
        state = jobs[-1]["state"] if jobs else ""
        if state and state != self.job_state:
            self.job_state = state
            self.story.say(f"  {'':<25} the job is {state.removeprefix('JOB_STATE_').lower()}")


def run(story: Story, workdir: Path, stay: bool) -> None:
    """Start everything, run the DAG, show the result and stop everything."""
    token = secrets.token_hex(16)
    with ExitStack() as stack:
        with time_limit(TIME_LIMIT, "The demo"):
            story.say("starting a storage emulator and a tuning emulator")
            storage_url = stack.enter_context(storage_emulator(workdir, BUCKET))
            emulator = stack.enter_context(tuning_emulator(storage_url, token=token, speed=SPEED))
            story.say("starting Airflow: API server, scheduler, DAG processor, triggerer (SQLite)")
            airflow = AirflowStack(
                workdir,
                [REPOSITORY / "example_dags"],
                port=PREFERRED_PORT if stay else None,
                env={
                    "AIRFLOW_CONN_GOOGLE_CLOUD_DEFAULT": connection(
                        emulator.url, project="demo-project", token=token
                    ),
                    "STORAGE_EMULATOR_HOST": storage_url,
                },
            )
            stack.enter_context(airflow)
            story.say(f"Airflow is healthy at {airflow.base_url}")
            run_id = _retrain(story, airflow, emulator)
            _show(story, airflow, run_id)
        if not stay:
            story.plain("Airflow ends with this command. At a terminal it stays up, for you to look around.")
        else:
            story.plain(f"the run       {airflow.client.run_url(DAG_ID, run_id)}")
            story.plain(f"tuning jobs   {airflow.base_url}/plugin/tuning_jobs")
            report = airflow.client.xcom(DAG_ID, run_id, "evaluate")["report_uri"]
            story.plain(f"the report    {_address_of(storage_url, report)}")
            story.plain("\nHave a look around; Ctrl-C stops everything.")
            try:
                signal.pause()
            except KeyboardInterrupt:
                story.plain("\nstopping")


def _retrain(story: Story, airflow: AirflowStack, emulator: Emulator) -> str:
    airflow.wait_for_dag(DAG_ID)
    run_id = airflow.client.trigger(DAG_ID, conf={"poll_interval": POLL_INTERVAL, "bucket": BUCKET})
    story.say(f"started {DAG_ID}: {airflow.client.run_url(DAG_ID, run_id)}")
    progress = Progress(story, emulator)
    try:
        state = airflow.client.wait_for_run(DAG_ID, run_id, timeout=TIME_LIMIT, progress=progress)
        if state != "success":
            raise StepError(f"The run of {DAG_ID} ended as {state}.")
    except StepError as error:
        raise _with_task_log(error, airflow, run_id) from None
    return run_id


def _with_task_log(error: StepError, airflow: AirflowStack, run_id: str) -> StepError:
    """Add the end of the failed task's log to an error."""
    for task_id, instance in airflow.client.task_instances(DAG_ID, run_id).items():
        if instance["state"] in ("failed", "up_for_retry"):
            text = airflow.client.task_log(DAG_ID, run_id, task_id, max(1, instance["try_number"]))
            lines = "\n".join(text.splitlines()[-30:])
            return StepError(f"{error}\n\nThe log of task {task_id} ends so:\n{lines}")
    return StepError(str(error), airflow.log_path("scheduler"))


def _show(story: Story, airflow: AirflowStack, run_id: str) -> None:
    manifest = airflow.client.xcom(DAG_ID, run_id, "tune")
    evaluation = airflow.client.xcom(DAG_ID, run_id, "evaluate")
    story.say("finished")
    story.plain()
    story.plain(f"tuned model   {manifest['tuned_model']}")
    story.plain(f"endpoint      {manifest['endpoint']}")
    story.plain(f"job           {manifest['tuning_job_name']}")
    story.plain(f"verdict       {evaluation['sentence']}")
    for name, values in evaluation["metrics"].items():
        story.plain(
            f"  {name:<12}tuned {values['candidate']:.3f}, base {values['baseline']:.3f}, "
            f"difference {values['difference']:+.3f} ({values['low']:+.3f} to {values['high']:+.3f})"
        )
    for event in airflow.client.asset_events(source_dag_id=DAG_ID, source_run_id=run_id):
        story.plain(f"{event['extra']['action']:<14}{event['name']}: {event['extra']['model']}")
    story.plain(f"report        {evaluation['report_uri']}")
    story.plain()


def _address_of(storage_url: str, uri: str) -> str:
    """Return where a browser finds an object of the storage emulator."""
    bucket, _, name = uri.removeprefix("gs://").partition("/")
    return f"{storage_url}/download/storage/v1/b/{bucket}/o/{quote(name, safe='')}?alt=media"


def main() -> int:
    """Run the demo and return its exit status."""
    argparse.ArgumentParser(
        "python -m demo", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args()
    story = Story()
    stay = sys.stdin.isatty() and sys.stdout.isatty()
    with tempfile.TemporaryDirectory(prefix="airflow-tuning-demo-") as directory:
        try:
            run(story, Path(directory), stay)
        except (StepError, ApiError, EmulatorError, OSError) as error:
            story.plain(f"\nThe demo failed in the step '{story.last}':\n{error}")
            log = getattr(error, "log", None)
            if log:
                story.plain(f"\nThe log of the {log.stem} ends so:\n{tail(log)}")
            return 1
        except KeyboardInterrupt:
            story.plain("\nstopped")
            return 130
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
