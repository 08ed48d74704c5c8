"""Operations on models and endpoints that end by themselves after a while."""

from __future__ import annotations

import asyncio
from typing import Any

from airflow_tuning_provider.emulator.clock import now, rfc3339
from airflow_tuning_provider.emulator.errors import ApiError, not_found
from airflow_tuning_provider.emulator.names import new_id, project_number
from airflow_tuning_provider.emulator.operations import LONGEST_WAIT, OPERATIONS_ALIAS, POLL, TYPES, seconds
from airflow_tuning_provider.emulator.store import Store

# At speed 1.
_SECONDS = 30.0


class LongRunning:
    """What undeployments and deletions answer with."""

    def __init__(self, store: Store, speed: float) -> None:
        self._store = store
        self.seconds = _SECONDS / speed
        """How long each takes."""

    def start(self, resource: str, version: str, metadata: str, response: str) -> dict[str, Any]:
        """Return a new operation on a resource, which is done after :attr:`seconds`.

        :param metadata: the message of its metadata
        :param response: the type of its response, ``google.protobuf.Empty`` or a message
        """
        id_, created = new_id(), now()
        self._store.save_operation(
            id_,
            {
                "name": f"{resource}/operations/{id_}",
                "job": "",
                "version": version,
                "created": created,
                "ends": created + self.seconds,
                "metadata": metadata,
                "response": response,
            },
        )
        return self._resource(self._store.operations[id_], version)

    def get(self, project: str, location: str, below: str, id_: str, version: str) -> dict[str, Any]:
        """Return an operation.

        :param below: the collection and the id of the resource that it is on
        """
        name = f"projects/{project_number(project)}/locations/{location}/{below}/operations/{id_}"
        record = self._store.operations.get(id_)
        if record is None or record["name"] != name:
            raise _no_operation(name)
        return self._resource(record, version)

    async def wait(
        self, project: str, location: str, below: str, id_: str, timeout: str, version: str
    ) -> dict[str, Any]:
        """Return the operation when it is done, or after the time-out as it is then."""
        deadline = now() + min(seconds(timeout), LONGEST_WAIT)
        resource = self.get(project, location, below, id_, version)
        while not resource.get("done") and now() < deadline:
            await asyncio.sleep(POLL)
            resource = self.get(project, location, below, id_, version)
        return resource

    def _resource(self, record: dict[str, Any], version: str) -> dict[str, Any]:
        if version == OPERATIONS_ALIAS:
            version = record["version"]
        done = now() >= record["ends"]
        updated = record["ends"] if done else record["created"]
        resource: dict[str, Any] = {
            "name": record["name"],
            "metadata": {
                "@type": f"{TYPES}{version}.{record['metadata']}",
                "genericMetadata": {
                    "createTime": rfc3339(record["created"]),
                    "updateTime": rfc3339(updated),
                },
            },
        }
        if done:
            known = record["response"].startswith("google.")
            kind = (
                f"type.googleapis.com/{record['response']}"
                if known
                else f"{TYPES}{version}.{record['response']}"
            )
            resource |= {"done": True, "response": {"@type": kind}}
        return resource


def _no_operation(name: str) -> ApiError:
    return not_found(f"The Operation does not exist: {name}")
