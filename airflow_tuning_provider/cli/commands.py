"""What the commands do: a thin shell over the hook and the core. Results go to stdout, everything else to stderr."""

from __future__ import annotations

import logging
import os
import sys
import time
from argparse import Namespace
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

from airflow_tuning_provider._errors import job_error, refusing_invalid_input
from airflow_tuning_provider._tasks.scope import deployment_name
from airflow_tuning_provider._tasks.sweep import check_deployment, summary, sweep
from airflow_tuning_provider.api.console import tuning_job_url
from airflow_tuning_provider.api.failure import code_name, error_code
from airflow_tuning_provider.api.identity import DAG_LABEL, RUN_LABEL, TASK_LABEL, label_value, labels_of
from airflow_tuning_provider.api.inputs import InvalidInputError, as_mapping, as_text
from airflow_tuning_provider.api.manifest import in_words, manifest, parse_time
from airflow_tuning_provider.api.states import Outcome, has_ended_in_words, outcome
from airflow_tuning_provider.api.states import in_words as state_in_words
from airflow_tuning_provider.cli import database
from airflow_tuning_provider.cli.output import write
from airflow_tuning_provider.exceptions import (
    TuningBadRequestError,
    TuningError,
    TuningWaitTimeoutError,
)
from airflow_tuning_provider.hooks.diagnosis import as_row, diagnose
from airflow_tuning_provider.hooks.tuning_job import TuningJobHook

Json = dict[str, Any]

DONE, FAILED, JOB_FAILED, JOB_CANCELLED, TIMED_OUT, INTERRUPTED = 0, 1, 3, 4, 5, 130

_LISTED = "nextPageToken,tuningJobs(" + ",".join(
    ("name", "state", "createTime", "startTime", "endTime", "updateTime", "labels", "error", "baseModel",
     "preTunedModel", "tunedModelDisplayName", "tunedModel(model,endpoint)")
) + ")"  # fmt: skip
_MOST_JOBS = 10_000
"""Jobs that are looked through for those that are asked for."""

_PROGRESS_SECONDS = 30.0
"""Between two lines of a wait while nothing changes."""

_log = logging.getLogger(__name__)


class _Hook(TuningJobHook):
    """A hook that tells its story on stderr: stdout is for results, which another program may read."""

    @property
    def log(self) -> Any:
        return _log


def run(command: str, args: Namespace) -> int:
    """Run a command.

    :param command: its name.
    :param args: its options, and ``out``, where the result goes.
    :return: the exit code.
    """
    _tell_on_stderr(verbose=getattr(args, "verbose", False))
    try:
        return _COMMANDS[command](args)
    except TuningError as error:
        _say(str(error))
        return FAILED
    except KeyboardInterrupt:
        _say("Interrupted.")
        return INTERRUPTED
    except BrokenPipeError:  # the reader has seen enough, as head has
        os.dup2(os.open(os.devnull, os.O_WRONLY), args.out.fileno())
        return FAILED


def _tell_on_stderr(*, verbose: bool) -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(message)s"))
    _log.handlers, _log.propagate, _log.disabled = [handler], False, False
    _log.setLevel(logging.DEBUG if verbose else logging.INFO)


def _say(text: str) -> None:
    sys.stderr.write(text.rstrip("\n") + "\n")
    sys.stderr.flush()


@contextmanager
def _hook(args: Namespace) -> Iterator[TuningJobHook]:
    # As `airflow connections get` does: connections may be in the metadata database, which this process may read.
    os.environ.setdefault("_AIRFLOW_PROCESS_CONTEXT", "server")
    with _Hook(
        args.conn_id,
        project_id=args.project_id,
        location=args.location,
        impersonation_chain=args.impersonation_chain,
        api_version=args.api_version,
    ) as hook:
        yield hook


# -- the commands --------------------------------------------------------------------------------------


def _list(args: Namespace) -> int:
    with refusing_invalid_input():
        if args.limit < 1:
            raise InvalidInputError("--limit", args.limit, "give a number, 1 or more")
        state = None if args.state is None else _state(args.state)

    def wanted(job: Json) -> bool:
        labels = labels_of(job)
        return (state is None or job.get("state") == state) and (
            args.dag_id is None or labels.get(DAG_LABEL) == label_value(args.dag_id)
        )

    with _hook(args) as hook:
        size = min(args.limit if state is None and args.dag_id is None else 1000, 1000)
        jobs = hook.list_tuning_jobs(page_size=size, fields=_LISTED)
        found = list(islice(filter(wanted, islice(jobs, _MOST_JOBS)), args.limit))
        if len(found) < args.limit and next(jobs, None) is not None:
            _say(f"Looked through {_MOST_JOBS} jobs; there are more.")
    # The order of the API's list is not documented.
    found.sort(key=lambda job: parse_time(job.get("createTime")) or 0.0, reverse=True)
    write(args.out, [_summary(job) for job in found], [_row(job, time.time()) for job in found], args.output)
    return DONE


def _get(args: Namespace) -> int:
    with _hook(args) as hook:
        job = hook.get_tuning_job(args.name)
    write(args.out, job, _properties(job), args.output)
    return DONE


def _wait(args: Namespace) -> int:
    with _hook(args) as hook:
        name = str(hook.full_name(args.name))
        if args.timeout is not None and args.timeout <= 0:
            with refusing_invalid_input():
                raise InvalidInputError("--timeout", args.timeout, "give seconds, above 0")
        hook.get_tuning_job(name)  # a wait would bear a job that cannot be seen for minutes
        deadline = None if args.timeout is None else time.time() + args.timeout
        try:
            job = hook.wait_until_ended(
                name, poll_interval=args.poll_interval, deadline=deadline, heartbeat=_PROGRESS_SECONDS
            )
        except TuningWaitTimeoutError:
            _say(
                f"Not ended within {in_words(args.timeout)}: the job goes on and may cost money. {_to_cancel(name)}"
            )
            return TIMED_OUT
        except KeyboardInterrupt:
            _say(f"\nStopped waiting: the job goes on and may cost money. {_to_cancel(name)}")
            return INTERRUPTED
    write(args.out, job, _properties(job), args.output)
    if (error := job_error(job)) is None:
        return DONE
    _say(str(error))
    return JOB_CANCELLED if outcome(str(job.get("state"))) is Outcome.CANCELLED else JOB_FAILED


def _to_cancel(name: str) -> str:
    return f"To cancel it: {_program()} cancel {name}"


def _cancel(args: Namespace) -> int:
    with _hook(args) as hook:
        job = hook.get_tuning_job(args.name)
        name, state = str(job["name"]), str(job["state"])
        if outcome(state).ended:
            _say(f"The job {has_ended_in_words(state)} already: there is nothing to cancel · {name}")
            return DONE
        if not _confirmed(args, f"Cancel {name}, which is {state_in_words(state)}?"):
            return FAILED
        try:
            hook.cancel_tuning_job(name)
        except TuningBadRequestError:
            job = hook.get_tuning_job(name)
            if not outcome(str(job["state"])).ended:
                raise
            _say(f"The job {has_ended_in_words(str(job['state']))} meanwhile · {name}")
            return DONE
    _say(
        f"Asked for the cancellation. It may take some minutes; a job that is almost done may succeed · {name}"
    )
    return DONE


def _orphans(args: Namespace) -> int:
    dry_run = not args.cancel
    with refusing_invalid_input():
        if not args.min_age >= 0:
            raise InvalidInputError("--min-age", args.min_age, "give seconds, 0 or more")
        check_deployment(dry_run, deployment_name())
    if not dry_run and not _confirmed(args, "Cancel every orphan that is found?"):
        return FAILED
    with _hook(args) as hook:
        given = args.dag_id

        def dags(jobs: list[Json]) -> list[str]:
            labels = {labels_of(job).get(DAG_LABEL) for job in jobs}
            return [dag_id for dag_id in given or database.dag_ids() if label_value(dag_id) in labels]

        labels = None if given is None else {label_value(dag_id) for dag_id in given}
        swept = sweep(
            hook,
            dags,
            database.task_states,
            wanted=lambda job: labels is None or labels_of(job).get(DAG_LABEL) in labels,
            deployment=deployment_name(),
            min_age=args.min_age,
            dry_run=dry_run,
            log=logging.getLogger("airflow_tuning_provider.quiet"),
        )
    rows = [
        {
            "name": finding.name,
            "orphan": finding.orphan,
            "cancelled": finding.name in swept.cancelled,
            "reason": finding.reason,
        }
        for finding in swept.findings
    ]
    write(args.out, rows, [{**row, "name": _short(row["name"])} for row in rows], args.output)
    _say(
        summary(swept, dry_run=dry_run) + (" To cancel them: --cancel." if dry_run and swept.orphans else "")
    )
    return DONE


def _check(args: Namespace) -> int:
    with _hook(args) as hook:
        findings = diagnose(hook, bucket=args.bucket)
    rows = [as_row(finding) for finding in findings]
    if args.output in ("json", "yaml"):
        write(args.out, [dict(row) for row in rows], rows, args.output)
    else:
        for row in rows:
            args.out.write(f"{row['verdict']:<9} {row['step']}: {row['what']}\n")
            if row["mend_with"]:
                args.out.write(f"{'':<10}{row['mend_with']}\n")
        args.out.flush()
    return DONE if all(finding.works is not False for finding in findings) else FAILED


def emulator(args: Namespace) -> int:
    """Run the emulator until it is told to stop."""
    from airflow_tuning_provider.emulator.cli import main

    given = args.arguments
    return main(given[1:] if given[:1] == ["--"] else given)


_COMMANDS: Mapping[str, Callable[[Namespace], int]] = {
    "list": _list,
    "get": _get,
    "wait": _wait,
    "cancel": _cancel,
    "orphans": _orphans,
    "check": _check,
}


# -- words ---------------------------------------------------------------------------------------------


def _program() -> str:
    called = Path(sys.argv[0]).name
    return "airflow tuning-jobs" if called == "airflow" else "python -m airflow_tuning_provider"


def _confirmed(args: Namespace, question: str) -> bool:
    if args.yes:
        return True
    if not sys.stdin.isatty():
        _say(f"{question} There is no terminal to ask on: give --yes.")
        return False
    sys.stderr.write(f"{question} (y/n) ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _state(text: str) -> str:
    value = text.strip().upper().replace(" ", "_").replace("-", "_")
    value = value if value.startswith("JOB_STATE_") else f"JOB_STATE_{value}"
    if not value.removeprefix("JOB_STATE_").replace("_", "").isalpha():
        raise InvalidInputError("--state", text, "give a state such as running, or JOB_STATE_RUNNING")
    return value


def _short(name: object) -> str:
    return str(name).rpartition("/")[2]


def _since(job: Json) -> str | None:
    """Return the time at which a job came into its state."""
    ended = outcome(str(job.get("state"))).ended
    return as_text(job.get("endTime" if ended else "startTime")) or as_text(job.get("createTime"))


def _summary(job: Json) -> Json:
    """Return what a program may want to know of a job in a list."""
    labels, result = labels_of(job), manifest(job)
    return {
        "name": result["tuning_job_name"],
        "state": result["state"],
        "display_name": result["tuned_model_display_name"],
        "base_model": result["base_model"],
        "create_time": result["create_time"],
        "start_time": result["start_time"],
        "end_time": result["end_time"],
        "dag": labels.get(DAG_LABEL),
        "run": labels.get(RUN_LABEL),
        "task": labels.get(TASK_LABEL),
        "tuned_model": result["tuned_model"],
        "endpoint": result["endpoint"],
        "error": job.get("error") or None,
    }


def _row(job: Json, now: float) -> Json:
    labels, result = labels_of(job), manifest(job)
    since = parse_time(_since(job))
    return {
        "id": _short(job["name"]),
        "state": state_in_words(str(job.get("state"))),
        "for": None if since is None else in_words(max(now - since, 0.0)),
        "display_name": result["tuned_model_display_name"],
        "base_model": result["base_model"],
        "dag": labels.get(DAG_LABEL),
        "run": labels.get(RUN_LABEL),
        "task": labels.get(TASK_LABEL),
    }


def _properties(job: Json) -> list[Json]:
    result: Json = {**manifest(job)}
    error = as_mapping(job.get("error"))
    if error:
        result["error"] = f"{code_name(error_code(error))}: {error.get('message') or 'no message'}"
    result["console"] = tuning_job_url(job.get("name"))
    return [{"property": key, "value": value} for key, value in result.items() if value not in (None, [], {})]
