"""A job's state as a pure function of its record and the time.

Nothing here ticks: a record holds what happened (created, admitted, dataset read, cancel asked, state
set by hand) and how fast its clock runs, and every question is answered from that. So a restart simply
goes on, and ten thousand jobs cost nothing while nobody asks.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

QUEUED = "JOB_STATE_QUEUED"
PENDING = "JOB_STATE_PENDING"
RUNNING = "JOB_STATE_RUNNING"
SUCCEEDED = "JOB_STATE_SUCCEEDED"
PARTIALLY_SUCCEEDED = "JOB_STATE_PARTIALLY_SUCCEEDED"
FAILED = "JOB_STATE_FAILED"
CANCELLING = "JOB_STATE_CANCELLING"
CANCELLED = "JOB_STATE_CANCELLED"
EXPIRED = "JOB_STATE_EXPIRED"
PAUSED = "JOB_STATE_PAUSED"
UPDATING = "JOB_STATE_UPDATING"

SUCCESS = frozenset({SUCCEEDED, PARTIALLY_SUCCEEDED})
TERMINAL = SUCCESS | {FAILED, CANCELLED, EXPIRED}
_NOT_STARTED = frozenset({QUEUED, PENDING})

# Seconds at speed 1.
PENDING_SECONDS = 120.0
DATASET_CHECK_SECONDS = 20.0
RUNNING_SECONDS = 1800.0
SECONDS_PER_EXAMPLE_AND_EPOCH = 0.024
CANCELLING_SECONDS = 15.0
# How often a running job reports its steps, as a share of the run.
_REPORTS = 20
_POST_PROCESSING = 0.95

_CANCELLED_ERROR = {"code": 1, "message": "The tuning job was cancelled."}
_DEFAULT_ERRORS = {
    FAILED: {"code": 13, "message": "Internal error encountered."},
    CANCELLED: _CANCELLED_ERROR,
    EXPIRED: {"code": 4, "message": "The tuning job exceeded its maximum run time."},
}


@dataclass
class JobRecord:
    """What is known of a job; everything else is derived."""

    id: str
    number: str
    location: str
    body: dict[str, Any]
    created: float
    speed: float
    sequence: int = 0
    # None: queued for quota.
    admitted: float | None = None
    # None: the dataset is still being read.
    dataset_ready: float | None = None
    dataset_error: dict[str, Any] | None = None
    stats: dict[str, Any] = field(default_factory=dict)
    examples: int = 0
    epochs: int = 0
    steps: int = 0
    corpus: str = ""
    model: str = ""
    model_version: int = 1
    # What has been done since to the model's version and its endpoints, see registry.Version.
    registry: dict[str, Any] = field(default_factory=dict)
    base_model: str = ""
    cancel_asked: float | None = None
    # None: as the speed has it; infinity: for ever.
    cancel_seconds: float | None = None
    pinned: dict[str, Any] | None = None
    # From when on list and get show the job; infinity: never.
    list_from: float = 0.0
    get_from: float = 0.0
    # The share of right answers, where a test has set it.
    quality: float | None = None
    # A merge patch that get and list apply to the resource.
    overlay: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The job's resource name, with the project number."""
        return f"projects/{self.number}/locations/{self.location}/tuningJobs/{self.id}"

    @property
    def place(self) -> tuple[float, int]:
        """The job's place in the list, which runs by the time of creation."""
        return self.created, self.sequence

    @property
    def cancelling_seconds(self) -> float:
        """How long a cancellation takes, on the wall clock."""
        return CANCELLING_SECONDS / self.speed if self.cancel_seconds is None else self.cancel_seconds

    @property
    def running_seconds(self) -> float:
        """How long the job runs, on the wall clock."""
        work = self.examples * self.epochs * SECONDS_PER_EXAMPLE_AND_EPOCH
        return (RUNNING_SECONDS + work) / self.speed


@dataclass(frozen=True)
class View:
    """A job at one moment."""

    state: str
    updated: float
    started: float | None = None
    ended: float | None = None
    error: dict[str, Any] | None = None
    # 0..1; meaningful once started.
    progress: float = 0.0

    @property
    def terminal(self) -> bool:
        """Whether the job has ended."""
        return self.state in TERMINAL


def as_of(job: JobRecord, then: float) -> JobRecord:
    """Return what was known of the job at a moment of the past: without the states set by hand since."""
    while job.pinned is not None and then < job.pinned["at"]:
        job = replace(job, **job.pinned["before"])
    return job


def view(job: JobRecord, now: float) -> View:
    """Return the job as it is at a moment."""
    if job.pinned is not None and (job.cancel_asked is None or job.cancel_asked <= job.pinned["at"]):
        return _pinned(job, now)
    if job.cancel_asked is not None and now >= job.cancel_asked:
        return _cancelled(job, now)
    if job.pinned is not None:
        return _pinned(job, now)
    return _by_clock(job, now)


def _by_clock(job: JobRecord, now: float) -> View:
    if job.admitted is None or now < job.admitted:
        return View(QUEUED, job.created)
    if job.dataset_error is not None and job.dataset_ready is not None:
        failed = max(job.admitted + DATASET_CHECK_SECONDS / job.speed, job.dataset_ready)
        if now >= failed:
            return View(FAILED, failed, None, failed, job.dataset_error)
        return View(PENDING, job.admitted)
    started = start_time(job)
    if started is None or now < started:
        return View(PENDING, job.admitted)
    ended = started + job.running_seconds
    if now >= ended:
        return View(SUCCEEDED, ended, started, ended, None, 1.0)
    progress = int((now - started) / job.running_seconds * _REPORTS) / _REPORTS
    return View(RUNNING, started + progress * job.running_seconds, started, None, None, progress)


def _cancelled(job: JobRecord, now: float) -> View:
    assert job.cancel_asked is not None
    before = _before_cancel(job)
    done = job.cancel_asked + job.cancelling_seconds
    if now < done:
        return View(CANCELLING, job.cancel_asked, before.started, None, None, before.progress)
    return View(CANCELLED, done, before.started, done, _CANCELLED_ERROR, before.progress)


def _before_cancel(job: JobRecord) -> View:
    assert job.cancel_asked is not None
    return _pinned(job, job.cancel_asked) if job.pinned is not None else _by_clock(job, job.cancel_asked)


def _pinned(job: JobRecord, now: float) -> View:
    pinned = job.pinned or {}
    state, at = pinned["state"], pinned["at"]
    progress = 1.0 if state in SUCCESS else pinned.get("progress", 0.0)
    if state == RUNNING and pinned.get("started"):
        elapsed = (now - pinned["started"]) / job.running_seconds
        progress = min(0.9, max(progress, int(elapsed * _REPORTS) / _REPORTS))
    ended = at if state in TERMINAL else None
    return View(state, at, pinned.get("started"), ended, pinned.get("error"), progress)


def pin(job: JobRecord, state: str, error: dict[str, Any] | None, now: float) -> None:
    """Put the job into a state by hand; it stays there until set again or cancelled."""
    before = view(job, now)
    started = None if state in _NOT_STARTED else before.started
    if (
        started is None
        and state not in _NOT_STARTED
        and state not in (FAILED, CANCELLED, CANCELLING, EXPIRED)
    ):
        # What runs, or has run, has a start.
        started = now
    job.pinned = {
        "state": state,
        "at": now,
        "started": started,
        "error": error or _DEFAULT_ERRORS.get(state),
        "progress": 0.0 if state in _NOT_STARTED else before.progress,
        "before": {
            name: getattr(job, name) for name in ("pinned", "cancel_asked", "cancel_seconds", "admitted")
        },
    }
    job.cancel_asked = None
    if job.admitted is None and state != QUEUED:
        job.admitted = now


def start_time(job: JobRecord) -> float | None:
    """Return when the job starts to run, or None while that is not known."""
    if job.admitted is None or job.dataset_ready is None:
        return None
    return max(job.admitted + PENDING_SECONDS / job.speed, job.dataset_ready)


def end_time(job: JobRecord) -> float | None:
    """Return when the job ends, or None while that is not known; tells when its place becomes free."""
    if job.pinned is not None and (job.cancel_asked is None or job.cancel_asked <= job.pinned["at"]):
        return float(job.pinned["at"]) if job.pinned["state"] in TERMINAL else None
    if job.cancel_asked is not None:
        return job.cancel_asked + job.cancelling_seconds
    started = start_time(job)
    if started is None or job.admitted is None:
        return None
    if job.dataset_error is not None and job.dataset_ready is not None:
        return max(job.admitted + DATASET_CHECK_SECONDS / job.speed, job.dataset_ready)
    return started + job.running_seconds


def tuning_job_state(job: JobRecord, at: View) -> str | None:
    """Return v1beta1's finer state, which only an active job has."""
    if at.state == QUEUED:
        return "TUNING_JOB_STATE_WAITING_FOR_QUOTA"
    if at.state == PENDING:
        waiting = job.dataset_ready is not None
        return "TUNING_JOB_STATE_WAITING_FOR_CAPACITY" if waiting else "TUNING_JOB_STATE_PROCESSING_DATASET"
    if at.state == RUNNING:
        done = at.progress >= _POST_PROCESSING
        return "TUNING_JOB_STATE_POST_PROCESSING" if done else "TUNING_JOB_STATE_TUNING"
    return None
