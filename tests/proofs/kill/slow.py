"""A trigger that goes on after its event: Airflow 3.3 then calls its ``on_kill``, although nobody killed it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from airflow.triggers.base import TriggerEvent

from airflow_tuning_provider.operators.tuning_job import CreateTuningJobOperator
from airflow_tuning_provider.sensors.tuning_job import TuningJobSensor
from airflow_tuning_provider.triggers.tuning_job import TuningJobTrigger


class SlowTrigger(TuningJobTrigger):
    """Ends six seconds after its event."""

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return this class's own path."""
        return "tests.proofs.kill.slow.SlowTrigger", super().serialize()[1]

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Fire, then dawdle."""
        async for event in super().run():
            yield event
        await asyncio.sleep(6)


class SlowCreate(CreateTuningJobOperator):
    """Waits with a slow trigger."""

    def defer(self, *, trigger: Any, **kwargs: Any) -> None:  # type: ignore[override]
        """Defer with a slow trigger instead."""
        super().defer(trigger=SlowTrigger(**trigger.serialize()[1]), **kwargs)


class SlowSensor(TuningJobSensor):
    """Waits with a slow trigger."""

    def defer(self, *, trigger: Any, **kwargs: Any) -> None:  # type: ignore[override]
        """Defer with a slow trigger instead."""
        super().defer(trigger=SlowTrigger(**trigger.serialize()[1]), **kwargs)
