"""A small fsspec file system over google-cloud-storage, for where no other serves ``gs://``.

A read takes a snapshot of the object first, and a write uploads it when it is closed: neither sees half of one.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import IO, Any

from fsspec import AbstractFileSystem
from google.api_core import exceptions as google_exceptions
from google.cloud import storage

from airflow_tuning_provider.hooks._base import ConnectedHook

_TIMEOUT = 300


class GcsFileSystem(AbstractFileSystem):
    """Cloud Storage with the credentials of an Airflow connection.

    :param gcp_conn_id: the connection.
    :param impersonation_chain: service account to act as, or a chain of them.
    """

    protocol = ("gs", "gcs")
    cachable = False

    def __init__(
        self, gcp_conn_id: str, impersonation_chain: str | Sequence[str] | None = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)  # type: ignore[no-untyped-call]
        self._gcp_conn_id = gcp_conn_id
        self._impersonation_chain = impersonation_chain

    @cached_property
    def _client(self) -> storage.Client:
        if os.environ.get("STORAGE_EMULATOR_HOST"):
            from google.auth.credentials import AnonymousCredentials

            return storage.Client(project="emulator", credentials=AnonymousCredentials())
        hook = ConnectedHook(self._gcp_conn_id, impersonation_chain=self._impersonation_chain)
        return storage.Client(project=hook.settings.project, credentials=hook.credentials)

    def _split(self, path: str) -> tuple[str, str]:
        bucket, _, name = str(self._strip_protocol(path)).partition("/")  # type: ignore[no-untyped-call]
        return bucket, name

    def info(self, path: str, **kwargs: Any) -> dict[str, Any]:
        """Return what is known of an object, or of a prefix that objects have."""
        bucket, name = self._split(path)
        with _as_os_errors(path):
            blob = self._client.bucket(bucket).get_blob(name, timeout=_TIMEOUT) if name else None
            if blob is None:
                prefix = f"{name.rstrip('/')}/" if name else ""
                below = self._client.list_blobs(bucket, prefix=prefix, max_results=1, timeout=_TIMEOUT)
                if any(True for _ in below):
                    return {"name": f"{bucket}/{name}", "type": "directory", "size": 0}
        if blob is None:
            raise FileNotFoundError(path)
        return {
            "name": f"{bucket}/{name}",
            "type": "file",
            "size": blob.size,
            "generation": None if blob.generation is None else str(blob.generation),
            "md5Hash": blob.md5_hash,
            "crc32c": blob.crc32c,
            "etag": blob.etag,
        }

    def ls(self, path: str, detail: bool = True, **kwargs: Any) -> list[Any]:
        """Return the objects below a prefix."""
        bucket, name = self._split(path)
        prefix = f"{name.rstrip('/')}/" if name else ""
        with _as_os_errors(path):
            blobs = list(self._client.list_blobs(bucket, prefix=prefix, timeout=_TIMEOUT))
        found = [{"name": f"{bucket}/{blob.name}", "type": "file", "size": blob.size} for blob in blobs]
        return found if detail else [item["name"] for item in found]

    def rm_file(self, path: str) -> None:
        """Delete an object."""
        bucket, name = self._split(path)
        with _as_os_errors(path):
            self._client.bucket(bucket).blob(name).delete(timeout=_TIMEOUT)

    def _open(self, path: str, mode: str = "rb", *_: Any, **kwargs: Any) -> Any:
        bucket, name = self._split(path)
        if mode == "rb":
            file = tempfile.TemporaryFile()  # noqa: SIM115 - it is the answer
            with _as_os_errors(path):
                blob = self._client.bucket(bucket).get_blob(name, timeout=_TIMEOUT)
                if blob is None:
                    raise FileNotFoundError(path)
                blob.download_to_file(file, timeout=_TIMEOUT)
            file.seek(0)
            return file
        if mode == "wb":
            return _Upload(self._client.bucket(bucket).blob(name), path)
        raise NotImplementedError(f"{path} cannot be opened with mode {mode!r}")


class _Upload:
    """A file that is uploaded when it is closed."""

    def __init__(self, blob: storage.Blob, path: str) -> None:
        self._blob = blob
        self._path = path
        self._file: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115
        self.closed = False

    def write(self, data: bytes) -> int:
        return self._file.write(data)

    def discard(self) -> None:
        self.closed = True
        self._file.close()

    def close(self) -> None:
        if self.closed:
            return
        self.closed = True
        with self._file as file, _as_os_errors(self._path):
            file.seek(0)
            self._blob.upload_from_file(
                file, content_type="application/octet-stream", timeout=_TIMEOUT, checksum="md5"
            )

    def __enter__(self) -> _Upload:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        self.close() if kind is None else self.discard()


@contextmanager
def _as_os_errors(path: str) -> Iterator[None]:
    try:
        yield
    except google_exceptions.NotFound as error:
        raise FileNotFoundError(f"{path}: {error}") from error
    except (google_exceptions.Forbidden, google_exceptions.Unauthorized) as error:
        raise PermissionError(f"{path}: {error}") from error
    except google_exceptions.GoogleAPIError as error:
        raise OSError(f"{path}: {error}") from error
