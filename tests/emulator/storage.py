"""Data sets in a storage emulator, in the process of the tests."""

from __future__ import annotations

import json
from typing import Any

from gcp_storage_emulator.server import create_server
from google.auth.credentials import AnonymousCredentials
from google.cloud import storage

BUCKET = "tuning-data"


class Storage:
    """A storage server on a free port, with one bucket."""

    def __init__(self) -> None:
        self._server = create_server("127.0.0.1", 0, in_memory=True)
        self._server.start()
        host, port = self._server._api._httpd.server_address
        self.url = f"http://{host}:{port}"
        options = {"api_endpoint": self.url}
        client = storage.Client("p", credentials=AnonymousCredentials(), client_options=options)
        self._bucket = client.create_bucket(BUCKET)

    def put(self, name: str, content: Any) -> str:
        """Store lines (encoded as JSON unless they are strings), and return the URI."""
        if isinstance(content, list):
            lines = (
                line if isinstance(line, str) else json.dumps(line, ensure_ascii=False) for line in content
            )
            content = "\n".join(lines) + "\n"
        self._bucket.blob(name).upload_from_string(content)
        return f"gs://{BUCKET}/{name}"

    def lines(self, uri: str) -> list[str]:
        """Return the lines of an object."""
        blob = self._bucket.blob(uri.removeprefix(f"gs://{BUCKET}/"))
        return blob.download_as_bytes().decode().splitlines()

    def stop(self) -> None:
        self._server.stop()


def turn(role: str, text: str) -> dict[str, Any]:
    return {"role": role, "parts": [{"text": text}]}


def example(question: str, answer: str, **more: Any) -> dict[str, Any]:
    return {"contents": [turn("user", question), turn("model", answer)], **more}


def preference(question: str, good: str, bad: str) -> dict[str, Any]:
    return {
        "contents": [turn("user", question)],
        "completions": [
            {"score": 0.0, "completion": turn("model", bad)},
            {"score": 1.0, "completion": turn("model", good)},
        ],
    }
