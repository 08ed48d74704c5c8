"""The text of an answer; a blocked one has none, and what is no answer says nothing of the model."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_tuning_provider.evaluation.answers import Answer, answer_text, read_answer

USAGE = {"promptTokenCount": 5, "candidatesTokenCount": 2, "thoughtsTokenCount": 3, "totalTokenCount": 10}


def response(*parts: dict[str, Any], finish: str = "STOP") -> dict[str, Any]:
    candidate = {"content": {"role": "model", "parts": list(parts)}, "finishReason": finish}
    return {"candidates": [candidate], "usageMetadata": USAGE}


def test_parts_are_joined_without_thoughts() -> None:
    given = response({"text": "hm", "thought": True}, {"text": "A"}, {"text": "B"})
    assert answer_text(given) == "AB"
    assert read_answer(given, 1.23456) == Answer("AB", "STOP", None, 5, 5, 1.235)


@pytest.mark.parametrize(
    ("given", "blocked"),
    [
        ({"promptFeedback": {"blockReason": "SAFETY"}}, "SAFETY"),
        ({"candidates": [{"finishReason": "SAFETY"}]}, "SAFETY"),
        (response({"text": "half a sen"}, finish="RECITATION"), "RECITATION"),
        ({"candidates": [], "usageMetadata": USAGE}, None),
        ({"candidates": [{"content": {"role": "model"}, "finishReason": "STOP"}]}, None),
    ],
)
def test_blocked_and_empty_answers(given: dict[str, Any], blocked: str | None) -> None:
    answer = read_answer(given)
    assert answer is not None
    assert (answer.text, answer.blocked, answer.empty) == ("", blocked, True)


def test_an_answer_that_is_cut_off_counts_as_it_is() -> None:
    answer = read_answer(response({"text": "Par"}, finish="MAX_TOKENS"))
    assert answer is not None
    assert (answer.text, answer.finish, answer.blocked) == ("Par", "MAX_TOKENS", None)


@pytest.mark.parametrize("given", [{}, {"error": {"code": 500}}, {"tuningJobs": []}])
def test_what_is_no_answer(given: dict[str, Any]) -> None:
    assert read_answer(given) is None
    assert answer_text(given) == ""


@pytest.mark.parametrize(
    "given",
    [
        {"candidates": None},
        {"candidates": [None]},
        {"candidates": [{"content": {"parts": [None, 1, {"text": 5}]}}]},
    ],
)
def test_any_shape_is_survived(given: dict[str, Any]) -> None:
    assert answer_text(given) == ""


def test_kept_as_json() -> None:
    for answer in (Answer("x", "STOP", None, 1, 2, 0.5), Answer("", None, "SAFETY")):
        assert Answer.from_json(answer.as_json()) == answer
