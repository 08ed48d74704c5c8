"""Evaluation over real HTTP: what is asked, how it is counted, what a crash costs, what stands in XCom and report."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import re
import signal
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from airflow_tuning_provider._compat import AirflowSkipException
from airflow_tuning_provider.emulator.testing import Emulator, EmulatorClient
from airflow_tuning_provider.evaluation import pace
from airflow_tuning_provider.evaluation.journal import Journal
from airflow_tuning_provider.exceptions import (
    TuningBadRequestError,
    TuningGateError,
    TuningInvalidInputError,
    TuningNotFoundError,
    TuningUnavailableError,
)
from airflow_tuning_provider.operators.evaluation import (
    EvaluateTunedModelOperator,
    EvaluationGateOperator,
    SelectTunedModelOperator,
)
from tests.integration.tasks.conftest import TaskInstance, connection, is_permanent

QUEUES = ("billing", "orders", "returns")
PAIRS = [(f"Message number {i} about topic{i}", QUEUES[i % 3]) for i in range(60)]
INSTRUCTION = {"role": "system", "parts": [{"text": "Name the queue."}]}
BLOCKED = {"promptFeedback": {"blockReason": "SAFETY"}, "usageMetadata": {"promptTokenCount": 3}}


@pytest.fixture(autouse=True)
def _short_pauses_between_refusals(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pace, "SHORTEST_PAUSE", 0.05)


def line(question: str, answer: str, **fields: Any) -> dict[str, Any]:
    turns = [{"role": "user", "parts": [{"text": question}]}, {"role": "model", "parts": [{"text": answer}]}]
    return {"systemInstruction": INSTRUCTION, "contents": turns, **fields}


def tuned(server: EmulatorClient, quality: float | None, pairs: Any = PAIRS, **fields: Any) -> dict[str, Any]:
    """Put in a job that has succeeded, and return its manifest."""
    from airflow_tuning_provider.api.manifest import manifest

    (name,) = server.seed({"state": "JOB_STATE_SUCCEEDED", **fields})
    server.set_quality(name, quality, list(pairs))
    return dict(manifest(next(job for job in server.jobs() if job["name"] == name)))


@pytest.fixture
def held_out(tmp_path: Path) -> Path:
    path = tmp_path / "data" / "held_out.jsonl"
    path.parent.mkdir()
    path.write_text("".join(json.dumps(line(*pair)) + "\n" for pair in PAIRS))
    return path


def evaluate(candidate: Any, held_out: Path | str, **parameters: Any) -> EvaluateTunedModelOperator:
    uri = held_out.as_uri() if isinstance(held_out, Path) else held_out
    return EvaluateTunedModelOperator(task_id="evaluate", candidate=candidate, held_out_uri=uri, **parameters)


def asked(server: EmulatorClient, role: str = "") -> list[dict[str, Any]]:
    part = {"": ":generateContent", "candidate": "/endpoints/", "baseline": "/publishers/"}[role]
    return [r for r in server.requests() if part in r["path"] and r["path"].endswith(":generateContent")]


def question_of(request: dict[str, Any]) -> str:
    text: str = request["body"]["contents"][-1]["parts"][-1]["text"]
    return text


def local(uri: str) -> Path:
    assert uri.startswith("file:///")
    return Path(uri.removeprefix("file://"))


def rows(uri: str) -> list[dict[str, Any]]:
    return [json.loads(text) for text in local(uri).read_text().splitlines()]


# -- what comes of it ------------------------------------------------------------------------------------


def test_a_better_model_is_found_better(server: Emulator, ti: TaskInstance, held_out: Path) -> None:
    job = tuned(server, 0.9)
    result = ti.run(evaluate(job, held_out))
    assert result["verdict"] == "better"
    assert list(result["metrics"]) == ["accuracy", "macro_f1"]
    accuracy = result["metrics"]["accuracy"]
    assert {"candidate", "baseline", "difference", "low", "high", "p_value"} <= set(accuracy)
    found = rows(result["predictions_uri"])
    assert [row["line"] for row in found] == list(range(1, 61))
    # The figures are those of the single results.
    for role in ("candidate", "baseline"):
        right = sum(row[role]["text"] == row["reference"] for row in found)
        assert accuracy[role] == pytest.approx(right / 60, abs=1e-5)
    assert accuracy["candidate"] > 0.75 > 0.5 > accuracy["baseline"] > 0.1
    assert accuracy["low"] > 0
    assert result["classes"]["orders"]["support"] == 20
    assert result["candidate"] == job["endpoint"]
    assert "/locations/global/publishers/google/models/" in result["baseline"]
    assert (result["examples"], result["passed"], result["reasons"]) == (60, None, [])
    assert result["manifest"] == job
    assert result["cost"]["total"] > 0
    assert len(json.dumps(result)) < 10_000, "figures only"
    assert "Message number" not in json.dumps(result)
    page = local(result["report_uri"]).read_text()
    assert result["sentence"].replace("+", "&#43;") in page or result["sentence"] in page


def test_two_equal_models_are_undecided(server: Emulator, ti: TaskInstance, held_out: Path) -> None:
    champion, candidate = tuned(server, 0.8), tuned(server, 0.801)
    result = ti.run(evaluate(candidate, held_out, baseline=champion))
    assert result["verdict"] == "undecided"
    assert result["baseline"] == champion["endpoint"]
    assert result["examples_needed"] is None or result["examples_needed"] > 60
    assert not asked(server, "baseline")


def test_each_line_is_replayed_as_it_was_trained(server: Emulator, ti: TaskInstance, tmp_path: Path) -> None:
    tool = {"functionDeclarations": [{"name": "look_up", "parameters": {"type": "OBJECT", "properties": {"order_id": {
        "type": "STRING"}}}}]}  # fmt: skip
    image = {"fileData": {"mimeType": "image/png", "fileUri": "gs://b/x.png"}}
    turns = [
        {"role": "user", "parts": [{"text": "First?"}]},
        {"role": "model", "parts": [{"text": "One."}]},
        {"role": "user", "parts": [image, {"text": "And this?"}]},
        {"role": "model", "parts": [{"text": "A cup."}]},
    ]
    config = {"mediaResolution": "MEDIA_RESOLUTION_LOW", "temperature": 0.0, "responseSchema": {"type": "STRING"},
              "responseMimeType": "application/json"}  # fmt: skip
    full = {"systemInstruction": INSTRUCTION, "contents": turns, "tools": [tool], "generationConfig": config,
            "toolConfig": {"functionCallingConfig": {"mode": "AUTO"}}, "labels": {"from": "the-line"}}  # fmt: skip
    path = tmp_path / "one.jsonl"
    path.write_text(json.dumps(full) + "\n")
    ti.run(evaluate(tuned(server, 1.0), path, request_labels={"team": "support"}))
    (candidate,), (baseline,) = asked(server, "candidate"), asked(server, "baseline")
    assert "/locations/us/" in candidate["path"]
    assert "/locations/global/" in baseline["path"]
    assert candidate["body"] == baseline["body"]
    assert candidate["body"] == {
        "systemInstruction": INSTRUCTION,
        "contents": turns[:3],
        "tools": [tool],
        "toolConfig": full["toolConfig"],
        "generationConfig": {
            "mediaResolution": "MEDIA_RESOLUTION_LOW",
            "temperature": 0.0,
            "thinkingConfig": {"thinkingLevel": "MINIMAL"},
        },
        "labels": {
            "team": "support",
            "airflow-dag-id": "retrain",
            "airflow-run-id": "scheduled__2026-11-22t00_00_00_00_00",
            "airflow-task-id": "evaluate",
        },
    }


@pytest.fixture
def ti() -> TaskInstance:
    return TaskInstance(task_id="evaluate")


def test_the_schema_and_the_thinking_only_when_asked(
    server: Emulator, ti: TaskInstance, tmp_path: Path
) -> None:
    path = tmp_path / "one.jsonl"
    path.write_text(
        json.dumps(line("q", "a", generationConfig={"responseSchema": {"type": "STRING"}})) + "\n"
    )
    operator = evaluate(
        tuned(server, 1.0), path, keep_response_schema=True, lowest_thinking=False,
        generation_config={"max_output_tokens": 9},
    )  # fmt: skip
    ti.run(operator)
    configs = [request["body"]["generationConfig"] for request in asked(server)]
    assert configs == [{"responseSchema": {"type": "STRING"}, "maxOutputTokens": 9}] * 2


def test_a_refusal_is_wrong_and_shown(server: Emulator, ti: TaskInstance, held_out: Path) -> None:
    job = tuned(server, 1.0)
    server.fault(path_regex="/endpoints/", status=200, body=BLOCKED, times=2)
    empty = {"candidates": [{"finishReason": "STOP"}], "usageMetadata": {}}
    server.fault(path_regex="/endpoints/", status=200, body=empty, times=1)
    result = ti.run(evaluate(job, held_out))
    assert result["metrics"]["accuracy"]["candidate"] == pytest.approx(57 / 60)
    assert result["counts"]["candidate"] == {
        "blocked": 2,
        "empty": 1,
        "cut_off": 0,
        "blocked_by": {"SAFETY": 2},
    }
    assert (result["examples"], result["counts"]["failed"]) == (60, 0)
    blocked = [row for row in rows(result["predictions_uri"]) if row["candidate"].get("blocked")]
    assert [row["scores"]["accuracy"][0] for row in blocked] == [0, 0]


def test_examples_are_never_markup_in_the_report(server: Emulator, ti: TaskInstance, tmp_path: Path) -> None:
    evil = '<script>alert("x")</script><img src=x onerror=alert(1)>'
    path = tmp_path / "evil.jsonl"
    pairs = [(f"{evil} question number {i} topic{i}", f"{evil}{i % 2}") for i in range(20)]
    path.write_text("".join(json.dumps(line(*pair)) + "\n" for pair in pairs))
    result = ti.run(
        evaluate(
            tuned(server, 0.5, pairs, tunedModelDisplayName=evil), path, baseline="gemini-3.1-flash-lite"
        )
    )
    page = local(result["report_uri"]).read_text()
    assert "&lt;script&gt;" in page
    assert "<script" not in page.lower()
    assert "<img" not in page.lower()
    assert "http://" not in page
    assert "url(" not in page
    assert " src=" not in page.replace("img src=x", "")


# -- what goes wrong on the way --------------------------------------------------------------------------


def test_it_adapts_to_refusals_for_quota(server: Emulator, ti: TaskInstance, held_out: Path) -> None:
    job = tuned(server, 1.0)
    server.fault(path_regex=":generateContent", status=429, times=25)
    result = ti.run(evaluate(job, held_out))
    assert (result["examples"], result["counts"]["failed"]) == (60, 0)
    assert result["metrics"]["accuracy"]["candidate"] == 1
    assert result["counts"]["refused_for_quota"] == 25
    assert result["counts"]["calls"] == 120
    answered = Counter((r["path"], question_of(r)) for r in asked(server) if r["status"] == 200)
    assert set(answered.values()) == {1}
    assert len(answered) == 120


def test_an_outage_is_never_a_wrong_answer(server: Emulator, ti: TaskInstance, held_out: Path) -> None:
    job = tuned(server, 1.0)
    server.fault(path_regex="/endpoints/", status=400, times=1)
    server.fault(path_regex="/endpoints/", status=503, times=3)
    server.fault(path_regex="/endpoints/", drop="after_processing", times=1)
    server.fault(path_regex="/publishers/", truncate_body=True, times=1)
    result = ti.run(evaluate(job, held_out, max_failed_share=0.02))
    assert (result["examples"], result["counts"]["failed"]) == (59, 1)
    assert result["metrics"]["accuracy"]["candidate"] == 1, "what failed counts for neither"
    (failed,) = [row for row in rows(result["predictions_uri"]) if "failed" in row]
    assert "400" in failed["failed"]["candidate"]
    assert "scores" not in failed


def test_above_the_share_the_task_fails_and_a_retry_asks_only_the_rest(
    server: Emulator, ti: TaskInstance, held_out: Path
) -> None:
    job = tuned(server, 1.0)
    server.fault(path_regex="/endpoints/", status=400, times=-1)
    with pytest.raises(TuningBadRequestError, match="The answers so far are kept in file:///"):
        ti.run(evaluate(job, held_out))
    first = {question_of(r) for r in asked(server, "baseline") if r["status"] == 200}
    server.clear_faults()
    before = server.last_request()
    result = ti.retry().run(evaluate(job, held_out))
    again = {question_of(r) for r in server.requests(before) if "/publishers/" in r["path"]}
    assert not first & again
    assert result["counts"]["reused_answers"] == len(first) > 0
    assert result["counts"]["calls"] == 120 - len(first)


def test_an_outage_is_worth_a_retry(
    server: Emulator, ti: TaskInstance, held_out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("airflow_tuning_provider.evaluation.asking.ATTEMPTS", 2)
    job = tuned(server, 1.0)
    server.fault(path_regex="/endpoints/", status=503, times=-1)
    with pytest.raises(
        TuningUnavailableError, match="have no answer for reasons that are none of the model's"
    ) as caught:
        ti.run(evaluate(job, held_out))
    assert not is_permanent(caught.value)


def test_a_cleared_task_asks_nothing_anew(server: Emulator, ti: TaskInstance, held_out: Path) -> None:
    job = tuned(server, 0.9)
    first = ti.run(evaluate(job, held_out))
    before = len(asked(server))
    second = ti.clear().run(evaluate(job, held_out))
    assert len(asked(server)) == before == 120
    assert second["metrics"] == first["metrics"]
    assert second["cost"] == first["cost"]


def test_mapped_evaluations_share_the_baseline_s_answers(server: Emulator, held_out: Path) -> None:
    for index in range(2):
        ti = TaskInstance(task_id="evaluate", map_index=index)
        ti.run(evaluate(tuned(server, 0.8 + index / 10), held_out))
    assert len(asked(server, "candidate")) == 120
    assert len(asked(server, "baseline")) == 60


@pytest.mark.parametrize(
    ("status", "error"), [(404, TuningNotFoundError), (403, TuningBadRequestError.__mro__[1])]
)
def test_what_nobody_may_ends_at_once(
    server: Emulator, ti: TaskInstance, held_out: Path, status: int, error: type[Exception]
) -> None:
    job = tuned(server, 1.0)
    server.fault(path_regex="/endpoints/", status=status, times=-1)
    with pytest.raises(error, match=str(status)) as caught:
        ti.run(evaluate(job, held_out))
    assert is_permanent(caught.value)
    assert len(asked(server)) <= 8


def test_equal_questions_are_asked_once(server: Emulator, ti: TaskInstance, tmp_path: Path) -> None:
    path = tmp_path / "twice.jsonl"
    path.write_text("".join(json.dumps(line(*PAIRS[i // 3])) + "\n" for i in range(30)))
    result = ti.run(evaluate(tuned(server, 1.0), path))
    assert (result["examples"], len(asked(server))) == (30, 20)


def broken(answer: str, reference: str) -> float:
    return float("nan")


def test_a_metric_that_breaks_is_told_and_nothing_is_lost(
    server: Emulator, ti: TaskInstance, held_out: Path
) -> None:
    job = tuned(server, 0.9)
    with pytest.raises(TuningInvalidInputError, match=r"metrics\['broken'\]=nan(.|\n)*are kept in file:///"):
        ti.run(evaluate(job, held_out, metrics=[broken]))
    before = len(asked(server))
    ti.run(evaluate(job, held_out))
    assert len(asked(server)) == before == 120


# -- limits ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"max_calls": 119}, "120 questions are to be asked"),
        ({"max_cost": 0.000001}, r"would cost about \$0\.00"),
        ({"max_cost": 1, "baseline": "gemini-3-flash-preview"}, "is not known: give it in prices"),
        ({"metrics": "accurcy"}, "accurcy"),
        ({"metrics": "recall:zzz"}, "its classes are 'billing', 'orders', 'returns'"),
        ({"decide_by": "token_f1"}, "decide_by"),
        ({"gate": {"accuracy": {"treshold": 1}}}, "gate.accuracy.treshold"),
        ({"gate": {"accuracy": 1}, "on_fail": "stop"}, "on_fail"),
        ({"gate": {"token_f1": 1}}, "it is not measured; there are accuracy, macro_f1, recall:CLASS"),
        ({"gate": {"recall:zzz": 1}}, "it is not measured"),
        ({"max_failed_share": 2}, "max_failed_share"),
        ({"max_concurrency": 33}, "max_concurrency"),
        ({"max_examples": 0}, "max_examples"),
        ({"confidence": 95}, "confidence"),
        ({"shard": "4/4"}, "shard"),
        ({"shard": "x"}, "shard"),
        ({"shard": "0/2", "max_examples": 5}, "either shard or max_examples"),
        ({"labels": "billing"}, "labels"),
        ({"prices": {"gemini-3.5-flash": 1}}, "prices"),
        ({"request_labels": {"Team": "x"}}, "request_labels"),
        ({"baseline_location": "https://evil"}, "location"),
        ({"baseline": "projects/p/locations/us/models/1"}, "endpoint"),
        ({"candidate": {"state": "JOB_STATE_FAILED", "endpoint": None}}, r"candidate.endpoint"),
        ({"candidate": "gemini-3.5-flash"}, "candidate"),
        ({"candidate": "projects/1/locations/us/endpoints/2"}, "base model is not known"),
        ({"held_out_uri": "file:///no/such/file.jsonl"}, "held_out_uri"),
        ({"held_out_uri": "nothing://x/y"}, "held_out_uri"),
        ({"generation_config": [1]}, "generation_config"),
    ],
)
def test_bad_input_is_refused_before_anything_is_asked(
    server: Emulator, ti: TaskInstance, held_out: Path, parameters: dict[str, Any], message: str
) -> None:
    given = {"candidate": tuned(server, 1.0), "held_out_uri": held_out.as_uri(), **parameters}
    operator = EvaluateTunedModelOperator(task_id="evaluate", **given)
    with pytest.raises(TuningInvalidInputError, match=message):
        ti.run(operator)
    assert not asked(server)


def test_a_bad_line_is_refused_before_anything_is_asked(
    server: Emulator, ti: TaskInstance, held_out: Path
) -> None:
    with held_out.open("a") as file:
        file.write('{"contents": [{"role": "user", "parts": [{"text": "no answer"}]}]}\n')
    with pytest.raises(TuningInvalidInputError, match=r"line 61: contents\[0\].role"):
        ti.run(evaluate(tuned(server, 1.0), held_out))
    assert not asked(server)


def test_the_cost_is_watched_meanwhile(server: Emulator, ti: TaskInstance, held_out: Path) -> None:
    job = tuned(server, 1.0)
    dear = {"candidates": [{"content": {"parts": [{"text": "x"}]}, "finishReason": "STOP"}],
            "usageMetadata": {"promptTokenCount": 10, "candidatesTokenCount": 1_000_000}}  # fmt: skip
    server.fault(path_regex="/endpoints/", status=200, body=dear, times=-1)
    with pytest.raises(TuningInvalidInputError, match=r"max_cost=1\.0 is allowed") as caught:
        ti.run(evaluate(job, held_out, max_cost=1))
    assert is_permanent(caught.value)
    assert len(asked(server)) < 40


def test_a_sample_is_seeded(server: Emulator, held_out: Path) -> None:
    job = tuned(server, 1.0)
    samples = []
    for run, seed in (("a", 0), ("b", 0), ("c", 1)):
        before = server.last_request()
        result = TaskInstance(task_id="evaluate", run_id=run).run(
            evaluate(job, held_out, max_examples="20", seed=seed)
        )
        assert (result["examples"], result["counts"]["held_out"]) == (20, 60)
        samples.append({question_of(r) for r in server.requests(before) if "/endpoints/" in r["path"]})
    assert samples[0] == samples[1] != samples[2]
    assert [len(sample) for sample in samples] == [20, 20, 20]


def test_shards_ask_each_line_once_and_the_whole_finds_their_answers(
    server: Emulator, held_out: Path, tmp_path: Path
) -> None:
    job = tuned(server, 0.9)
    output = (tmp_path / "shared").as_uri()
    parts = []
    for index in range(3):
        ti = TaskInstance(task_id="ask", map_index=index)
        operator = evaluate(job, held_out, shard=f"{index}/3", output_uri=output)
        parts.append(ti.run(operator))
    assert sum(part["examples"] for part in parts) == 60
    assert all(part["examples"] > 8 for part in parts)
    assert len({part["predictions_uri"] for part in parts}) == 3
    lines = [row["line"] for part in parts for row in rows(part["predictions_uri"])]
    assert sorted(lines) == list(range(1, 61))
    assert len(asked(server)) == 120
    whole = TaskInstance(task_id="evaluate").run(evaluate(job, held_out, output_uri=output))
    assert (whole["examples"], whole["counts"]["calls"], whole["counts"]["reused_answers"]) == (60, 0, 120)
    assert len(asked(server)) == 120


# -- where the answers are kept ------------------------------------------------------------------------------


def test_answers_in_a_store_that_cannot_append(server: Emulator, ti: TaskInstance, held_out: Path) -> None:
    import fsspec
    from airflow.sdk import ObjectStoragePath
    from airflow.sdk.io import attach

    attach("memory", fs=fsspec.filesystem("memory"))
    root = ObjectStoragePath("memory://bucket/run")
    with ObjectStoragePath("memory://bucket/held_out.jsonl").open("wb") as file:
        file.write(held_out.read_bytes())
    job = tuned(server, 0.9)
    operator = evaluate(job, "memory://bucket/held_out.jsonl", output_uri="memory://bucket/run")
    result = ti.run(operator)
    # Airflow 3.1 spells it with one more slash.
    assert re.match("memory:///?bucket/run/results/", result["report_uri"])
    assert ObjectStoragePath(result["predictions_uri"]).read_text().count("\n") == 60
    parts = [str(path) for model in (root / "answers").iterdir() for path in model.iterdir()]
    assert len(parts) >= 4, "60 answers of each are two parts"
    before = len(asked(server))
    assert ti.retry().run(operator)["metrics"] == result["metrics"]
    assert len(asked(server)) == before


def attempt(url: str, job: dict[str, Any], held_out: str, result: str) -> None:
    """One attempt of the task, in a process that may be killed at any moment."""
    os.environ["AIRFLOW_CONN_GOOGLE_CLOUD_DEFAULT"] = connection(url)
    found = TaskInstance(task_id="evaluate").run(evaluate(job, Path(held_out), max_concurrency=8))
    Path(result).write_text(json.dumps(found))


@pytest.fixture(scope="module")
def processes() -> Any:
    context = multiprocessing.get_context("forkserver")
    # Forked from a process that has everything imported: what is killed is the work, not Python's start.
    context.set_forkserver_preload(
        [
            "tests.integration.tasks.test_evaluation",
            "airflow_tuning_provider.hooks.tuning_job",
            "airflow_tuning_provider.evaluation.run",
            "google.auth.transport.requests",
        ]
    )
    return context


@pytest.mark.timeout(300)
def test_twenty_kills_lose_nothing_and_ask_nothing_twice(
    server: Emulator, tmp_path: Path, processes: Any
) -> None:
    pairs = [(f"Message number {i} about topic{i}", QUEUES[i % 3]) for i in range(300)]
    held_out, result = tmp_path / "held_out.jsonl", tmp_path / "result.json"
    held_out.write_text("".join(json.dumps(line(*pair)) + "\n" for pair in pairs))
    job = tuned(server, 0.9, pairs)
    server.fault(path_regex=":generateContent", delay_seconds=0.02, times=-1)
    answers = (
        tmp_path / "evaluations" / "retrain" / "scheduled__2026-11-22T00_00_00_00_00" / "evaluate" / "answers"
    )

    def kept() -> set[tuple[bool, int]]:
        """What is safe: whether the candidate answered, and the example's line."""
        models = list(answers.iterdir()) if answers.exists() else []
        return {
            (not model.name.startswith("gemini"), entry["line"])
            for model in models
            for entry in Journal(model).read()
        }

    def asked_since(sequence: int) -> set[tuple[bool, int]]:
        sent = [r for r in server.requests(sequence) if r["path"].endswith(":generateContent")]
        return {("/endpoints/" in r["path"], int(question_of(r).split()[2]) + 1) for r in sent}

    draw = random.Random(3)
    safe: list[set[tuple[bool, int]]] = []
    for _ in range(20):
        before = server.last_request()
        process = processes.Process(target=attempt, args=(server.url, job, str(held_out), str(result)))
        process.start()
        until = before + draw.randrange(2, 28)
        while server.last_request() < until:
            assert process.is_alive(), "it was to be killed before its end"
            time.sleep(0.003)
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        assert process.exitcode == -signal.SIGKILL
        now = kept()
        if safe:
            assert safe[-1] <= now, "no answer is lost"
            assert not safe[-1] & asked_since(before), "what is kept is not asked again"
        assert len(asked_since(before) - now) <= 8, "what is lost was under way"
        safe.append(now)
    process = processes.Process(target=attempt, args=(server.url, job, str(held_out), str(result)))
    process.start()
    process.join(120)
    assert process.exitcode == 0
    found = json.loads(result.read_text())
    assert (found["examples"], found["counts"]["failed"]) == (300, 0)
    assert found["counts"]["reused_answers"] == len(safe[-1])
    # Beyond one for each, a kill costs what was under way.
    requests = Counter((r["path"], question_of(r)) for r in asked(server))
    assert len(requests) == 600
    twice = sum(requests.values()) - len(requests)
    assert twice <= 20 * 8
    assert len(kept()) == 600


# -- gates and selection -----------------------------------------------------------------------------------------


def test_a_gate_records_skips_or_fails(server: Emulator, held_out: Path) -> None:
    job = tuned(server, 0.8)
    gate = {"accuracy": {"threshold": 0.99}, "recall:billing": {"threshold": 0.2}}

    def run(on_fail: str) -> tuple[TaskInstance, EvaluateTunedModelOperator]:
        return TaskInstance(task_id="evaluate"), evaluate(job, held_out, gate=gate, on_fail=on_fail)

    ti, operator = run("record")
    result = ti.run(operator)
    assert result["passed"] is False
    assert len(result["reasons"]) == 1
    assert "is below the threshold 0.99" in result["reasons"][0]
    ti, operator = run("skip")
    with pytest.raises(AirflowSkipException, match=r"threshold 0\.99"):
        ti.run(operator)
    assert ti.xcoms["return_value"]["passed"] is False
    ti, operator = run("fail")
    with pytest.raises(TuningGateError, match=r"threshold 0\.99") as caught:
        ti.run(operator)
    assert is_permanent(caught.value)
    assert ti.xcoms["return_value"]["report_uri"] in str(caught.value)
    assert "Gate not passed" in local(result["report_uri"]).read_text()
    ti = TaskInstance(task_id="evaluate")
    passed = ti.run(
        evaluate(job, held_out, gate={"verdict": "better", "max_dropped_share": 0}, on_fail="fail")
    )
    assert passed["passed"] is True


def test_a_gate_of_its_own(server: Emulator, held_out: Path) -> None:
    result = TaskInstance(task_id="evaluate").run(evaluate(tuned(server, 0.9), held_out))
    gate = EvaluationGateOperator(task_id="gate", evaluation=result)
    assert TaskInstance(task_id="gate").run(gate) == {**result, "passed": True, "reasons": [
        "The candidate fulfils all that the gate asks."]}  # fmt: skip
    strict = {"f1:orders": {"threshold": 1.01}}
    ti = TaskInstance(task_id="gate")
    with pytest.raises(AirflowSkipException, match="f1:orders"):
        ti.run(EvaluationGateOperator(task_id="gate", evaluation=result, gate=strict))
    assert ti.xcoms["return_value"]["passed"] is False
    for bad in ("x", {"verdict": "better"}):
        with pytest.raises(TuningInvalidInputError, match="evaluation"):
            ti.run(EvaluationGateOperator(task_id="gate", evaluation=bad))


def spec(epochs: int) -> dict[str, Any]:
    hyper = {"epochCount": str(epochs), "adapterSize": "ADAPTER_SIZE_FOUR", "learningRateMultiplier": 1}
    return {"supervisedTuningSpec": {"trainingDatasetUri": "gs://b/t.jsonl", "hyperParameters": hyper}}


def test_the_best_of_a_sweep_and_those_that_failed(server: Emulator, held_out: Path) -> None:
    results: list[Any] = []
    for index, (epochs, quality) in enumerate(((1, 0.3), (4, 1.0), (9, 1.0))):
        job = tuned(server, quality, **spec(epochs))
        results.append(TaskInstance(task_id="evaluate", map_index=index).run(evaluate(job, held_out)))
    ti = TaskInstance(task_id="select")
    winner = ti.run(
        SelectTunedModelOperator(task_id="select", evaluations=[*results, None], metric="macro_f1")
    )
    assert winner == results[1]["manifest"]
    assert winner["hyper_parameters"]["epoch_count"] == 4
    table = ti.xcoms["table"]
    assert [(row["epoch_count"], row["selected"]) for row in table] == [(4, True), (9, False), (1, False)]
    assert ti.xcoms["left_out"] == ["candidate 3: it has no evaluation."]
    assert "cheapest" in ti.xcoms["reason"]
    assert ti.xcoms["evaluation"]["candidate"] == winner["endpoint"]
    with pytest.raises(TuningInvalidInputError, match="only 3 candidates"):
        ti.run(SelectTunedModelOperator(task_id="select", evaluations=results, min_candidates=4))
    with pytest.raises(TuningInvalidInputError, match="evaluations"):
        ti.run(SelectTunedModelOperator(task_id="select", evaluations="x"))


def test_mapped_instances_that_failed_are_named(server: Emulator, held_out: Path) -> None:
    from airflow.sdk import DAG

    result = TaskInstance(task_id="evaluate").run(evaluate(tuned(server, 0.9), held_out))

    class Instance(TaskInstance):
        def get_task_states(self, dag_id: str, **_: Any) -> dict[str, dict[str, str | None]]:
            states = {
                "evaluate_0": "success",
                "evaluate_1": "failed",
                "evaluate_2": "upstream_failed",
                "other_1": "failed",
            }
            return {self.run_id: states} if dag_id == self.dag_id else {}

    with DAG("retrain", schedule=None):
        before = evaluate({}, held_out)
        select = SelectTunedModelOperator(task_id="select", evaluations=[result], trigger_rule="all_done")
        before >> select
    ti = Instance(task_id="select")
    ti.run(select)
    assert ti.xcoms["left_out"] == ["evaluate[1]: failed.", "evaluate[2]: upstream_failed."]


def test_a_judge_over_http(server: Emulator, ti: TaskInstance, held_out: Path) -> None:
    """One that always names the first place says nothing, as it is asked with the places swapped."""
    job = tuned(server, 1.0)
    prompts = [(f"You compare two answers to the same question {question}", "A") for question, _ in PAIRS]
    judge = tuned(server, 1.0, prompts)
    result = ti.run(evaluate(job, held_out, judge=judge["endpoint"], max_cost=None))
    sent = [r for r in asked(server) if r["path"].startswith(f"/v1/{judge['endpoint']}")]
    found = rows(result["predictions_uri"])
    different = [row for row in found if row["candidate"]["text"] != row["baseline"]["text"]]
    assert len(sent) == 2 * len(different) > 0
    assert {row["scores"]["judge"][0] for row in found} == {0.5}
    assert result["metrics"]["judge"]["difference"] == 0
    assert result["cost"]["judge"] is None
    assert result["verdict"] == "better", "accuracy decides"
