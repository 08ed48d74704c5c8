"""Answers on disk, and in a store that cannot append."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from airflow_tuning_provider.evaluation import journal as module
from airflow_tuning_provider.evaluation.journal import Journal, publish, publish_file


class Bucket:
    """A path of an object store over a local directory: it cannot append, and objects appear when they are whole."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.name = path.name

    def __truediv__(self, name: str) -> Bucket:
        return Bucket(self.path / name)

    def exists(self) -> bool:
        return self.path.exists()

    def iterdir(self) -> Any:
        return map(Bucket, self.path.iterdir())

    def open(self, mode: str) -> Any:
        assert mode in ("rb", "wb"), "an object store has no other modes"
        self.path.parent.mkdir(parents=True, exist_ok=True)
        return self.path.open(mode)


def keys(directory: Any) -> list[str]:
    return [entry["key"] for entry in Journal(directory).read()]


def test_what_was_added_is_there_without_a_close(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "a" / "b")
    assert keys(tmp_path / "a" / "b") == []
    journal.add({"key": "1", "text": "é\ud800"})
    assert keys(tmp_path / "a" / "b") == ["1"]
    journal.add({"key": "2"})
    assert keys(tmp_path / "a" / "b") == ["1", "2"]
    journal.close()


@pytest.mark.parametrize(
    "torn", [b'{"key": "3"', b'{"key": "3"}', b"\xff\xfe\n", b"[]\n", b'{"no": 1}\n', b"\n"]
)
def test_a_torn_line_is_left_out_and_never_written_on(tmp_path: Path, torn: bytes) -> None:
    first = Journal(tmp_path)
    first.add({"key": "1"})
    first.close()
    (file,) = tmp_path.iterdir()
    file.write_bytes(file.read_bytes() + torn)
    second = Journal(tmp_path)
    second.add({"key": "2"})
    second.close()
    assert keys(tmp_path) == ["1", "2"]


def test_parts_where_nothing_can_be_appended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PART_ANSWERS", 3)
    bucket = Bucket(tmp_path / "x")
    journal = Journal(bucket)
    for key in "1234567":
        journal.add({"key": key})
    assert keys(bucket) == list("123456")
    journal.close()
    assert keys(bucket) == list("1234567")
    assert len(list(bucket.iterdir())) == 3
    journal.close()
    assert len(list(bucket.iterdir())) == 3


def test_a_part_after_so_many_seconds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PART_SECONDS", 0.0)
    journal = Journal(Bucket(tmp_path / "x"))
    journal.add({"key": "1"})
    assert keys(Bucket(tmp_path / "x")) == ["1"]


def test_a_file_is_published_whole_or_not_at_all(tmp_path: Path) -> None:
    target = tmp_path / "new" / "report.html"
    publish(target, b"one")
    publish(target, b"two")
    assert target.read_bytes() == b"two"
    with pytest.raises(FileNotFoundError):
        publish_file(target, tmp_path / "missing")
    assert target.read_bytes() == b"two"
    source = tmp_path / "source"
    source.write_bytes(b"three")
    publish_file(target, source)
    assert target.read_bytes() == b"three"
    assert [path.name for path in target.parent.iterdir()] == ["report.html"]
    publish_file(Bucket(target), source)
    publish(Bucket(tmp_path / "b" / "c"), b"x")
    assert (tmp_path / "b" / "c").read_bytes() == b"x"
