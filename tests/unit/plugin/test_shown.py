"""Jobs as the page shows them."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_tuning_provider.api.errors import ApiError, ErrorKind
from airflow_tuning_provider.api.manifest import parse_time
from airflow_tuning_provider.api.states import JobState
from airflow_tuning_provider.plugin import shown

NAME = "projects/1/locations/us-central1/tuningJobs/7"
CREATED, STARTED, ENDED = "2026-11-25T10:00:00Z", "2026-11-25T10:07:00Z", "2026-11-25T11:00:00Z"
NOW = parse_time("2026-11-25T12:00:00Z") or 0.0
ODD: list[Any] = [None, "x", 7, True, ["x"], {"x": 1}, [None], {"code": "x"}]


def job(state: str = "RUNNING", **fields: Any) -> dict[str, Any]:
    return {"name": NAME, "state": f"JOB_STATE_{state}", "createTime": CREATED, **fields}


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "just now"),
        (-59, "just now"),
        (59, "just now"),
        (60, "1 min ago"),
        (3599, "59 min ago"),
        (3600, "1 h 0 min ago"),
        (40 * 3600, "40 h ago"),
        (49 * 3600, "2 days ago"),
    ],
)
def test_ages(seconds: float, words: str) -> None:
    assert shown.age(NOW - seconds, NOW) == words


def test_clocks_that_differ_are_told() -> None:
    text = "5 min in the future: this server's clock and Google's differ"
    assert shown.age(NOW + 300, NOW) == text
    assert shown.row(job(createTime="2026-11-25T12:05:00Z"), NOW)["created"] == text
    assert shown.age(None, NOW) == "at an unknown time"


def test_the_age_of_a_state_counts_from_its_own_beginning() -> None:
    assert shown.row(job("PENDING"), NOW)["since"] == "for 2 h 0 min"
    assert shown.row(job("RUNNING", startTime=STARTED), NOW)["since"] == "for 1 h 53 min"
    assert shown.row(job("FAILED", startTime=STARTED, endTime=ENDED), NOW)["since"] == "1 h 0 min ago"


def test_progress() -> None:
    beta = {
        "tuningJobState": "TUNING_JOB_STATE_TUNING",
        "tuningJobMetadata": {"completedStepCount": "15"},
        "tuningDataStats": {"supervisedTuningDataStats": {"tuningStepCount": "60"}},
    }
    row = shown.row(job(**beta), NOW)
    assert (row["progress"], row["done"]) == ("tuning, step 15 of 60", 0.25)
    ended = shown.row(job("SUCCEEDED", **beta), NOW)
    assert (ended["progress"], ended["done"]) == ("", None)


def test_tokens_are_those_of_all_epochs() -> None:
    stats = {"supervisedTuningDataStats": {"totalBillableTokenCount": "1000"}}
    row = shown.row(
        job(tuningDataStats=stats, supervisedTuningSpec={"hyperParameters": {"epochCount": "3"}}), NOW
    )
    assert (row["tokens"], row["tokens_in_words"]) == (3000, "1,000 × 3 epochs")
    assert shown.row(job(), NOW)["tokens"] is None


@pytest.mark.parametrize("state", [*JobState, "JOB_STATE_NEW_IN_2027"])
def test_every_state_is_shown_and_found_by_one_filter_at_least(state: str) -> None:
    row = shown.row({**job(), "state": str(getattr(state, "value", state))}, NOW)
    assert row["state_in_words"]
    assert [name for name in shown.STATE_FILTERS if shown.matches(row, states=name, text="")]
    assert shown.matches(row, states="", text="")
    assert row["cancellable"] == (row["active"] and row["state"] != "JOB_STATE_CANCELLING")


def test_a_text_is_looked_for_word_by_word() -> None:
    row = shown.row(job(tunedModelDisplayName="Ticket Router", baseModel="gemini-3.5-flash"), NOW)
    assert shown.matches(row, states="", text="router GEMINI")
    assert not shown.matches(row, states="", text="router claude")
    assert not shown.matches(row, states="failed", text="router")


def test_the_timeline() -> None:
    def told(**fields: Any) -> list[tuple[str, str]]:
        return [(phase["what"], phase["in_words"]) for phase in shown.timeline(job(**fields), NOW)]

    assert told(state="PENDING") == [("Waiting and preparing", "for 2 h")]
    assert told(startTime=STARTED) == [("Waiting and preparing", "7 min"), ("Tuning", "for 1 h 53 min")]
    assert told(state="FAILED", startTime=STARTED, endTime=ENDED) == [
        ("Waiting and preparing", "7 min"),
        ("Tuning", "53 min"),
    ]
    assert told(state="FAILED", endTime=ENDED) == [("Waiting and preparing", "1 h")]
    assert shown.timeline({"name": NAME}, NOW) == []


def test_a_failure_says_what_to_do() -> None:
    failed = shown.detail(job("FAILED", error={"code": 3, "message": "no model turn"}), NOW)["failure"]
    assert failed["title"] == "The job failed (INVALID_ARGUMENT)"
    assert failed["message"] == "no model turn"
    assert "Change the input" in failed["advice"]
    there = {"model": "projects/1/locations/us-central1/models/5@1"}
    failed = shown.detail(job("FAILED", error={"code": 13}, tunedModel=there), NOW)["failure"]
    assert "deploy it from the Model Registry" in failed["advice"]
    assert shown.detail(job("RUNNING"), NOW)["failure"] is None
    assert "cancelled" in shown.detail(job("CANCELLED"), NOW)["failure"]["title"]


def test_histograms() -> None:
    given = {
        "min": 1,
        "max": 9,
        "median": "4",
        "buckets": [{"count": "2", "left": 1, "right": 5}, {"count": None}],
    }
    stats = {"preferenceOptimizationDataStats": {"userInputTokenDistribution": given}}
    (found,) = shown.histograms(job(tuningDataStats=stats))
    assert found["bars"] == [{"count": 2.0, "left": 1.0, "right": 5.0}]
    assert (found["title"], found["median"], found["p95"]) == ("Tokens of input per example", 4.0, None)


@pytest.mark.parametrize("odd", ODD)
def test_whatever_the_server_sends_is_shown(odd: Any) -> None:
    fields = (
        *(
            "error",
            "labels",
            "tunedModel",
            "tuningDataStats",
            "supervisedTuningSpec",
            "createTime",
            "startTime",
        ),
        *(
            "endTime",
            "tuningJobMetadata",
            "baseModel",
            "tunedModelDisplayName",
            "preTunedModel",
            "description",
        ),
    )
    for state in ("RUNNING", "FAILED", "SUCCEEDED"):
        shown.detail({**job(state), **dict.fromkeys(fields, odd)}, NOW)
        for field in fields:
            shown.detail({**job(state), field: odd}, NOW)
    stats = {"supervisedTuningDataStats": {"userInputTokenDistribution": {"buckets": [odd], "min": odd}}}
    shown.detail(job(tuningDataStats=stats), NOW)


@pytest.mark.parametrize("kind", ErrorKind)
def test_every_trouble_has_words_and_advice_and_keeps_google_s_own_for_some(kind: ErrorKind) -> None:
    error = ApiError(kind, "denied to sa@project.iam.gserviceaccount.com")
    words = shown.trouble(error, "my_conn", in_full=False)
    assert words["title"]
    assert words["advice"]
    assert "gserviceaccount" not in str(words)
    assert "gserviceaccount" in shown.trouble(error, "my_conn", in_full=True)["details"]
