"""Objects in whatever storage Airflow's ``ObjectStoragePath`` reaches: looked at, read, and published whole.

``gs://`` is served by the Google provider's file system where that is installed, else by a small one of our own
(extra ``gcs``).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import os
import shutil
import socket
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, BinaryIO, NamedTuple
from urllib.parse import urlsplit

from airflow_tuning_provider._errors import refusing_invalid_input
from airflow_tuning_provider.api.inputs import InvalidInputError
from airflow_tuning_provider.provider_info import DEFAULT_CONN_ID

_GCS = ("gs", "gcs")
_LOCAL = ("file", "local", "")
# An object appears there when its upload is complete; elsewhere a file grows under its name.
_WHOLE = (*_GCS, "s3", "s3a", "s3n", "abfs", "abfss", "az", "adl", "wasb", "wasbs", "oss", "memory")
_CHUNK = 1 << 20


class Stat(NamedTuple):
    """What is known of an object without reading it.

    :param bytes: its size.
    :param generation: Cloud Storage's generation.
    :param md5: its checksum, hexadecimal.
    :param version: changes whenever the object does.
    """

    bytes: int
    generation: str | None
    md5: str | None
    version: str


class Storage:
    """Reads and publishes objects.

    :param conn_id: Airflow connection for stores other than Google's, ``None`` for the store's own default.
    :param gcp_conn_id: Airflow connection for ``gs://``.
    :param impersonation_chain: service account to act as on ``gs://``, or a chain of them.
    """

    def __init__(
        self,
        conn_id: str | None = None,
        *,
        gcp_conn_id: str = DEFAULT_CONN_ID,
        impersonation_chain: str | Sequence[str] | None = None,
    ) -> None:
        self._conn_id = conn_id or None
        self._gcp_conn_id = gcp_conn_id
        self._impersonation_chain = impersonation_chain
        self._gcs: Any = None

    # -- looking and reading -------------------------------------------------------------------------

    def stat(self, uri: str) -> Stat | None:
        """Return what is known of an object, ``None`` if there is none.

        :param uri: where it is.
        """
        fs, path = self._place(uri)
        try:
            fs.invalidate_cache()
            info = fs.info(path)
        except FileNotFoundError:
            return None
        if info.get("type") == "directory":
            return None
        generation = info.get("generation")
        telling = (
            "generation",
            "etag",
            "ETag",
            "mtime",
            "LastModified",
            "updated",
            "last_modified",
            "ino",
            "size",
        )
        return Stat(
            bytes=int(info.get("size") or 0),
            generation=None if generation is None else str(generation),
            md5=_md5_of(info),
            version=json.dumps([str(info.get(key)) for key in telling]),
        )

    @contextmanager
    def open(self, uri: str) -> Iterator[BinaryIO]:
        """Open an object for reading.

        :param uri: where it is.
        """
        fs, path = self._place(uri)
        with fs.open(path, "rb") as stream:
            yield stream

    def read_json(self, uri: str) -> Any:
        """Return what a small object holds, ``None`` if there is none, or if it is no JSON.

        :param uri: where it is.
        """
        try:
            with self.open(uri) as stream:
                return json.loads(stream.read())
        except (FileNotFoundError, ValueError):
            return None

    def holds(self, uri: str, *, size: int, md5: str) -> bool:
        """Whether an object has this content already.

        :param uri: where it is.
        :param size: the content's size.
        :param md5: its checksum, hexadecimal.
        """
        seen = self.stat(uri)
        if seen is None or seen.bytes != size:
            return False
        if seen.md5 is not None:
            return seen.md5 == md5
        digest = hashlib.md5(usedforsecurity=False)
        with self.open(uri) as stream:
            while chunk := stream.read(_CHUNK):
                digest.update(chunk)
        return digest.hexdigest() == md5

    def is_still(self, uri: str, stored: Mapping[str, Any]) -> bool:
        """Whether an object is the one that a data set's manifest tells of.

        :param uri: where it is.
        :param stored: its generation, checksum and bytes.
        """
        seen = self.stat(uri)
        if seen is None or seen.bytes != stored.get("bytes"):
            return False
        if stored.get("generation") and seen.generation:
            return bool(seen.generation == stored["generation"])
        md5 = str(stored.get("checksum") or "").removeprefix("md5:")
        return not md5 or self.holds(uri, size=seen.bytes, md5=md5)

    # -- publishing ----------------------------------------------------------------------------------

    def publish(self, uri: str, content: IO[bytes]) -> Stat:
        """Write an object so that it appears whole or not at all.

        :param uri: where it goes.
        :param content: a file at its beginning.
        """
        fs, path = self._place(uri)
        protocol = urlsplit(uri).scheme
        if protocol in _LOCAL:
            _publish_locally(Path(path), content)
        elif protocol in _WHOLE:
            _write(fs, path, content)
        else:
            folder, _, name = path.rpartition("/")
            part = f"{folder}/.{name}.{socket.gethostname()}.{os.getpid()}.part"
            fs.makedirs(folder, exist_ok=True)
            _write(fs, part, content)
            fs.mv(part, path)
        seen = self.stat(uri)
        if seen is None:
            raise FileNotFoundError(f"{uri} was written, but is not there")
        return seen

    # -- finding the file system -----------------------------------------------------------------------

    def path(self, uri: str) -> Any:
        """Return an ``ObjectStoragePath`` whose file system is there.

        :param uri: what it is of.
        :raises TuningInvalidInputError: for a store that nothing installed has a file system for.
        """
        from airflow.sdk.io import ObjectStoragePath, attach, has_fs

        scheme = urlsplit(uri).scheme
        google = scheme in _GCS
        with refusing_invalid_input():
            if not scheme:
                raise InvalidInputError(
                    "uri", uri, "give a whole URI, such as gs://bucket/file or file:///path"
                )
            if google and not has_fs(scheme):
                attach(scheme, self._gcp_conn_id).fs = self._own_gcs()
            try:
                path = ObjectStoragePath(uri, conn_id=self._gcp_conn_id if google else self._conn_id)
                path.fs  # noqa: B018 - found now, or never
            except ValueError:
                raise InvalidInputError(
                    "uri", uri, f"no installed Airflow provider has a file system for {scheme}://"
                ) from None
        return path

    def _place(self, uri: str) -> tuple[Any, str]:
        path = self.path(uri)
        return path.fs, str(path.path)

    def _own_gcs(self) -> Any:
        if self._gcs is None:
            try:
                from airflow_tuning_provider.hooks._gcs import GcsFileSystem
            except ImportError as error:
                raise InvalidInputError(
                    "uri", "gs://", f"install airflow-tuning-provider[gcs] for Cloud Storage ({error})"
                ) from None
            self._gcs = GcsFileSystem(self._gcp_conn_id, self._impersonation_chain)
        return self._gcs


def _md5_of(info: Any) -> str | None:
    given = info.get("md5Hash")
    with suppress(ValueError, TypeError, binascii.Error):
        return base64.b64decode(given, validate=True).hex() or None
    return None


def _write(fs: Any, path: str, content: IO[bytes]) -> None:
    target = fs.open(path, "wb")
    try:
        shutil.copyfileobj(content, target, _CHUNK)
    except BaseException:
        # Closed, it would publish what has been written so far.
        if hasattr(target, "discard"):
            with suppress(Exception):
                target.discard()
        target.closed = True
        raise
    target.close()


def _publish_locally(path: Path, content: IO[bytes]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_leftovers(path)
    part = path.with_name(f".{path.name}.{socket.gethostname()}.{os.getpid()}.part")
    try:
        with part.open("wb") as target:
            shutil.copyfileobj(content, target, _CHUNK)
            target.flush()
            os.fsync(target.fileno())
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def _remove_leftovers(path: Path) -> None:
    """Remove what processes of this host left behind that were killed while they wrote the same file."""
    host = socket.gethostname()
    for part in path.parent.glob(f".{path.name}.{host}.*.part"):
        pid = part.name.removesuffix(".part").rpartition(".")[2]
        if pid.isdigit() and not _is_alive(int(pid)):
            part.unlink(missing_ok=True)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def anonymous_file() -> IO[bytes]:
    """Return a temporary file that vanishes with the process."""
    return tempfile.TemporaryFile()
