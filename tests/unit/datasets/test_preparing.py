"""From rows to sets: formats, split, duplicates, leaks, numbers."""

from __future__ import annotations

import io
import json
from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_tuning_provider.api.inputs import InvalidInputError
from airflow_tuning_provider.datasets.converting import ConversionError, Converter
from airflow_tuning_provider.datasets.cost import job_cost, spent, tokens_of
from airflow_tuning_provider.datasets.duplicates import Duplicates
from airflow_tuning_provider.datasets.measuring import question
from airflow_tuning_provider.datasets.preparing import Preparation, Prepared, detect_csv
from airflow_tuning_provider.datasets.problems import BrokenDataError, Report
from airflow_tuning_provider.datasets.rules import rules_for, training_price
from airflow_tuning_provider.datasets.splitting import Splitter
from tests.unit.datasets.test_bad_input import RULES, example, turn

SHARES = {"train": 0.6, "validation": 0.2, "held_out": 0.2}


def prepared(rows: list[Any], report: Report | None = None, **kwargs: Any) -> Prepared:
    preparation = Preparation(
        RULES,
        report or Report(),
        splitter=Splitter(kwargs.pop("split", SHARES), kwargs.pop("seed", "")),
        **kwargs,
    )
    preparation.read(
        io.BytesIO(b"".join(json.dumps(row).encode() + b"\n" for row in rows)), "gs://b/rows.jsonl"
    )
    return preparation.finish()


def content(result: Prepared) -> dict[str, list[Any]]:
    found = {}
    for split, file in result.files.items():
        file.file.seek(0)
        found[split] = [json.loads(line) for line in file.file]
    return found


def of_all(result: Prepared) -> list[Any]:
    return [row for some in content(result).values() for row in some]


# -- conversions -----------------------------------------------------------------------------------------


def test_gemini_stays_as_it_is() -> None:
    row = example(
        tools=[{"functionDeclarations": [{"name": "f"}]}], generationConfig={"mediaResolution": "LOW"}
    )
    assert Converter()(row) == row


def test_the_retired_format() -> None:
    row = {
        "messages": [
            {"role": "system", "content": "Be kind."},
            {"role": "user", "content": "Hi"},
            {"role": "model", "content": "Hello"},
        ]
    }
    assert Converter()(row) == {
        "systemInstruction": turn("system", "Be kind."),
        "contents": [turn("user", "Hi"), turn("model", "Hello")],
    }
    with pytest.raises(ConversionError) as refused:
        Converter("messages")({"messages": [{"role": "assistant", "content": "x"}]})
    assert refused.value.path == "messages[0].role"


def test_openai_chat_with_tools_and_images() -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Rome"}'}}
    row = {
        "messages": [
            {"role": "developer", "content": "Be kind."},
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "Look"},
                    {"type": "image_url", "image_url": {"url": "https://x.org/a.png?b=c"}},
                    {"type": "image_url", "image_url": {"url": "data:image/gif;base64,R0lG"}},
                ],
            },
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "c1", "content": '{"sky": "blue"}'},
            {"role": "assistant", "content": "Sunny."},
        ],
        "tools": [
            {
                "type": "function",
                "function": {"name": "weather", "parameters": {"type": "object"}, "strict": 1},
            }
        ],
    }
    assert Converter()(row) == {
        "systemInstruction": turn("system", "Be kind."),
        "contents": [
            {
                "role": "user",
                "parts": [
                    {"text": "Look"},
                    {"fileData": {"mimeType": "image/png", "fileUri": "https://x.org/a.png?b=c"}},
                    {"inlineData": {"mimeType": "image/gif", "data": "R0lG"}},
                ],
            },
            {"role": "model", "parts": [{"functionCall": {"name": "weather", "args": {"city": "Rome"}}}]},
            {
                "role": "user",
                "parts": [{"functionResponse": {"name": "weather", "response": {"sky": "blue"}}}],
            },
            turn("model", "Sunny."),
        ],
        "tools": [{"functionDeclarations": [{"name": "weather", "parameters": {"type": "object"}}]}],
    }
    assert of_all(prepared([row]))


@pytest.mark.parametrize(
    ("messages", "path"),
    [
        ([], "messages"),
        (["x"], "messages[0]"),
        ([{"role": "model", "content": "x"}], "messages[0].role"),
        ([{"role": "user", "content": 3}], "messages[0].content"),
        ([{"role": "user", "content": [{"type": "input_audio"}]}], "messages[0].content[0]"),
        ([{"role": "tool", "content": "x"}], "messages[0].tool_call_id"),
        ([{"role": "user", "content": "x"}, {"role": "system", "content": "y"}], "messages[1].role"),
        ([{"role": "assistant", "content": "x", "weight": 0}], "messages[0].weight"),
        (
            [{"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "{"}}]}],
            "messages[0].tool_calls[0].function.arguments",
        ),
    ],
)
def test_bad_chats_are_located(messages: Any, path: str) -> None:
    with pytest.raises(ConversionError) as refused:
        Converter("openai")({"messages": messages})
    assert refused.value.path == path


def test_two_columns_with_a_template() -> None:
    convert = Converter(question="{title}: {text}", answer="{stars}", system_instruction="Rate it.")
    assert convert({"title": "Tea", "text": "good {sic}", "stars": 5}) == {
        "systemInstruction": turn("system", "Rate it."),
        "contents": [turn("user", "Tea: good {sic}"), turn("model", "5")],
    }
    for row, path in (({"title": "x", "text": " ", "stars": 1}, "text"), ({"title": "x"}, "text")):
        with pytest.raises(ConversionError) as refused:
            convert(row)
        assert refused.value.path == path


@pytest.mark.parametrize("template", ["", "no column", "{", "{}", "{a.b!r}", "{a:>9}"])
def test_templates_name_columns_and_nothing_else(template: str) -> None:
    with pytest.raises(InvalidInputError):
        Converter(question=template)


def test_preference_pairs() -> None:
    plain = Converter()({"prompt": "Hi", "chosen": "Hello!", "rejected": "What?"})
    chat = Converter()(
        {
            "prompt": [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hi"}],
            "chosen": [{"role": "assistant", "content": "Hello!"}],
            "rejected": [{"role": "assistant", "content": "What?"}],
        }
    )
    assert chat.pop("systemInstruction") == turn("system", "Be kind.")
    assert plain == chat
    assert [item["score"] for item in plain["completions"]] == [1.0, 0.0]
    result = prepared([{"prompt": str(i), "chosen": "yes", "rejected": "no"} for i in range(20)])
    assert len(of_all(result)) == 20
    assert result.classes is None


def test_a_users_own_conversion() -> None:
    def convert(row: Any) -> Any:
        return example(row["q"], row["a"])

    report = Report()
    result = prepared([{"q": "x", "a": "y"}, {"q": "z"}], report, convert=convert, split={"train": 1})
    assert of_all(result) == [example("x", "y")]
    assert [(p.code, p.line) for p in report.first if p.severity == "error"] == [("conversion", 2)]


# -- what comes out -----------------------------------------------------------------------------------------


def test_numbers_of_a_labelled_set() -> None:
    rows = [
        {"text": f"Message {i}", "label": ("good", "bad", "rare")[0 if i % 3 else 1 if i else 2]}
        for i in range(300)
    ]
    report = Report()
    result = prepared([*rows, *rows[:10], {"text": "", "label": "good"}], report, seed="1")
    counts = {split: file.examples for split, file in result.files.items()}
    assert sum(counts.values()) == 300
    assert result.dropped == {"conversion": 1, "duplicate": 10}
    assert result.classes is not None
    assert {split: sum(some.values()) for split, some in result.classes.items()} == counts
    rare = next(split for split, some in result.classes.items() if some["rare"])
    assert rare == "train", "else choose another seed"
    assert result.missing_classes == {"validation": ["rare"], "held_out": ["rare"]}
    assert result.tokens["low"] < result.tokens["estimate"] < result.tokens["high"]
    codes = Counter(problem.code for problem in report.first)
    assert codes == {"conversion": 1, "duplicate": 1, "missing_class": 2}
    assert [(p.line, p.path) for p in report.first if p.code == "conversion"] == [(311, "text")]


def test_tokens_of_preferences_count_the_prompt_twice() -> None:
    one = prepared([{"prompt": "p" * 400, "chosen": "c" * 40, "rejected": "r" * 40}], split={"train": 1})
    assert one.tokens["estimate"] == (2 * 400 + 80) / 4


def test_the_sets_do_not_depend_on_what_else_there_is() -> None:
    rows = [{"text": f"Message {i}", "label": "x"} for i in range(200)]
    few, many = content(prepared(rows[:100])), content(prepared(rows))
    for split, some in few.items():
        assert [row for row in some if row not in many[split]] == []
    assert content(prepared(rows, seed="2")) != many


def test_no_training_example_is_an_error() -> None:
    with pytest.raises(BrokenDataError):
        prepared([])


def test_surplus_validation_examples_are_left_out() -> None:
    rows = [{"text": f"Message {i}", "label": "x"} for i in range(60)]
    report = Report()
    preparation = Preparation(
        rules_for(overrides={"max_validation_examples": 5}), report, splitter=Splitter(SHARES)
    )
    preparation.read(io.BytesIO("\n".join(map(json.dumps, rows)).encode()), "f")
    result = preparation.finish()
    assert result.files["validation"].examples == 5
    assert result.dropped["validation_size"] > 0
    assert "validation_size" in report.codes


def test_what_is_too_long_is_located() -> None:
    report = Report()
    prepared([example(), example("word " * 200_000)], report, split={"train": 1})
    assert [(p.code, p.line) for p in report.first] == [("too_many_tokens", 2), ("few_examples", None)]


def test_a_row_without_its_group_is_located() -> None:
    report = Report()
    prepared(
        [{"text": "a", "label": "b", "id": 3}, {"text": "c", "label": "d"}],
        report,
        group_by="id",
        split={"train": 1},
    )
    assert [(p.code, p.line, p.path) for p in report.first if p.severity == "error"] == [("group", 2, "id")]


def test_the_group_is_no_field_of_the_example() -> None:
    result = prepared([example(customer="c1")], group_by="customer", split={"train": 1})
    assert of_all(result) == [example()]


@pytest.mark.parametrize(
    "shares",
    [
        {},
        {"train": 0},
        {"train": 0.5},
        {"train": 1, "test": 0},
        {"train": "x"},
        {"train": True},
        {"validation": 1},
    ],
)
def test_shares_that_are_none(shares: Any) -> None:
    with pytest.raises(InvalidInputError):
        Splitter(shares)


_ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "text": st.sampled_from([f"question {i}" for i in range(12)]),
            "label": st.sampled_from("ab"),
            "customer": st.sampled_from(["c1", "c2", "c3", "c4"]),
        }
    ),
    min_size=1,
    max_size=40,
)


@settings(deadline=None)
@given(_ROWS, st.booleans(), st.text(max_size=3))
def test_nothing_leaks_nothing_is_twice_and_nothing_is_lost(
    rows: list[Any], grouped: bool, seed: str
) -> None:
    try:
        result = prepared(rows, group_by="customer" if grouped else None, seed=seed)
    except BrokenDataError:
        return
    sets = content(result)
    asked = {split: {question(row) for row in some} for split, some in sets.items()}
    names = sorted(sets)
    for i, one in enumerate(names):
        for other in names[i + 1 :]:
            assert not asked[one] & asked[other]
    everything = [json.dumps(row, sort_keys=True) for row in of_all(result)]
    assert len(set(everything)) == len(everything)
    assert len(rows) == len(everything) + sum(result.dropped.values())
    # Whatever a row says is in one set, unless its question is in another one.
    if not grouped:
        assert {(row["text"], row["label"]) for row in rows} == {
            (row["contents"][0]["parts"][0]["text"], row["contents"][1]["parts"][0]["text"])
            for row in of_all(result)
        }
    assert {question(row) for row in of_all(result)} == {row["text"] for row in rows}
    again = prepared(rows, group_by="customer" if grouped else None, seed=seed)
    assert again.content_hash == result.content_hash
    assert [file.sha256 for file in again.files.values()] == [file.sha256 for file in result.files.values()]


# -- duplicates ---------------------------------------------------------------------------------------------


@settings(deadline=None)
@given(st.lists(st.binary(max_size=3)), st.integers(0, 3), st.integers(1, 7))
def test_only_equal_lines_are_duplicates_however_digests_collide(
    lines: list[bytes], bits: int, step: int
) -> None:
    lines = [line.replace(b"\n", b"") for line in lines]
    finder = Duplicates(lambda line: hash(line) & ((1 << bits) - 1))
    for at in range(0, len(lines), step):
        finder.add(lines[at : at + step])
    if finder.suspects():
        for at in range(0, len(lines), step):
            finder.confirm(lines[at : at + step])
    expected = [line.strip() != b"" and line in lines[:i] for i, line in enumerate(lines)]
    assert [finder.repeats(i) for i in range(len(lines))] == expected
    assert finder.count == sum(expected)


def test_many_lines_go_through_the_disk() -> None:
    finder = Duplicates()
    lines = [b"%d" % (i % 1_100_000) for i in range(1_100_000 + 5)]
    for at in range(0, len(lines), 100_000):
        finder.add(lines[at : at + 100_000])
    assert finder.suspects()
    for at in range(0, len(lines), 100_000):
        finder.confirm(lines[at : at + 100_000])
    assert finder.count == 5
    assert finder.examples == [(1_100_000 + i, i) for i in range(5)]


# -- cost and rules -----------------------------------------------------------------------------------------


def test_cost_is_tokens_times_epochs_times_price() -> None:
    cost = job_cost(model="publishers/google/models/gemini-3.1-flash-lite", tokens=437_500, epochs=40)
    assert cost.dollars == pytest.approx(52.5)
    assert job_cost(model="mine", tokens=10**6, epochs=2, prices={"mine": 4}).dollars == 8


@pytest.mark.parametrize(
    ("given", "missing"),
    [
        ({"epochs": None}, "epoch_count"),
        ({"tokens": None}, "dataset_manifest"),
        ({"model": "unheard"}, "prices"),
    ],
)
def test_an_unknown_cost_says_what_to_do(given: dict[str, Any], missing: str) -> None:
    cost = job_cost(**{"model": "gemini-3.5-flash", "tokens": 1, "epochs": 1, **given})
    assert cost.dollars is None
    assert missing in cost.why


def test_prices_and_rules_that_are_none() -> None:
    for prices in ({"m": -1}, {"m": "x"}, {"m": True}, {"m": float("nan")}):
        with pytest.raises(InvalidInputError):
            training_price("m", prices)
    for rules in ({"unheard": 1}, {"max_examples": "x"}, {"media": [3]}, {"bytes_per_token": [1.0]}):
        with pytest.raises(InvalidInputError):
            rules_for(overrides=rules)
    assert rules_for("gemini-3.1-flash-lite", {"max_examples": 7}).max_examples == 7


def test_spent_adds_up_and_names_what_it_cannot_count() -> None:
    job = {
        "name": "j1",
        "baseModel": "gemini-3.5-flash",
        "supervisedTuningSpec": {"hyperParameters": {"epochCount": "2"}},
        "tuningDataStats": {"supervisedTuningDataStats": {"totalBillableTokenCount": "500000"}},
    }
    assert spent([job, {**job, "name": "j2", "tuningDataStats": {}}]) == (10.0, ["j2"])


def test_tokens_of_whatever_is_given() -> None:
    assert tokens_of({"tokens": {"estimate": 3}}) == 3
    for other in (None, "x", {}, {"tokens": None}, {"tokens": {"estimate": "x"}}):
        assert tokens_of(other) is None


def test_csv_by_its_name() -> None:
    assert [detect_csv(name) for name in ("a.CSV", "a.csv.gz", "a.tsv", "a.jsonl")] == [",", ",", "\t", None]
