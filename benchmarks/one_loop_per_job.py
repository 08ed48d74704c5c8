"""What our way to wait is measured beside: the way most providers wait, and a trigger that does nothing."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

from airflow.triggers.base import BaseTrigger, TriggerEvent


class OneLoopPerJobTrigger(BaseTrigger):
    """Looks at one job every ``poll_interval`` seconds with a blocking client in ``asyncio.to_thread``."""

    def __init__(self, tuning_job_name: str, poll_interval: float, end_time: float, gcp_conn_id: str) -> None:
        super().__init__()
        self.tuning_job_name = tuning_job_name
        self.poll_interval = poll_interval
        self.end_time = end_time
        self.gcp_conn_id = gcp_conn_id

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class path and the arguments to rebuild this trigger with."""
        return f"{__name__}.{type(self).__name__}", {
            "tuning_job_name": self.tuning_job_name,
            "poll_interval": self.poll_interval,
            "end_time": self.end_time,
            "gcp_conn_id": self.gcp_conn_id,
        }

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Poll until the job has ended."""
        from airflow_tuning_provider.hooks.tuning_job import TuningJobHook

        hook = TuningJobHook(self.gcp_conn_id)
        while time.time() < self.end_time:
            job = await asyncio.to_thread(hook.get_tuning_job, self.tuning_job_name)
            if job["state"] not in ("JOB_STATE_PENDING", "JOB_STATE_RUNNING"):
                yield TriggerEvent({"status": "ended", "name": self.tuning_job_name})
                return
            await asyncio.sleep(self.poll_interval)
        yield TriggerEvent({"status": "timeout", "name": self.tuning_job_name})


class EmptyTrigger(BaseTrigger):
    """Waits for nothing: what is left is Airflow's own part of a trigger.

    :param seconds: when to end; default: never.
    """

    def __init__(self, seconds: float | None = None) -> None:
        super().__init__()
        self.seconds = seconds

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class path and the arguments to rebuild this trigger with."""
        return f"{__name__}.{type(self).__name__}", {"seconds": self.seconds}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Wait until the time is over, or until it is cancelled."""
        if self.seconds is None:
            await asyncio.get_running_loop().create_future()
        else:
            await asyncio.sleep(self.seconds)
        yield TriggerEvent({})
