"""Airflow's REST API, as far as watching and steering a run takes it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote, urlencode

from testbed.services import PATIENCE, StepError, http_json, wait_until

TERMINAL_RUN_STATES = frozenset({"success", "failed"})


class ApiError(RuntimeError):
    """Airflow's REST API refused a request."""

    def __init__(self, method: str, path: str, status: int, answer: Any) -> None:
        super().__init__(f"{method} {path}: {status} {answer}")
        self.status = status


class AirflowClient:
    """The few calls of Airflow's REST API (v2) that watching and steering a run take."""

    def __init__(self, base_url: str) -> None:
        self.base_url = base_url
        self._token: str | None = None

    def _authorization(self) -> dict[str, str]:
        if self._token is None:
            status, answer = http_json("GET", f"{self.base_url}/auth/token")
            if status not in (200, 201):
                raise ApiError("GET", "/auth/token", status, answer)
            self._token = answer["access_token"]
        return {"Authorization": f"Bearer {self._token}"}

    def request(self, method: str, path: str, body: Any = None, **query: Any) -> Any:
        """Call ``/api/v2`` + ``path`` and return the decoded answer."""
        url = f"{self.base_url}/api/v2{path}" + (f"?{urlencode(query, doseq=True)}" if query else "")
        status, answer = http_json(method, url, body, self._authorization())
        if status >= 400:
            raise ApiError(method, path, status, answer)
        return answer

    def health(self) -> dict[str, Any]:
        """Return the health of each component."""
        return self.request("GET", "/monitor/health")

    def find_dag(self, dag_id: str) -> dict[str, Any] | None:
        """Return a DAG, or None where it has not been parsed yet."""
        try:
            return self.request("GET", f"/dags/{dag_id}")
        except ApiError as error:
            if error.status == 404:
                return None
            raise

    def import_errors(self) -> list[dict[str, Any]]:
        """Return what the DAG processor could not import."""
        return self.request("GET", "/importErrors")["import_errors"]

    def pause(self, dag_id: str, paused: bool = True) -> None:
        """Pause or unpause a DAG."""
        self.request("PATCH", f"/dags/{dag_id}", {"is_paused": paused})

    def trigger(
        self,
        dag_id: str,
        *,
        conf: Mapping[str, Any] | None = None,
        logical_date: str | None = None,
        run_id: str | None = None,
    ) -> str:
        """Start a run and return its id."""
        body: dict[str, Any] = {"logical_date": logical_date, "conf": dict(conf or {})}
        if run_id:
            body["dag_run_id"] = run_id
        return self.request("POST", f"/dags/{dag_id}/dagRuns", body)["dag_run_id"]

    @staticmethod
    def _run_path(dag_id: str, run_id: str) -> str:
        return f"/dags/{dag_id}/dagRuns/{quote(run_id, safe='')}"

    def runs(self, dag_id: str) -> list[dict[str, Any]]:
        """Return the runs of a DAG (at most 100)."""
        return self.request("GET", f"/dags/{dag_id}/dagRuns", limit=100)["dag_runs"]

    def run(self, dag_id: str, run_id: str) -> dict[str, Any]:
        """Return one run."""
        return self.request("GET", self._run_path(dag_id, run_id))

    def task_instances(self, dag_id: str, run_id: str) -> dict[str, dict[str, Any]]:
        """Return the task instances of a run by task id (the last one of a mapped task)."""
        answer = self.request("GET", f"{self._run_path(dag_id, run_id)}/taskInstances", limit=100)
        return {item["task_id"]: item for item in answer["task_instances"]}

    def task_instance(self, dag_id: str, run_id: str, task_id: str) -> dict[str, Any]:
        """Return one task instance."""
        return self.request("GET", f"{self._run_path(dag_id, run_id)}/taskInstances/{task_id}")

    def set_task_state(self, dag_id: str, run_id: str, task_id: str, state: str) -> None:
        """Mark a task instance ``failed``, ``success`` or ``skipped``, as the button does."""
        self.request(
            "PATCH", f"{self._run_path(dag_id, run_id)}/taskInstances/{task_id}", {"new_state": state}
        )

    def clear(self, dag_id: str, run_id: str, *task_ids: str, downstream: bool = False) -> None:
        """Clear task instances, so that they run again."""
        self.request(
            "POST",
            f"/dags/{dag_id}/clearTaskInstances",
            {
                "dry_run": False,
                "dag_run_id": run_id,
                "task_ids": list(task_ids),
                "only_failed": False,
                "include_downstream": downstream,
            },
        )

    def xcom(
        self, dag_id: str, run_id: str, task_id: str, key: str = "return_value", map_index: int = -1
    ) -> Any:
        """Return an XCom's value, or None where there is none."""
        path = f"{self._run_path(dag_id, run_id)}/taskInstances/{task_id}/xcomEntries/{quote(key)}"
        query = {"deserialize": "false", "stringify": "false", "map_index": map_index}
        try:
            return self.request("GET", path, **query)["value"]
        except ApiError as error:
            if error.status == 404:
                return None
            raise

    def links(self, dag_id: str, run_id: str, task_id: str) -> dict[str, str | None]:
        """Return the extra links of a task instance."""
        path = f"{self._run_path(dag_id, run_id)}/taskInstances/{task_id}/links"
        return self.request("GET", path)["extra_links"]

    def task_log(
        self, dag_id: str, run_id: str, task_id: str, try_number: int = 1, map_index: int = -1
    ) -> str:
        """Return a task's log as text, one event per line."""
        path = f"{self._run_path(dag_id, run_id)}/taskInstances/{task_id}/logs/{try_number}"
        content = self.request("GET", path, full_content="true", map_index=map_index)["content"]
        return "\n".join(_log_line(item) for item in content)

    def asset_events(self, **filters: Any) -> list[dict[str, Any]]:
        """Return asset events, newest first."""

        def events() -> list[list[dict[str, Any]]]:
            try:
                page = self.request("GET", "/assets/events", order_by="-timestamp", limit=100, **filters)
            except ApiError as error:
                # So Airflow 3.3.2 answers until a run that an event has created has a start date.
                if error.status == 500:
                    return []
                raise
            return [page["asset_events"]]

        return wait_until(events, what="the asset events to be shown")[0]

    def wait_for_run(
        self,
        dag_id: str,
        run_id: str,
        *,
        timeout: float = PATIENCE,
        progress: Callable[[dict[str, dict[str, Any]]], None] | None = None,
        interval: float = 0.5,
    ) -> str:
        """Wait until a run has ended and return its state; ``progress`` sees the task instances."""
        deadline = time.monotonic() + timeout
        while True:
            state = self.run(dag_id, run_id)["state"]
            if progress:
                progress(self.task_instances(dag_id, run_id))
            if state in TERMINAL_RUN_STATES:
                return state
            if time.monotonic() > deadline:
                raise StepError(f"Run {run_id} of {dag_id} is still {state} after {timeout:.0f} s.")
            time.sleep(interval)

    def wait_for_task(
        self, dag_id: str, run_id: str, task_id: str, *states: str, timeout: float = PATIENCE
    ) -> dict[str, Any]:
        """Wait until a task instance is in one of ``states`` and return it."""

        def reached() -> dict[str, Any] | None:
            instance = self.task_instances(dag_id, run_id).get(task_id)
            return instance if instance and instance["state"] in states else None

        what = f"{dag_id}.{task_id} to be {' or '.join(states)}"
        return wait_until(reached, timeout=timeout, what=what, interval=0.2)

    def run_url(self, dag_id: str, run_id: str) -> str:
        """Return the address of a run in the web interface."""
        return f"{self.base_url}/dags/{dag_id}/runs/{quote(run_id, safe='')}"


def _log_line(item: Any) -> str:
    if isinstance(item, str):
        return item
    details = item.get("error_detail") or []
    errors = [f"{one.get('exc_type')}: {one.get('exc_value')}" for one in details if isinstance(one, dict)]
    return " ".join(filter(None, [item.get("timestamp"), item.get("level"), item.get("event"), *errors]))
