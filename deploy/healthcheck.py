"""Is the component in this container well? ``python healthcheck.py COMPONENT``.

Airflow's own commands for this (``airflow jobs check``, ``celery inspect``) import all of Airflow, which takes
seconds of processor time in every container and interval. These ask the same questions in a fraction of one.
"""

from __future__ import annotations

import json
import os
import socket
import ssl
import sys
import urllib.request
from pathlib import Path

SECRETS = Path("/opt/airflow/secrets")
JOB_TYPES = {"dag-processor": "DagProcessorJob", "triggerer": "TriggererJob", "scheduler": "SchedulerJob"}
# Components beat every 5 s; Airflow itself takes them for dead after 30 s.
HEARTBEAT_SECONDS = 30


def answers(url: str, context: ssl.SSLContext | None = None) -> bytes:
    """Return the body of a 200."""
    handlers: list[urllib.request.BaseHandler] = [urllib.request.ProxyHandler({})]
    if context:
        handlers.append(urllib.request.HTTPSHandler(context=context))
    with urllib.request.build_opener(*handlers).open(url, timeout=8) as response:
        body: bytes = response.read()
    return body


def beats(component: str) -> None:
    """Fail unless this container's component has left a heartbeat in the database."""
    import psycopg2

    url = (SECRETS / "database_url").read_text().replace("+psycopg2", "")
    query = (
        "SELECT count(*) FROM job WHERE job_type = %s AND hostname = %s AND state = 'running' "
        "AND latest_heartbeat > now() - %s * interval '1 second'"
    )
    connection = psycopg2.connect(url, connect_timeout=8)
    try:
        with connection.cursor() as cursor:
            cursor.execute(query, (JOB_TYPES[component], socket.getfqdn(), HEARTBEAT_SECONDS))
            row = cursor.fetchone()
    finally:
        connection.close()
    if not row or not row[0]:
        raise RuntimeError(f"no heartbeat of the {component} for {HEARTBEAT_SECONDS} s")


def pong() -> None:
    """Fail unless the Celery worker of this container answers through the broker."""
    from celery import Celery

    node = f"celery@{socket.gethostname()}"
    app = Celery(broker=(SECRETS / "broker_url").read_text())
    if node not in (app.control.inspect(destination=[node], timeout=8).ping() or {}):
        raise RuntimeError(f"{node} does not answer")


def main(component: str) -> None:
    """Check one component; an exception is ill health."""
    if component == "api-server":
        health = json.loads(answers("http://127.0.0.1:8080/api/v2/monitor/health"))
        if health["metadatabase"]["status"] != "healthy":
            raise RuntimeError(f"{health}")
    elif component == "worker":
        pong()
    elif component == "tuning-emulator":
        context = ssl.create_default_context(cafile=os.environ["TLS_CA"])
        answers("https://localhost:8099/_emulator/health", context)
    elif component == "storage-emulator":
        answers("http://127.0.0.1:9023/")
    else:
        beats(component)


if __name__ == "__main__":
    try:
        main(sys.argv[1])
    except Exception as error:  # noqa: BLE001  (whatever it is, the container is not well)
        sys.exit(f"{type(error).__name__}: {error}")
