"""The list filter's grammar."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_tuning_provider.emulator.clock import parse_rfc3339
from airflow_tuning_provider.emulator.errors import ApiError
from airflow_tuning_provider.emulator.filters import Subject, parse_filter

JOB = Subject(
    state="JOB_STATE_RUNNING",
    display_name="my job 7",
    created=parse_rfc3339("2026-05-18T10:00:00.123456Z"),
    updated=parse_rfc3339("2026-05-18T11:00:00Z"),
    labels={"team": "a", "empty": "", "airflow-dag-id": "d"},
)


@pytest.mark.parametrize(
    ("text", "matches"),
    [
        ("", True),
        ("   ", True),
        ('state="JOB_STATE_RUNNING"', True),
        ("state=JOB_STATE_RUNNING", True),
        ("state = 'JOB_STATE_RUNNING'", True),
        ('state!="JOB_STATE_RUNNING"', False),
        ("state=JOB_STATE_FROBNICATING", False),
        ('display_name="my job 7"', True),
        ('displayName="my job 7"', True),
        ('tunedModelDisplayName="my job 7"', True),
        ('tuned_model_display_name="my job"', False),
        ('display_name="my job *"', True),
        ('display_name:"job"', True),
        ('display_name:"my*7"', True),
        ('display_name!="x"', True),
        ('create_time>"2026-05-18T00:00:00Z"', True),
        ("create_time>2026-05-18T09:59:59Z", True),
        ("create_time>=2026-05-18T12:00:00.123456+02:00", True),
        ('create_time="2026-05-18T10:00:00.123456Z"', True),
        ('createTime<"2026-05-18T10:00:00.123456Z"', False),
        ('create_time<="2026-05-18"', False),
        ('update_time>"2026-05-18T10:30:00Z"', True),
        ("labels.team=a", True),
        ('labels.team="a"', True),
        ("labels.team=b", False),
        ("labels.team!=b", True),
        ("labels.none!=b", True),
        ("labels.team:*", True),
        ("labels.empty:*", True),
        ("labels.none:*", False),
        ("labels:team", True),
        ("labels.airflow-dag-id=d", True),
        ('labels.empty=""', True),
        ("labels.team=a AND labels.none:*", False),
        ("labels.team=a labels.none:*", False),
        ("labels.none:* OR labels.team=a", True),
        ("NOT labels.none:*", True),
        ("-labels.team=a", False),
        ("NOT (labels.team=a AND state=JOB_STATE_RUNNING)", False),
        # OR binds tighter than AND.
        ("labels.none:* AND labels.team=a OR labels.team=a", False),
        ("labels.team=a OR labels.team=a AND labels.none:*", False),
        ("(labels.none:* AND labels.team=a) OR labels.team=a", True),
    ],
)
def test_what_matches(text: str, matches: bool) -> None:
    assert parse_filter(text).matches(JOB) is matches


@pytest.mark.parametrize(
    "text",
    [
        "state",
        "state=",
        "=x",
        "state==JOB_STATE_RUNNING",
        "state=RUNNING",
        "state>JOB_STATE_RUNNING",
        "state:JOB_STATE_RUNNING",
        'state="JOB_STATE_RUNNING',
        "(state=JOB_STATE_RUNNING",
        "state=JOB_STATE_RUNNING)",
        "state=JOB_STATE_RUNNING AND",
        "AND state=JOB_STATE_RUNNING",
        "state=JOB_STATE_RUNNING OR OR state=JOB_STATE_RUNNING",
        "NOT",
        "()",
        "create_time>yesterday",
        "create_time:2026-05-18",
        'create_time>"2026-13-01T00:00:00Z"',
        "labels.=x",
        "labels.a>b",
        "labels=x",
        "base_model=x",
        "(" * 5000,
        "NOT " * 5000 + "labels.a:*",
    ],
)
def test_malformed_filters(text: str) -> None:
    with pytest.raises(ApiError, match="Invalid filter") as e:
        parse_filter(text)
    assert e.value.http == 400


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("labels.a=b", ("a", "b")),
        ("state!=JOB_STATE_FAILED AND labels.a=b", ("a", "b")),
        ("labels.a=b OR labels.c=d", None),
        ("NOT labels.a=b", None),
        ("(labels.a=b)", None),
        ("labels.a!=b", None),
    ],
)
def test_the_label_index_is_used_only_where_it_cannot_lose_a_job(text: str, label: object) -> None:
    assert parse_filter(text).label == label


words = [
    "state",
    "labels.a",
    "=",
    "!=",
    ":",
    "*",
    "(",
    ")",
    "AND",
    "OR",
    "NOT",
    "-",
    '"',
    "JOB_STATE_FAILED",
    " ",
    "x",
]


@given(st.lists(st.sampled_from(words), max_size=12).map(" ".join) | st.text(max_size=20))
def test_any_text_is_a_filter_or_refused(text: str) -> None:
    try:
        parse_filter(text).matches(JOB)
    except ApiError as e:
        assert e.http == 400  # noqa: PT017
