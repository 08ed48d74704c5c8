"""Each kind of bad input has a located error, or a repair that is told."""

from __future__ import annotations

import gzip
import io
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_tuning_provider.datasets.preparing import Preparation
from airflow_tuning_provider.datasets.problems import Report
from airflow_tuning_provider.datasets.reading import blocks, rows
from airflow_tuning_provider.datasets.rules import rules_for
from airflow_tuning_provider.datasets.splitting import Splitter
from airflow_tuning_provider.datasets.validating import Validator, most_validation

RULES = rules_for("gemini-3.5-flash")


def turn(role: str, text: str) -> dict[str, Any]:
    return {"role": role, "parts": [{"text": text}]}


def example(asked: str = "Hello?", answered: str = "greeting", **more: Any) -> dict[str, Any]:
    return {"contents": [turn("user", asked), turn("model", answered)], **more}


def line(*args: Any, **more: Any) -> bytes:
    return json.dumps(example(*args, **more)).encode()


GOOD = [line(f"Question {i}?", "ab"[i % 2]) for i in range(50)]


def validated(content: bytes, **kwargs: Any) -> tuple[Any, Report]:
    report = Report()
    seen = Validator(RULES, report, **kwargs).validate(lambda: io.BytesIO(content), "gs://b/f.jsonl")
    return seen, report


def found(content: bytes, **kwargs: Any) -> list[tuple[str, int | None, str]]:
    _, report = validated(content, **kwargs)
    return [(problem.code, problem.line, problem.path) for problem in report.first]


def among(bad: bytes) -> bytes:
    """The bad line is the 31st, so that those before it have made the reading fast."""
    return b"\n".join([*GOOD[:30], bad, *GOOD[30:]]) + b"\n"


def raw(**fields: Any) -> bytes:
    return json.dumps(fields).encode()


BAD_LINES = {
    "truncated": (GOOD[0][:-3], "json", ""),
    "bad utf-8": (GOOD[0].replace(b"Question", b"Quest\xffon"), "utf8", ""),
    "nul": (GOOD[0].replace(b"Question", b"Quest\0on"), "nul", ""),
    "control": (GOOD[0].replace(b"Question", b"Quest\x01on"), "json", ""),
    "duplicate key": (GOOD[0].replace(b'{"text"', b'{"text": "x", "text"'), "duplicate_key", "text"),
    "duplicate key, spaced": (
        GOOD[0].replace(b'{"text"', b'{"text"  : "x", "text"'),
        "duplicate_key",
        "text",
    ),
    "duplicate contents": (b'{"contents": [], ' + GOOD[0][1:], "duplicate_key", "contents"),
    "deep": (b'{"contents": ' + b"[" * 3000 + b"]" * 3000 + b"}", "depth", ""),
    "a list": (b"[1]", "type", ""),
    "NaN": (GOOD[0][:-1] + b', "labels": NaN}', "json", ""),
    "no contents": (raw(text="x"), "missing", "contents"),
    "openai": (raw(messages=[{"role": "user", "content": "x"}]), "missing", "contents"),
    "assistant": (raw(contents=[turn("user", "x"), turn("assistant", "y")]), "role", "contents[1].role"),
    "last turn": (raw(contents=[turn("user", "x")]), "last_turn", "contents[0].role"),
    "model first": (raw(contents=[turn("model", "x"), turn("user", "y")]), "turns", "contents[0].role"),
    "twice the user": (
        raw(contents=[turn("user", "x"), turn("user", "y"), turn("model", "z")]),
        "turns",
        "contents[1].role",
    ),
    "no parts": (raw(contents=[{"role": "user"}, turn("model", "y")]), "parts", "contents[0].parts"),
    "a number": (
        raw(contents=[{"role": "user", "parts": [{"text": 3}]}, turn("model", "y")]),
        "type",
        "contents[0].parts[0].text",
    ),
    "surrogate": (GOOD[0].replace(b"Question", b"\\ud800"), "surrogate", "contents[0].parts[0].text"),
    "empty part": (
        raw(contents=[{"role": "user", "parts": [{}]}, turn("model", "y")]),
        "part",
        "contents[0].parts[0]",
    ),
    "one completion": (
        raw(contents=[turn("user", "x")], completions=[{"score": 1, "completion": turn("model", "y")}]),
        "completions",
        "completions",
    ),
}


@pytest.mark.parametrize("name", BAD_LINES)
def test_a_bad_line_among_good_ones_is_located(name: str) -> None:
    bad, code, path = BAD_LINES[name]
    problems = found(among(bad))
    assert (code, 31, path) in problems
    assert {number for _, number, _ in problems} == {31}
    seen, report = validated(among(bad))
    assert seen.examples == 50
    assert report.errors >= 1


def test_a_file_without_examples() -> None:
    for content in (b"", b"\n\n", b"  \n"):
        assert found(content) == [("empty", None, "")]


def test_one_line_of_50_mb_is_told_and_not_kept() -> None:
    huge = b"x" * (50 << 20)
    seen, report = validated(b"\n".join([*GOOD[:3], huge, *GOOD[3:]]))
    assert [(p.code, p.line) for p in report.first] == [("too_long", 4)]
    assert seen.examples == 50


@pytest.mark.parametrize(
    ("encode", "code"),
    [
        (lambda text: b"\xef\xbb\xbf" + text, "bom"),
        (lambda text: text.decode().encode("utf-16"), "utf16"),
        (lambda text: text.decode().encode("utf-16-be"), "utf16"),
        (lambda text: text.decode().encode("utf-16-le"), "utf16"),
        (gzip.compress, "gzip"),
        (lambda text: gzip.compress(text[:700]) + gzip.compress(text[700:]), "gzip"),
        (lambda text: text.replace(b"\n", b"\r\n"), None),
    ],
)
def test_what_can_be_repaired_is(encode: Any, code: str | None) -> None:
    content = encode(b"\n".join(GOOD) + b"\n")
    _, report = validated(content)
    # Whoever reads the file as it is does not repair it.
    assert [(p.code, p.severity) for p in report.first] == ([(code, "error")] if code else [])
    told: list[Any] = []
    lines = [line for _, block, _ in blocks(io.BytesIO(content), told.append) for line in block]
    assert lines == GOOD or lines == [*GOOD, b""]
    assert [(p.code, p.severity) for p in told] == ([(code, "warning")] if code else [])


@pytest.mark.parametrize("cut", [20, 200, -1, -8])
def test_a_truncated_gzip_says_where(cut: int) -> None:
    packed = gzip.compress(b"\n".join(GOOD) + b"\n")
    problems = found(packed[:cut])
    assert [code for code, *_ in problems if code == "gzip"] == ["gzip", "gzip"]
    assert any(code == "gzip" and number for code, number, _ in problems[1:])


def test_a_broken_gzip_is_told() -> None:
    packed = bytearray(gzip.compress(b"\n".join(GOOD) + b"\n"))
    packed[60] ^= 0xFF
    assert found(bytes(packed))[1][0] in ("gzip", "json", "utf8", "nul")


def test_half_a_character_of_utf_16_is_told() -> None:
    content = b"\n".join(GOOD).decode().encode("utf-16")[:-1]
    assert "utf16" in [code for code, *_ in found(content)[1:]]


def test_equal_lines_name_the_first_one() -> None:
    seen, report = validated(b"\n".join([*GOOD, GOOD[7], GOOD[3], GOOD[7]]))
    assert seen.duplicates == 3
    texts = {problem.line: problem.message for problem in report.first}
    assert texts == {
        51: "the line is the same as line 8",
        52: "the line is the same as line 4",
        53: "the line is the same as line 8",
    }


def test_sets_that_overlap() -> None:
    report = Report()
    validator = Validator(RULES, report)
    train = b"\n".join([*GOOD, line("Shared?", "x")])
    held = b"\n".join([line("Shared?", "another answer"), line("Own?", "x")])
    train_seen, held_seen = validator.validate_both(
        lambda: io.BytesIO(train), "t", lambda: io.BytesIO(held), "v"
    )
    assert [(p.code, p.file, p.line) for p in report.first] == [("overlap", "t", 51)]
    assert (train_seen.examples, held_seen.examples) == (51, 2)


def test_a_longer_conversation_overlaps_too() -> None:
    long = raw(contents=[turn("user", "a"), turn("model", "b"), turn("user", "c"), turn("model", "d")])
    other = raw(contents=[turn("user", "a"), turn("model", "b"), turn("user", "c"), turn("model", "e")])
    report = Report()
    Validator(RULES, report).validate_both(
        lambda: io.BytesIO(b"\n".join([long.replace(b'"a"', b'"z"'), long])),
        "t",
        lambda: io.BytesIO(b"\n".join([other, line()])),
        "v",
    )
    assert [(p.code, p.line) for p in report.first] == [("overlap", 2)]


def test_a_validation_set_that_is_too_large() -> None:
    assert most_validation(RULES, 100) == 1000
    assert most_validation(RULES, 10_000) == 3000
    assert most_validation(RULES, 10_000_000) == 5000
    report = Report()
    Validator(rules_for(overrides={"max_validation_examples": 3}), report).validate_both(
        lambda: io.BytesIO(b"\n".join(GOOD[10:])), "t", lambda: io.BytesIO(b"\n".join(GOOD[:10])), "v"
    )
    assert [(p.code, p.severity, p.file) for p in report.first] == [("validation_size", "warning", "v")]


def test_images_where_the_model_takes_none() -> None:
    picture = {"role": "user", "parts": [{"fileData": {"mimeType": "image/png", "fileUri": "gs://b/x.png"}}]}
    supervised = raw(contents=[picture, turn("model", "y")])
    assert found(supervised) == []
    completions = [{"score": i, "completion": turn("model", str(i))} for i in (0, 1)]
    where = ("media", 1, "contents[0].parts[0].fileData.mimeType")
    assert found(raw(contents=[picture], completions=completions)) == [where]


def test_what_is_too_long_for_the_model_is_a_warning() -> None:
    _, report = validated(line("word " * 200_000))
    assert [(p.code, p.severity, p.line) for p in report.first] == [("too_many_tokens", "warning", 1)]


def test_strict_makes_errors_of_warnings() -> None:
    report = Report(strict=True)
    Validator(RULES, report).validate(lambda: io.BytesIO(GOOD[0] + b"\n" + GOOD[0]), "f")
    assert report.errors == 1


def test_a_users_own_check_is_asked_about_every_example() -> None:
    def check(example: dict[str, Any]) -> str | None:
        return "private" if "7" in example["contents"][0]["parts"][0]["text"] else None

    assert [number for code, number, _ in found(b"\n".join(GOOD), user_check=check)] == [8, 18, 28, 38, 48]


# -- CSV ----------------------------------------------------------------------------------------------


def csv_rows(content: bytes) -> tuple[list[tuple[int, dict[str, str]]], list[tuple[str, int | None]]]:
    told: list[Any] = []
    return list(rows(io.BytesIO(content), told.append)), [(p.code, p.line) for p in told]


def test_csv_rows_know_their_lines() -> None:
    content = b'\xef\xbb\xbftext,label\r\n"two\r\nlines",a\r\n\r\nb,c\r\n'
    good, problems = csv_rows(content)
    assert good == [(2, {"text": "two\nlines", "label": "a"}), (5, {"text": "b", "label": "c"})]
    assert problems == [("bom", 1)]


def test_bad_csv_is_located() -> None:
    content = b'text,label\na,b\na,b,c\nonly\n\xff,b\n"a"x,b\nn\0ul,b\nd,e\n'
    good, problems = csv_rows(content)
    assert [row["text"] for _, row in good] == ["a", "d"]
    assert problems == [("ragged", 3), ("ragged", 4), ("utf8", 5), ("csv", 6), ("nul", 7)]


@pytest.mark.parametrize("header", [b"a,a\n1,2\n", b"a,\n1,2\n"])
def test_a_header_has_each_name_once(header: bytes) -> None:
    assert csv_rows(header) == ([], [("header", 1)])


def test_a_quote_that_is_never_closed_is_told() -> None:
    _, problems = csv_rows(b'text,label\na,b\n"open,b\n' + b"more,lines\n" * 100)
    assert problems == [("quote", 3)]


# -- the fast way is no other way ---------------------------------------------------------------------

_TEXT = st.text(max_size=12) | st.sampled_from(['":', '" :', "a: b", '\\":', "é", "\x00", '"role"'])


@st.composite
def _lines(draw: st.DrawFn) -> bytes:
    turns = draw(st.lists(_TEXT, min_size=1, max_size=5))
    contents: list[Any] = [turn(("user", "model")[i % 2], text) for i, text in enumerate(turns)]
    whole: dict[str, Any] = {"contents": contents}
    if draw(st.booleans()):
        whole["systemInstruction"] = draw(
            st.sampled_from([turn("system", "x"), {"parts": [{"text": "x: y"}]}])
        )
    if draw(st.integers(0, 5)) == 0:
        contents[0].update(
            draw(st.sampled_from([{"role": "model"}, {"parts": []}, {"extra": 1}, {"role": 3}]))
        )
    separators = draw(st.sampled_from([(", ", ": "), (",", ":"), (" , ", " : "), (",", "\t:")]))
    text = json.dumps(whole, ensure_ascii=draw(st.booleans()), separators=separators)
    if draw(st.integers(0, 5)) == 0:
        text = text.replace(
            '{"text"', draw(st.sampled_from(['{"text" :"", "text"', '{"text":"", "text"'])), 1
        )
    return text.encode()


@settings(deadline=None)
@given(st.lists(_lines(), min_size=1, max_size=12))
def test_the_fast_way_says_what_the_slow_one_says(lines: list[bytes]) -> None:
    content = b"\n".join([*GOOD[:3], *lines, *GOOD[3:6]])
    fast, slow = validated(content), validated(content, user_check=lambda _: None)
    assert fast[1].first == slow[1].first
    assert fast[0].examples == slow[0].examples
    assert fast[0].tokens == slow[0].tokens


@settings(deadline=None)
@given(st.binary(max_size=300), st.integers(1, 40))
def test_whatever_the_bytes_reading_ends_and_numbers_lines(content: bytes, limit: int) -> None:
    told: list[Any] = []
    number = 1
    for first, lines, _ in blocks(io.BytesIO(content), told.append, max_line_bytes=limit):
        assert first == number
        number += len(lines)
    validated(content)
    list(rows(io.BytesIO(content), told.append))
    preparation = Preparation(RULES, Report(), splitter=Splitter({"train": 1}))
    preparation.read(io.BytesIO(content), "f")
    preparation.read(io.BytesIO(content), "f", csv=True)
