"""A storage emulator in a process of its own."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import quote

_START_SECONDS = 30.0


class StorageEmulator:
    """``gcp-storage-emulator`` on a free port, in memory, with one bucket; it ends with this process at the latest.

    :param bucket: the bucket's name.
    """

    def __init__(self, bucket: str = "test-bucket") -> None:
        self.bucket = bucket
        self.url = ""
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> StorageEmulator:
        directory = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="storage-emulator-")))
        port_file, log = directory / "port", directory / "log"
        package = "airflow_tuning_provider"
        command = [sys.executable, "-m", f"{package}.emulator.tethered", f"{package}.testing._storage_server"]
        with log.open("w") as output:
            process = subprocess.Popen(
                [*command, str(port_file)],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        self._stack.callback(process.communicate)
        self._stack.callback(process.terminate)
        deadline = time.monotonic() + _START_SECONDS
        while not port_file.exists():
            if process.poll() is not None or time.monotonic() > deadline:
                text = log.read_text()
                self._stack.close()
                raise RuntimeError(f"The storage emulator did not start: {text.strip()}")
            time.sleep(0.02)
        self.url = f"http://127.0.0.1:{port_file.read_text()}"
        self.reset()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def put(self, name: str, content: bytes | str | Iterable[Mapping[str, Any] | str]) -> str:
        """Store an object.

        :param name: its name in the bucket.
        :param content: its content, or the lines of a JSON Lines file; what is no text is encoded as JSON.
        :return: its ``gs://`` URI.
        """
        if not isinstance(content, (bytes, str)):
            content = "".join(f"{line if isinstance(line, str) else json.dumps(line)}\n" for line in content)
        data = content.encode() if isinstance(content, str) else content
        path = f"/upload/storage/v1/b/{self.bucket}/o?uploadType=media&name={quote(name, safe='')}"
        self._send("POST", path, data, "application/octet-stream")
        return f"gs://{self.bucket}/{name}"

    def reset(self) -> None:
        """Delete all objects."""
        self._send("GET", "/wipe", None)
        self._send("POST", "/storage/v1/b?project=test-project", json.dumps({"name": self.bucket}).encode())

    def _send(self, method: str, path: str, data: bytes | None, kind: str = "application/json") -> None:
        request = urllib.request.Request(self.url + path, data, method=method)  # noqa: S310
        request.add_header("Content-Type", kind)
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(request, timeout=30):
            pass
