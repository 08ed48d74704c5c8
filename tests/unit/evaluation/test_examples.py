"""Held-out lines become questions exactly as they were trained, or a located error."""

from __future__ import annotations

import json
from typing import Any

import pytest

from airflow_tuning_provider.api.inputs import InvalidInputError
from airflow_tuning_provider.evaluation.examples import Replay, with_lowest_thinking


def turn(role: str, text: str) -> dict[str, Any]:
    return {"role": role, "parts": [{"text": text}]}


def read(*lines: object, **replay: Any) -> list[Any]:
    raw = [line if isinstance(line, bytes) else json.dumps(line).encode() for line in lines]
    return list(Replay(**replay).examples(raw))


IMAGE = {
    "fileData": {"mimeType": "image/png", "fileUri": "gs://b/x.png"},
    "mediaResolution": {"level": "LOW"},
}
FULL = {
    "systemInstruction": turn("system", "Be brief."),
    "contents": [turn("user", "One?"), turn("model", "1"), {"role": "user", "parts": [IMAGE, {"text": "Two?"}]},
                 turn("model", "2")],
    "tools": [{"functionDeclarations": [{"name": "add", "parameters": {"properties": {"a_b": {"type": "STRING"}}}}]}],
    "toolConfig": {"functionCallingConfig": {"mode": "NONE"}},
    "generationConfig": {"mediaResolution": "MEDIA_RESOLUTION_LOW", "responseSchema": {"type": "STRING"},
                         "responseMimeType": "application/json"},
    "labels": {"team": "x"},
}  # fmt: skip


def test_everything_but_the_answer_is_asked() -> None:
    (example,) = read(FULL)
    assert example.reference == "2"
    assert example.question == "Two?"
    assert example.request == {
        "systemInstruction": FULL["systemInstruction"],
        "contents": FULL["contents"][:-1],
        "tools": FULL["tools"],
        "toolConfig": FULL["toolConfig"],
        "generationConfig": {"mediaResolution": "MEDIA_RESOLUTION_LOW"},
    }


def test_a_response_schema_only_when_asked() -> None:
    (example,) = read(FULL, keep_response_schema=True)
    assert example.request["generationConfig"]["responseSchema"] == {"type": "STRING"}
    assert example.request["generationConfig"]["responseMimeType"] == "application/json"


def test_the_user_s_generation_config_wins() -> None:
    (example,) = read(
        FULL, generation_config={"max_output_tokens": 5, "mediaResolution": "MEDIA_RESOLUTION_HIGH"}
    )
    assert example.request["generationConfig"] == {
        "maxOutputTokens": 5,
        "mediaResolution": "MEDIA_RESOLUTION_HIGH",
    }


def test_snake_case_bom_and_empty_lines() -> None:
    line = {"system_instruction": turn("system", "S"), "contents": [turn("user", "Q"), turn("model", "A")]}
    found = read(b"\xef\xbb\xbf" + json.dumps(line).encode(), b"\r\n", json.dumps(line).encode() + b"\r\n")
    assert [example.number for example in found] == [1, 3]
    assert found[0].request["systemInstruction"] == turn("system", "S")
    assert found[0].key == found[1].key


def test_a_preference_pair_expects_the_better_completion() -> None:
    completions = [
        {"score": 0.0, "completion": turn("model", "bad")},
        {"score": 1, "completion": turn("model", "ok")},
    ]
    (example,) = read({"contents": [turn("user", "Q")], "completions": completions})
    assert (example.reference, example.request) == ("ok", {"contents": [turn("user", "Q")]})


def test_a_function_call_is_an_answer() -> None:
    call = {"role": "model", "parts": [{"functionCall": {"name": "add", "args": {"b": 1, "a": 2}}}]}
    (example,) = read({"contents": [turn("user", "Q"), call]})
    assert json.loads(example.reference) == {"functionCall": {"name": "add", "args": {"a": 2, "b": 1}}}


@pytest.mark.parametrize(
    ("line", "where"),
    [
        (b"{", "line 2: line"),
        (b"\xff\xfe", "line 2: line"),
        (b"[1]", "line 2: line"),
        (b'{"a": 1}', "line 2: contents"),
        ({"contents": [turn("user", "Q")]}, r"line 2: contents\[0\].role"),
        ({"contents": [turn("model", "A")]}, "line 2: contents"),
        ({"contents": [{"role": "user"}, turn("model", "A")]}, r"line 2: contents\[0\].parts"),
        ({"contents": [turn("user", "Q"), turn("model", " ")]}, "line 2: contents"),
        ({"contents": [turn("user", "Q")], "completions": []}, "line 2: completions"),
        (
            {"contents": [turn("user", "Q"), turn("model", "A")], "generationConfig": 1},
            "line 2: generationConfig",
        ),
        (b"[" * 100_000, "line 2: line"),
    ],
)
def test_a_bad_line_is_located(line: Any, where: str) -> None:
    with pytest.raises(InvalidInputError, match=f"^{where}="):
        read({"contents": [turn("user", "Q"), turn("model", "A")]}, line)


@pytest.mark.parametrize(
    ("model", "thinking"),
    [
        ("gemini-3.5-flash", {"thinkingLevel": "MINIMAL"}),
        ("publishers/google/models/gemini-3.1-pro-preview", {"thinkingLevel": "LOW"}),
        ("gemini-2.5-flash", {"thinkingBudget": 0}),
        ("gemini-2.0-flash", None),
        (None, {"thinkingLevel": "MINIMAL"}),
    ],
)
def test_the_lowest_thinking_of_each_family(model: str | None, thinking: Any) -> None:
    request = {"contents": [], "generationConfig": {"temperature": 0}}
    found = with_lowest_thinking(request, model)["generationConfig"]
    assert found == {"temperature": 0} | ({"thinkingConfig": thinking} if thinking else {})
    assert "thinkingConfig" not in request["generationConfig"]


def test_a_line_s_own_thinking_stays() -> None:
    request = {"contents": [], "generationConfig": {"thinkingConfig": {"thinkingLevel": "HIGH"}}}
    assert with_lowest_thinking(request, "gemini-3.5-flash") == request
