"""The operator and the trigger under test: the real ones, which stop at one point and wait to be killed.

Nothing is re-implemented. Real methods are wrapped; the first attempt of a task that comes to its cell's point
writes a marker with its process id and waits until it is killed or released. Later attempts do not stop.
"""

from __future__ import annotations

import asyncio
import http.client
import os
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NoReturn

from airflow.triggers.base import TriggerEvent

from airflow_tuning_provider._tasks.submission import Submission
from airflow_tuning_provider.hooks.tuning_job import TuningJobHook
from airflow_tuning_provider.operators.tuning_job import CreateTuningJobOperator
from airflow_tuning_provider.triggers.tuning_job import TuningJobTrigger
from tests.proofs.chaos.points import Point, Target

DIRECTORY = "CHAOS_DIRECTORY"
"""Environment variable with the directory that tasks and the killer meet in."""
RELEASED = "released"
_LOOK_EVERY = 0.05


@dataclass(frozen=True)
class Place:
    """Where one task instance stops.

    :param run_id: its run; a directory of markers for each.
    :param map_index: its number in the run.
    :param point: the point at which to stop.
    """

    run_id: str
    map_index: int
    point: str

    @property
    def _directory(self) -> Path:
        return Path(os.environ[DIRECTORY]) / self.run_id

    def arrive(self, point: Point) -> bool:
        """Write the marker if this is the point, for the first time; return whether it was."""
        if point.value != self.point:
            return False
        marker = self._directory / str(self.map_index)
        if marker.exists():
            return False
        draft = marker.with_suffix(f".{os.getpid()}")
        draft.write_text(str(os.getpid()))
        try:
            os.link(draft, marker)
        except FileExistsError:
            return False
        finally:
            draft.unlink()
        return True

    def _waits(self) -> bool:
        return self._directory.exists() and not (self._directory / RELEASED).exists()

    def pause(self, point: Point) -> None:
        """Stop here if this is the point, for the first time."""
        if self.arrive(point):
            while self._waits():
                time.sleep(_LOOK_EVERY)

    async def pause_trigger(self, point: Point) -> None:
        """Stop a trigger, and no other trigger."""
        if self.arrive(point):
            while self._waits():
                await asyncio.sleep(_LOOK_EVERY)


def _wrap(
    owner: Any,
    name: str,
    *,
    before: Callable[..., object] = lambda *_: None,
    after: Callable[..., object] = lambda *_: None,
) -> None:
    """Call something with the arguments of a method before it is called, or after it has returned."""
    real = getattr(owner, name)

    def wrapped(*args: Any, **kwargs: Any) -> Any:
        before(*args)
        result = real(*args, **kwargs)
        after(*args)
        return result

    setattr(owner, name, wrapped)


class ChaosTrigger(TuningJobTrigger):
    """The trigger, which stops at a point."""

    def __init__(self, *, place: dict[str, Any], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.place = place

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return this class's path and the arguments to rebuild it with."""
        return f"{__name__}.ChaosTrigger", {**super().serialize()[1], "place": self.place}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Wait as the real trigger does."""
        place = Place(**self.place)
        await place.pause_trigger(Point.DEFERRED)
        place.arrive(Point.POLLING)
        async for event in super().run():
            await place.pause_trigger(Point.EVENT_FIRED)
            yield event


class ChaosOperator(CreateTuningJobOperator):
    """The operator, which stops at a point.

    :param point: where to stop.
    :param target: what is going to be killed meanwhile.
    """

    def __init__(self, *, point: str, target: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.point = point
        self.target = target

    def execute(self, context: Any) -> Any:
        """Run the task."""
        self._instrument(context)
        return super().execute(context)

    def execute_complete(self, context: Any, event: dict[str, Any]) -> Any:
        """Resume the task."""
        self._instrument(context).pause(Point.RESUMING)
        return super().execute_complete(context, event)

    def _instrument(self, context: Any) -> Place:
        """Wrap what is not ours; this process runs one task and ends."""
        from airflow.sdk.execution_time import task_runner

        place = self._place = Place(context["ti"].run_id, context["ti"].map_index, self.point)

        def sent(connection: http.client.HTTPConnection) -> None:
            if connection._method == "POST":  # type: ignore[attr-defined]
                place.pause(Point.REQUEST_SENT)

        def pushed(_: Any, key: str, *__: Any) -> None:
            points = {"tuning_job_name": Point.NAME_RECORDED, "return_value": Point.RESULT_STORED}
            if key in points:
                place.pause(points[key])

        def lost(task: ChaosOperator, *_: Any) -> None:
            if task.attempt.sent is not None:
                place.pause(Point.RESPONSE_LOST)

        _wrap(http.client.HTTPConnection, "getresponse", before=sent)
        _wrap(task_runner, "_xcom_push", after=pushed)
        _wrap(Submission, "_look", before=lambda *_: place.pause(Point.BEFORE_LOOKUP))
        _wrap(Submission, "_look", after=lambda *_: place.pause(Point.AFTER_LOOKUP))
        _wrap(ChaosOperator, "send", after=lambda *_: place.pause(Point.AFTER_RESPONSE))
        _wrap(ChaosOperator, "pause", before=lost)
        _wrap(TuningJobHook, "wait_until_ended", before=lambda *_: place.arrive(Point.POLLING))
        return place

    def defer(self, *, trigger: Any, **kwargs: Any) -> NoReturn:  # type: ignore[override]
        """Defer with a trigger that stops."""
        if self.target == Target.TASK.value:
            self._place.pause(Point.DEFERRED)
        if isinstance(trigger, TuningJobTrigger) and trigger.name:
            trigger = ChaosTrigger(**trigger.serialize()[1], place=asdict(self._place))
        super().defer(trigger=trigger, **kwargs)
