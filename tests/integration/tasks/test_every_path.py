"""Whatever a server answers, operator and sensor come to the same end, blocking and deferrable."""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from socket import SO_LINGER, SOL_SOCKET
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from airflow_tuning_provider import exceptions as errors
from airflow_tuning_provider._tasks import waiting
from airflow_tuning_provider.api import waiting as api_waiting
from airflow_tuning_provider.api.retry import RetryPolicy
from airflow_tuning_provider.operators.tuning_job import CreateTuningJobOperator
from airflow_tuning_provider.sensors import tuning_job as sensors
from airflow_tuning_provider.sensors.tuning_job import TuningJobSensor
from tests.integration.servers import Connection, Server
from tests.integration.tasks.conftest import BODY, TaskInstance, is_permanent

PARENT = "projects/test-project/locations/us-central1"
NAME = f"{PARENT}/tuningJobs/5"
Answer = Callable[[Connection, dict[str, Any]], None]


def state(name: str, code: int | None = None) -> Answer:
    def answer(connection: Connection, job: dict[str, Any]) -> None:
        error = {} if code is None else {"error": {"code": code, "message": f"Code {code}."}}
        tuned = {"tunedModel": {"model": f"{PARENT}/models/7@1", "endpoint": f"{PARENT}/endpoints/7"}}
        more = tuned if name.endswith("SUCCEEDED") else error
        connection.answer(200, {**job, "state": f"JOB_STATE_{name}", **more})

    return answer


def status(code: int, word: str = "", **headers: str) -> Answer:
    body = {"error": {"code": code, "message": "Said the server.", "status": word}}
    return lambda connection, _: connection.answer(code, body, **headers)


def raw(content: bytes) -> Answer:
    return lambda connection, _: connection.answer(200, content, Content_Type="application/json")


def reset(connection: Connection, _: dict[str, Any]) -> None:
    # Closing with this set sends a reset instead of an orderly end.
    connection.sock.setsockopt(SOL_SOCKET, SO_LINGER, struct.pack("ii", 1, 0))
    connection.sock.close()


def cut_off(connection: Connection, job: dict[str, Any]) -> None:
    body = json.dumps(job).encode()
    connection.sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body[:20])
    connection.sock.close()


UNDER_WAY = {
    name: state(name)
    for name in ("QUEUED", "PENDING", "RUNNING", "UPDATING", "PAUSED", "CANCELLING", "DREAMING")
}
FAULTS = {
    "408": status(408),
    "429": status(429, "RESOURCE_EXHAUSTED"),
    "499": status(499, "CANCELLED"),
    "500": status(500, "INTERNAL"),
    "502 HTML": lambda connection, _: connection.answer(502, b"<html>Bad Gateway</html>"),
    "503": status(503, "UNAVAILABLE"),
    "503 Retry-After": status(503, "UNAVAILABLE", Retry_After="0"),
    "504": status(504, "DEADLINE_EXCEEDED"),
    "reset": reset,
    "cut off": cut_off,
    "no JSON": raw(b"<html>A captive portal</html>"),
    "half JSON": raw(b'{"name": "proj'),
    "not a job": raw(b"[]"),
}
ENDS = {
    "succeeded": state("SUCCEEDED"),
    "partially succeeded": state("PARTIALLY_SUCCEEDED"),
    "failed": state("FAILED", 13),
    "failed for good": state("FAILED", 3),
    "failed without a reason": state("FAILED"),
    "cancelled": state("CANCELLED", 1),
    "expired": state("EXPIRED"),
    "400": status(400, "INVALID_ARGUMENT"),
    "401": status(401, "UNAUTHENTICATED"),
    "403": status(403, "PERMISSION_DENIED"),
    "404": status(404, "NOT_FOUND"),
}
COURSES = st.tuples(
    st.lists(st.sampled_from([*UNDER_WAY, *FAULTS]), max_size=8).map(tuple), st.sampled_from(list(ENDS))
)


class Api:
    """A tuning API with one job, whose looks are answered one after the other; the last answer lasts."""

    def __init__(self) -> None:
        self.start([], "succeeded")

    def start(self, course: list[str], end: str, **job: Any) -> None:
        """Begin anew; the job is there already if any of its fields is given."""
        self.left = [(UNDER_WAY | FAULTS)[step] for step in course]
        self.end = ENDS[end]
        created = datetime.now(timezone.utc).isoformat().replace("+00:00", "Z")
        self.job: dict[str, Any] = {"name": NAME, "state": "JOB_STATE_PENDING", "createTime": created, **job}
        self.exists = bool(job)
        self.creates = 0

    def __call__(self, connection: Connection, request: bytes) -> None:
        method, path = request.split(b" ", 2)[:2]
        if method == b"POST" and path.endswith(b"/tuningJobs"):
            self.creates += 1
            self.exists = True
            self.job |= json.loads(request.partition(b"\r\n\r\n")[2])
            connection.answer(200, self.job)
        elif re.search(rb"/tuningJobs(\?|$)", path):
            connection.answer(200, {"tuningJobs": [self.job]} if self.exists else {})
        else:
            assert method == b"GET", "a wait changes nothing"
            (self.left.pop(0) if self.left else self.end)(connection, self.job)


@pytest.fixture(scope="module")
def api() -> Iterator[tuple[Api, str]]:
    behaviour = Api()
    with Server(behaviour) as server:
        yield behaviour, server.url


@pytest.fixture
def _in_a_hurry(api: tuple[Api, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Let pauses be as short as they can be; what is paused for, and how often, stays."""
    monkeypatch.setattr(RetryPolicy, "backoff", lambda *_: 0.001)
    for module in (api_waiting, waiting, sensors):
        monkeypatch.setattr(module, "SIGHT_SECONDS", 0.05)
    extra = {"project": "test-project", "location": "us-central1", "api_endpoint": api[1]}
    connection = {"conn_type": "vertex_ai_tuning", "password": "a-token", "extra": extra}
    monkeypatch.setenv("AIRFLOW_CONN_EVERY_PATH", json.dumps(connection))


COMMON: dict[str, Any] = {"gcp_conn_id": "every_path", "poll_interval": 0.01, "request_timeout": 5}


def ending(task: Any) -> tuple[str, bool]:
    """Run a task, and return in words how it ended, and whether no retry would follow."""
    try:
        manifest = TaskInstance().run(task)
    except errors.TuningJobCancelledError as error:
        return "cancelled", is_permanent(error)
    except errors.TuningJobFailedError as error:
        return f"failed {error.tuning_job_name}", is_permanent(error)
    except errors.TuningUnavailableError as error:
        return UNSEEN, is_permanent(error)
    return str(manifest["state"]), False


UNSEEN = "could not be seen"
EXPECTED = {
    "succeeded": "JOB_STATE_SUCCEEDED",
    "partially succeeded": "JOB_STATE_PARTIALLY_SUCCEEDED",
    "failed": f"failed {NAME}",
    "failed for good": f"failed {NAME}",
    "failed without a reason": f"failed {NAME}",
    "cancelled": "cancelled",
    "expired": f"failed {NAME}",
    **dict.fromkeys(("400", "401", "403", "404"), UNSEEN),
}
MAY_RETRY = {"failed", "failed without a reason", "expired", "400", "401", "403", "404"}


@pytest.mark.timeout(600)  # half a minute where nothing else runs
@pytest.mark.usefixtures("_in_a_hurry")
@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(COURSES)
@example((tuple(UNDER_WAY), "succeeded"))
@example((tuple(FAULTS), "succeeded"))
@example((tuple(FAULTS) * 3, "failed"))
def test_any_course_has_the_same_end_on_every_path(
    api: tuple[Api, str], course: tuple[tuple[str, ...], str]
) -> None:
    server, (steps, end) = api[0], course
    for deferrable in (False, True):
        server.start(list(steps), end)
        operator = CreateTuningJobOperator(task_id="tune", deferrable=deferrable, **COMMON, **BODY)
        found, permanent = ending(operator)
        assert (found, server.creates) == (EXPECTED[end], 1)
        assert permanent is (end not in MAY_RETRY and not found.startswith("JOB_STATE"))
        server.start(list(steps), end, state="JOB_STATE_RUNNING")
        sensor = TuningJobSensor(
            task_id="wait", tuning_job_name=NAME, deferrable=deferrable, timeout=60, **COMMON
        )
        found, permanent = ending(sensor)
        assert (found, server.creates) == (EXPECTED[end], 0)
        # A sensor's retry could not change how the job ended.
        assert permanent is (found != UNSEEN and not found.startswith("JOB_STATE"))
