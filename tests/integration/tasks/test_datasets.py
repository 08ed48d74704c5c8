"""PrepareTuningDatasetOperator and ValidateTuningDatasetOperator, on real files and a real storage server."""

from __future__ import annotations

import csv
import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from airflow_tuning_provider import exceptions as errors
from airflow_tuning_provider._compat import AirflowSkipException
from airflow_tuning_provider.hooks import storage as storage_module
from airflow_tuning_provider.operators.datasets import (
    PrepareTuningDatasetOperator,
    ValidateTuningDatasetOperator,
)
from airflow_tuning_provider.operators.tuning_job import CreateTuningJobOperator
from tests.emulator.storage import BUCKET, Storage
from tests.integration.tasks.conftest import TaskInstance, is_permanent

ROWS = [{"text": f"Message {i}, with a comma", "label": ("praise", "complaint")[i % 2]} for i in range(120)]


@pytest.fixture(scope="module")
def cloud() -> Iterator[Storage]:
    storage = Storage()
    yield storage
    storage.stop()


@pytest.fixture
def bucket(cloud: Storage, monkeypatch: pytest.MonkeyPatch) -> Storage:
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", cloud.url)
    return cloud


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "rows.csv"
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, ["text", "label"])
        writer.writeheader()
        writer.writerows(ROWS)
    return path


def prepare(source: Any, destination: Any, **kwargs: Any) -> PrepareTuningDatasetOperator:
    given = {"task_id": "prepare", "source": str(source), "destination": str(destination), **kwargs}
    for key in ("source", "destination"):
        if given[key].startswith("/"):
            given[key] = f"file://{given[key]}"
    return PrepareTuningDatasetOperator(**given)


def validate(path: Any, **kwargs: Any) -> ValidateTuningDatasetOperator:
    uri = f"file://{path}" if str(path).startswith("/") else str(path)
    return ValidateTuningDatasetOperator(task_id="validate", training_dataset_uri=uri, **kwargs)


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_csv_becomes_three_sets_and_a_manifest(source: Path, tmp_path: Path, ti: TaskInstance) -> None:
    out = tmp_path / "out"
    result = ti.run(prepare(source, out, system_instruction="Sort it."))
    json.dumps(result)
    # So that prepare.output["training_dataset_uri"] works.
    assert prepare(source, out).multiple_outputs
    folder = f"file://{out}/{result['content_hash'][:16]}"
    assert result["training_dataset_uri"] == f"{folder}/train.jsonl"
    assert result["validation_dataset_uri"] == f"{folder}/validation.jsonl"
    assert result["held_out_dataset_uri"] == f"{folder}/held_out.jsonl"
    assert sum(result["counts"].values()) == len(ROWS)
    assert min(result["counts"].values()) > 0
    assert result["dropped"] == {}
    assert {sum(counts.values()) for counts in result["classes"].values()} == set(result["counts"].values())
    for split, count in result["counts"].items():
        path = Path(f"{folder}/{split}.jsonl".removeprefix("file://"))
        assert len(path.read_bytes().splitlines()) == count
        assert result["objects"][f"file://{path}"]["bytes"] == path.stat().st_size
    kept = json.loads(Path(result["manifest_uri"].removeprefix("file://")).read_text())
    assert kept.pop("published_by")["task_id"] == ti.task_id
    assert kept == result
    # What was prepared is valid, and the two agree on its tokens.
    checked = ti.run(validate(out / result["content_hash"][:16] / "train.jsonl"))
    assert checked["counts"]["train"] == result["counts"]["train"]
    assert checked["tokens"] == result["tokens"]
    assert checked["problems"] == {"errors": 0, "warnings": 0}


def test_unchanged_data_upload_nothing(
    source: Path, bucket: Storage, ti: TaskInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    operator = prepare(source, f"gs://{BUCKET}/unchanged")
    first = ti.run(operator)
    for stored in first["objects"].values():
        assert stored["generation"]
        assert stored["checksum"].startswith("md5:")
    uploaded: list[Any] = []
    publish = storage_module.Storage.publish
    monkeypatch.setattr(
        storage_module.Storage,
        "publish",
        lambda self, uri, content: (uploaded.append(uri), publish(self, uri, content))[1],
    )
    second = ti.retry().run(operator)
    assert uploaded == []
    assert second == {**first, "unchanged": True}
    # A damaged object is mended.
    bucket.put(first["training_dataset_uri"].removeprefix(f"gs://{BUCKET}/"), "something else")
    third = ti.retry().run(operator)
    assert first["training_dataset_uri"] in uploaded
    assert not third["unchanged"]
    assert third["content_hash"] == first["content_hash"]


def test_skip_if_unchanged_skips_other_runs_but_not_a_retry(source: Path, tmp_path: Path) -> None:
    operator = prepare(source, tmp_path / "out", skip_if_unchanged="true")
    monday = TaskInstance(run_id="monday")
    assert not monday.run(operator)["unchanged"]
    assert monday.retry().run(operator)["unchanged"]
    with pytest.raises(AirflowSkipException):
        TaskInstance(run_id="tuesday").run(operator)
    with source.open("a") as file:
        file.write("Something new,praise\n")
    assert not TaskInstance(run_id="wednesday").run(operator)["unchanged"]


def test_several_packed_sources_of_another_format(bucket: Storage, tmp_path: Path, ti: TaskInstance) -> None:
    chats = [
        {"messages": [{"role": "user", "content": f"Hi {i}"}, {"role": "assistant", "content": f"Ho {i}"}]}
        for i in range(40)
    ]
    uri = bucket.put("openai.jsonl", chats[:20])
    packed = tmp_path / "more.jsonl.gz"
    packed.write_bytes(gzip.compress(b"".join(json.dumps(chat).encode() + b"\n" for chat in chats[20:])))
    operator = prepare("", f"gs://{BUCKET}/chats")
    operator.source = json.dumps([uri, f"file://{packed}"])
    operator.split = '{"train": "1"}'
    result = ti.run(operator)
    assert result["counts"] == {"train": 40, "validation": 0, "held_out": 0}
    assert result["validation_dataset_uri"] is None
    assert result["sources"][uri]["generation"]


def test_broken_rows_fail_the_task_and_publish_nothing_but_the_report(
    source: Path, tmp_path: Path, ti: TaskInstance
) -> None:
    with source.open("a") as file:
        file.write("only one cell\n" * 60)
    out = tmp_path / "out"
    with pytest.raises(errors.TuningInvalidInputError) as refused:
        ti.run(prepare(source, out))
    assert is_permanent(refused.value)
    assert f"file://{source}:122: error: the row has 1 cells, the header 2" in str(refused.value)
    assert "… and 10 more." in str(refused.value)
    assert list(files(out)) == ["problems.jsonl"]
    report = [json.loads(line) for line in (out / "problems.jsonl").read_text().splitlines()]
    assert [item["line"] for item in report] == list(range(122, 182))
    result = ti.run(prepare(source, out, on_invalid="drop"))
    assert result["dropped"] == {"ragged": 60}
    assert result["report_uri"] == f"file://{out}/{result['content_hash'][:16]}/problems.jsonl"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("cut.csv.gz", gzip.compress(b"text,label\n" + b"a,b\n" * 5000)[:-9]),
        ("quote.csv", b'text,label\na,b\n"c,d\n' + b"e,f\n" * 10),
        ("header.csv", b"text,text\na,b\n"),
        ("half.jsonl", json.dumps(ROWS[0]).encode("utf-16")[:-1]),
    ],
    ids=["gzip", "quote", "header", "utf-16"],
)
def test_a_file_that_cannot_be_read_to_its_end_is_never_done_without(
    tmp_path: Path, ti: TaskInstance, name: str, content: bytes
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(errors.TuningInvalidInputError, match="cannot be read to its end"):
        ti.run(prepare(tmp_path / name, tmp_path / "out", on_invalid="drop"))


def test_an_object_that_changes_while_it_is_read(source: Path, tmp_path: Path, ti: TaskInstance) -> None:
    def check(example: Any) -> None:
        source.write_text("text,label\nother,praise\n")

    out = tmp_path / "out"
    with pytest.raises(errors.TuningUnavailableError, match="changed while it was read") as refused:
        ti.run(prepare(source, out, check=check))
    assert not is_permanent(refused.value)
    assert not out.exists()


def test_an_object_of_the_cloud_that_changes_while_it_is_read(bucket: Storage, ti: TaskInstance) -> None:
    uri = bucket.put("changing.jsonl", ROWS)

    def check(example: Any) -> None:
        bucket.put("changing.jsonl", [*ROWS[1:], ROWS[0]])

    with pytest.raises(errors.TuningUnavailableError, match="changed while it was read"):
        ti.run(prepare(uri, f"gs://{BUCKET}/changing", check=check))


def test_what_a_user_s_check_leaves_out(source: Path, tmp_path: Path, ti: TaskInstance) -> None:
    def check(example: Any) -> str | None:
        return "a name" if "7" in example["contents"][0]["parts"][0]["text"] else None

    result = ti.run(prepare(source, tmp_path / "out", check=check))
    assert result["dropped"] == {"user_check": sum("7" in row["text"] for row in ROWS)}


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"source": "rows.csv"}, "source"),
        ({"destination": "somewhere"}, "destination"),
        ({"split": {"train": 2}}, "split"),
        ({"split": "nonsense"}, "split"),
        ({"on_invalid": "ignore"}, "on_invalid"),
        ({"source_format": "xml"}, "source_format"),
        ({"question": "no column"}, "question"),
        ({"skip_if_unchanged": "maybe"}, "skip_if_unchanged"),
        ({"strict": "maybe"}, "strict"),
        ({"rules": {"unheard": 1}}, "rules"),
        ({"source": "unheard://x/y"}, "uri"),
    ],
)
def test_parameters_that_cannot_be_right(
    source: Path, tmp_path: Path, ti: TaskInstance, given: dict[str, Any], field: str
) -> None:
    operator = prepare(source, tmp_path / "out")
    for name, value in given.items():
        setattr(operator, name, value)
    with pytest.raises(errors.TuningInvalidInputError) as refused:
        ti.run(operator)
    assert str(refused.value.field).startswith(field)


@pytest.mark.parametrize("missing", ["file:///nowhere/at/all.jsonl", f"gs://{BUCKET}/nowhere.jsonl"])
def test_a_source_that_is_not_there(bucket: Storage, tmp_path: Path, ti: TaskInstance, missing: str) -> None:
    with pytest.raises(errors.TuningNotFoundError, match="does not exist"):
        ti.run(prepare(missing, tmp_path / "out"))
    with pytest.raises(errors.TuningNotFoundError, match="does not exist"):
        ti.run(validate(missing))


def test_a_failed_upload_leaves_nothing_half_written(
    source: Path, tmp_path: Path, ti: TaskInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"

    def full(*_: Any) -> None:
        raise OSError("No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(storage_module.os, "fsync", full)
        with pytest.raises(errors.TuningUnavailableError, match="No space left"):
            ti.run(prepare(source, out))
    assert files(out) == {}
    assert ti.retry().run(prepare(source, out))["counts"]["train"]


def test_validation_tells_all_problems_at_once(bucket: Storage, ti: TaskInstance) -> None:
    good = {"contents": [{"role": r, "parts": [{"text": "x"}]} for r in ("user", "model")]}
    bad = {"contents": [{"role": "assistant", "parts": [{"text": 3}]}]}
    train = bucket.put("bad.jsonl", [good, bad, "{", good])
    held = bucket.put("held.jsonl", [good])
    with pytest.raises(errors.TuningInvalidInputError) as refused:
        ti.run(validate(train, validation_dataset_uri=held))
    report = json.loads("[" + ",".join(bucket.lines(f"{train}.problems.jsonl")) + "]")
    assert {(item["code"], item["line"], item["path"]) for item in report} == {
        ("overlap", 1, ""),
        ("role", 2, "contents[0].role"),
        ("type", 2, "contents[0].parts[0].text"),
        ("last_turn", 2, "contents[0].role"),
        ("json", 3, ""),
        ("overlap", 4, ""),
        ("duplicate", 4, ""),
    }
    assert all(item["file"] == train for item in report)
    assert f"{train}:2: contents[0].role: error: " in str(refused.value)


def test_a_report_that_cannot_be_written_hides_nothing(tmp_path: Path, ti: TaskInstance) -> None:
    path = tmp_path / "bad.jsonl"
    path.write_text("{")
    with pytest.raises(errors.TuningInvalidInputError, match=r"bad\.jsonl:1: error: this is no JSON"):
        ti.run(validate(path, report_uri="file:///proc/nowhere/report.jsonl"))


def test_strict_validation_and_preferences(tmp_path: Path, ti: TaskInstance) -> None:
    path = tmp_path / "set.jsonl"
    row = json.dumps({"contents": [{"role": r, "parts": [{"text": "x"}]} for r in ("user", "model")]}) + "\n"
    path.write_text(row * 2)
    assert ti.run(validate(path))["problems"] == {"errors": 0, "warnings": 1}
    with pytest.raises(errors.TuningInvalidInputError, match="the same as line 1"):
        ti.run(validate(path, strict=True))
    with pytest.raises(errors.TuningInvalidInputError, match="completions"):
        ti.run(validate(path, preference_optimization="true"))


# -- which data a model has learnt ------------------------------------------------------------------------


def tuned(ti: TaskInstance, dataset: Any, **kwargs: Any) -> Any:
    operator = CreateTuningJobOperator(
        task_id="tune",
        base_model="gemini-3.5-flash",
        training_dataset_uri=f"gs://{BUCKET}/train.jsonl",
        dataset_manifest=dataset,
        poll_interval=0.2,
        **kwargs,
    )
    return ti.run(operator)


@pytest.mark.parametrize("deferrable", [True, False])
def test_the_result_tells_of_data_that_changed_while_the_job_ran(
    source: Path, bucket: Storage, tmp_path: Path, deferrable: bool
) -> None:
    for name, destination in (("cloud", f"gs://{BUCKET}/learnt{deferrable}"), ("local", tmp_path / "out")):
        dataset = TaskInstance(task_id="prepare").run(prepare(source, destination))
        uris = [dataset["training_dataset_uri"], dataset["validation_dataset_uri"]]
        told = tuned(TaskInstance(task_id=name), dataset, deferrable=deferrable)["dataset"]
        assert told["content_hash"] == dataset["content_hash"]
        assert told["objects"] == {uri: dataset["objects"][uri] for uri in uris}
        assert told["changed"] == []

        def change(_: Any, uri: str = uris[0]) -> None:
            if uri.startswith("gs:"):
                bucket.put(uri.removeprefix(f"gs://{BUCKET}/"), "other")
            else:
                path = Path(uri.removeprefix("file://"))
                path.write_bytes(path.read_bytes()[::-1])

        ti = TaskInstance(task_id=f"{name}-changed", before_resume=change)
        if not deferrable:
            change(None)
        assert tuned(ti, json.dumps(dataset), deferrable=deferrable)["dataset"]["changed"] == uris[:1]


def test_data_that_cannot_be_seen_do_not_fail_a_job_that_succeeded(ti: TaskInstance) -> None:
    result = tuned(ti, {"objects": {"unheard://x": {"bytes": 1}}})
    assert result["state"] == "JOB_STATE_SUCCEEDED"
    assert result["dataset"]["changed"] is None
