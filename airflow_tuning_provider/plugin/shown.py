"""Jobs as a person thinks of them: rows, a job's story, and Google's troubles in words. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from airflow_tuning_provider.api import failure
from airflow_tuning_provider.api.console import endpoint_url, tuned_model_url, tuning_job_url
from airflow_tuning_provider.api.errors import ApiError, ErrorKind
from airflow_tuning_provider.api.identity import DAG_LABEL, RUN_LABEL, TASK_LABEL, labels_of
from airflow_tuning_provider.api.inputs import as_int, as_list, as_mapping, as_text, shorten
from airflow_tuning_provider.api.manifest import data_stats, in_words, manifest, parse_time
from airflow_tuning_provider.api.states import Outcome, outcome
from airflow_tuning_provider.api.states import in_words as state_in_words
from airflow_tuning_provider.api.tuning_job import specs, training_dataset
from airflow_tuning_provider.api.waiting import view_job

Job = Mapping[str, Any]

CLOCK_TOLERANCE = 60.0
"""Seconds by which Google's clock may be ahead of ours before it is worth a word."""
ACTIVE_STATES = (
    "JOB_STATE_QUEUED",
    "JOB_STATE_PENDING",
    "JOB_STATE_RUNNING",
    "JOB_STATE_PAUSED",
    "JOB_STATE_UPDATING",
    "JOB_STATE_CANCELLING",
)
STATE_FILTERS: Mapping[str, tuple[str, ...]] = {
    "active": ACTIVE_STATES,
    "succeeded": ("JOB_STATE_SUCCEEDED", "JOB_STATE_PARTIALLY_SUCCEEDED"),
    "failed": ("JOB_STATE_FAILED", "JOB_STATE_EXPIRED"),
    "cancelled": ("JOB_STATE_CANCELLED",),
}
"""The states that the page's filter offers."""
_TONES = {
    Outcome.SUCCEEDED: "good",
    Outcome.FAILED: "bad",
    Outcome.EXPIRED: "bad",
    Outcome.CANCELLED: "off",
}
_RARE_SPECS = {
    "preferenceOptimizationSpec": "preference tuning",
    "distillationSpec": "distillation",
    "reinforcementTuningSpec": "reinforcement tuning",
}
_TROUBLE = {
    ErrorKind.BAD_REQUEST: "Google refused the request.",
    ErrorKind.UNAUTHENTICATED: "The connection {connection!r} cannot be used.",
    ErrorKind.NOT_PERMITTED: "The connection {connection!r} has no permission to do this.",
    ErrorKind.NOT_FOUND: "Google knows no such thing in this project and location.",
    ErrorKind.QUOTA: "Google's quota for such requests is used up for now. Nothing is wrong with the jobs.",
    ErrorKind.UNAVAILABLE: "Google's API cannot be reached at the moment. The jobs go on by themselves.",
    ErrorKind.BAD_RESPONSE: "Google's API gave an answer that makes no sense. The jobs go on by themselves.",
}
_ADVICE = {
    ErrorKind.BAD_REQUEST: "Check project and location.",
    ErrorKind.UNAUTHENTICATED: (
        "It may have been deleted, or its key or token is no longer good. Look at it under Admin > Connections."
    ),
    ErrorKind.NOT_PERMITTED: "Grant its account the role roles/aiplatform.user in this project.",
    ErrorKind.NOT_FOUND: "It may have been deleted. Check project and location.",
    ErrorKind.QUOTA: "The page tries again by itself in a minute.",
    ErrorKind.UNAVAILABLE: "The page tries again by itself in a minute.",
    ErrorKind.BAD_RESPONSE: "The page tries again by itself in a minute.",
}
_WHAT_TO_DO = {
    3: "Change the input that the message names, then clear the task.",
    5: "Check that the dataset and the model exist, then clear the task.",
    7: "Let the tuning service agent read the dataset's bucket, then clear the task.",
    8: "Google was short of quota or machines: clear the task later.",
    9: "Mend what the message names, then clear the task.",
    13: "Google's own fault: clear the task to try once more.",
    14: "Google's own fault: clear the task to try once more.",
}
_HISTOGRAMS = {
    "userInputTokenDistribution": "Tokens of input per example",
    "userOutputTokenDistribution": "Tokens of output per example",
    "userMessagePerExampleDistribution": "Messages per example",
    "scoresDistribution": "Scores",
    "scoreVariancePerExampleDistribution": "Variance of scores per example",
}


def age(then: float | None, now: float) -> str:
    """Say how long ago something was, and when clocks disagree about it."""
    if then is None:
        return "at an unknown time"
    seconds = now - then
    if seconds < -CLOCK_TOLERANCE:
        return f"{in_words(-seconds)} in the future: this server's clock and Google's differ"
    if seconds < 60:
        return "just now"
    return f"{_coarse(seconds)} ago"


def _lasting(since: float | None, now: float) -> str:
    """Say for how long a state has lasted."""
    if since is None or now - since < -CLOCK_TOLERANCE:
        return age(since, now)
    return "for less than a minute" if now - since < 60 else f"for {_coarse(now - since)}"


def _coarse(seconds: float) -> str:
    """Return a duration to about one part in twenty."""
    if seconds < 3600:
        return f"{int(seconds // 60)} min"
    if seconds < 2 * 86400:
        hours, minutes = divmod(int(seconds // 60), 60)
        return f"{hours} h {minutes} min" if hours < 10 else f"{hours} h"
    return f"{int(seconds // 86400)} days"


def row(job: Job, now: float) -> dict[str, Any]:
    """Return what the list shows of a job.

    :param now: the server's time in epoch seconds.
    """
    facts, state = manifest(job), str(job.get("state"))
    created, started, ended = (parse_time(job.get(key)) for key in ("createTime", "startTime", "endTime"))
    known = outcome(state)
    since = ended if known.ended else (started if state == "JOB_STATE_RUNNING" else created)
    labels = labels_of(job)
    epochs = as_int(facts["hyper_parameters"].get("epoch_count"))
    billable = facts["billable_token_count"]
    return {
        "name": str(job.get("name")),
        "id": str(job.get("name")).rpartition("/")[2],
        "display_name": facts["tuned_model_display_name"] or "",
        "state": state,
        "tone": _TONES.get(known, "busy" if state != "JOB_STATE_CANCELLING" else "off"),
        "state_in_words": _capital(state_in_words(state)),
        "active": not known.ended,
        "cancellable": not known.ended and state != "JOB_STATE_CANCELLING",
        "since": age(since, now) if known.ended else _lasting(since, now),
        "progress": _progress(job),
        "done": _done(job),
        "created": age(created, now),
        "create_time": facts["create_time"],
        "base_model": (facts["base_model"] or "").rpartition("/")[2],
        "kind": next((_RARE_SPECS[name] for name, _ in specs(job) if name in _RARE_SPECS), ""),
        "dag": str(labels.get(DAG_LABEL) or ""),
        "run": str(labels.get(RUN_LABEL) or ""),
        "task": str(labels.get(TASK_LABEL) or ""),
        "dataset": training_dataset(job) or "",
        "tokens": billable * (epochs or 1) if billable is not None else None,
        "tokens_in_words": f"{billable:,} × {epochs} epochs" if billable is not None and epochs else "",
        "error": _short_error(job),
        "console_url": tuning_job_url(job.get("name")),
    }


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _progress(job: Job) -> str:
    """Say how far a job under way is, where the API tells."""
    seen = view_job(job)
    return seen.progress.removeprefix(", ")


def _done(job: Job) -> float | None:
    """Return the part of its steps that a running job has done, from 0 to 1."""
    steps = as_int(as_mapping(job.get("tuningJobMetadata")).get("completedStepCount"))
    total = as_int(data_stats(job).get("tuningStepCount"))
    if job.get("state") != "JOB_STATE_RUNNING" or not steps or not total:
        return None
    return min(1.0, steps / total)


def _short_error(job: Job) -> str:
    error = job.get("error")
    if not isinstance(error, Mapping) or not error:
        return ""
    return shorten(str(error.get("message") or failure.code_name(failure.error_code(error))), 160)


def matches(item: Mapping[str, Any], *, states: str, text: str) -> bool:
    """Whether a row is of the states of a filter, if one is given, and has all words of a text."""
    if states == "active" and not item["active"]:
        return False
    if states not in ("", "active") and item["state"] not in STATE_FILTERS[states]:
        return False
    fields = (
        "name",
        "display_name",
        "base_model",
        "dag",
        "run",
        "task",
        "dataset",
        "error",
        "state_in_words",
    )
    haystack = " ".join(str(item[key]) for key in fields).lower()
    return all(word in haystack for word in text.lower().split())


def detail(job: Job, now: float) -> dict[str, Any]:
    """Return all that a job's own page shows.

    :param now: the server's time in epoch seconds.
    """
    facts = manifest(job)
    tuned = as_mapping(job.get("tunedModel"))
    return {
        **row(job, now),
        "description": as_text(job.get("description")) or "",
        "timeline": timeline(job, now),
        "failure": _failure(job),
        "dropped": [
            shorten(str(reason)) for reason in as_list(data_stats(job).get("droppedExampleReasons"))[:20]
        ],
        "dropped_count": facts["dropped_example_count"],
        "truncated_count": facts["truncated_example_count"],
        "examples": facts["example_count"],
        "hyper_parameters": [
            {"name": _capital(name.replace("_", " ")), "value": str(value)}
            for name, value in facts["hyper_parameters"].items()
        ],
        "histograms": histograms(job),
        "model": _linked(facts["tuned_model"], tuned_model_url(facts["tuned_model"])),
        "endpoint": _linked(facts["endpoint"], endpoint_url(facts["endpoint"])),
        "checkpoints": [
            {**item, "endpoint": _linked(item["endpoint"], endpoint_url(item["endpoint"]))}
            for item in facts["checkpoints"]
        ],
        "experiment": as_text(job.get("experiment")) or as_text(tuned.get("experiment")) or "",
        "metrics_uri": as_text(job.get("gcsMetricsUri")) or "",
        "raw": job,
    }


def _linked(name: str | None, url: str | None) -> dict[str, str] | None:
    return {"name": name, "url": url or ""} if name else None


def timeline(job: Job, now: float) -> list[dict[str, Any]]:
    """Return the phases of a job's life so far: what, from when, how long, and whether it still lasts."""
    created, started, ended = (parse_time(job.get(key)) for key in ("createTime", "startTime", "endTime"))
    if created is None:
        return []
    over = outcome(str(job.get("state"))).ended
    last = ended if over else max(now, started or created)
    phases = [("Waiting and preparing", "createTime", created, started or last, started is None)]
    if started is not None:
        phases.append(("Tuning", "startTime", started, last, True))
    shown = []
    for what, key, begin, end, is_last in phases:
        going_on = is_last and not over
        seconds = None if end is None else max(0.0, end - begin)
        shown.append(
            {
                "what": what,
                "from": job.get(key),
                "seconds": seconds,
                "in_words": ("for " if going_on else "") + in_words(seconds),
                "going_on": going_on,
            }
        )
    return shown


def _failure(job: Job) -> dict[str, str] | None:
    state = str(job.get("state"))
    ended = outcome(state)
    if ended is Outcome.CANCELLED:
        return {
            "title": "The job was cancelled",
            "message": "",
            "advice": "Its task is not retried by itself. Clear the task to create a new job.",
        }
    if ended not in (Outcome.FAILED, Outcome.EXPIRED):
        return None
    error = job.get("error")
    code = failure.error_code(error)
    message = str(as_mapping(error).get("message") or error or "Google gave no reason.")
    advice = _WHAT_TO_DO.get(code or 0, "Clear the task to create a new job.")
    if failure.uploaded_model(job):
        advice = (
            "The model is there and paid for, only its deployment failed: deploy it from the Model Registry."
        )
    title = "The job expired" if ended is Outcome.EXPIRED else f"The job failed ({failure.code_name(code)})"
    return {"title": title, "message": shorten(message, 4000), "advice": advice}


def histograms(job: Job) -> list[dict[str, Any]]:
    """Return the distributions that the service made of the training data."""
    shown = []
    stats = data_stats(job)
    for key, title in _HISTOGRAMS.items():
        given = as_mapping(stats.get(key))
        bars = []
        for bucket in as_list(given.get("buckets")):
            item = as_mapping(bucket)
            count, left, right = (_number(item.get(name)) for name in ("count", "left", "right"))
            if count is not None:
                bars.append({"count": count, "left": left, "right": right})
        if bars:
            numbers = {name: _number(given.get(name)) for name in ("min", "median", "mean", "p95", "max")}
            shown.append({"title": title, "bars": bars, **numbers})
    return shown


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        number = float(value)
    except ValueError:
        return None
    return number if abs(number) < 1e18 else None


def trouble(error: ApiError, connection: str, *, in_full: bool) -> dict[str, Any]:
    """Say what went wrong with a call.

    :param in_full: whether to give the API's own words, which may name the connection's account.
    """
    return {
        "title": _TROUBLE[error.kind].format(connection=connection),
        "advice": _ADVICE[error.kind],
        "details": shorten(str(error), 2000) if in_full else "",
        "kind": error.kind.value,
    }
