"""The report: whole in one file, right in its figures, and whatever an example says stays text."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from airflow_tuning_provider.evaluation.comparison import Comparison
from airflow_tuning_provider.evaluation.metrics import resolve
from airflow_tuning_provider.evaluation.report import figure, p_value, render, signed
from airflow_tuning_provider.evaluation.run import Compared, Evaluation, Settings, Side, SideStats

EVIL = "</code></p><script>alert(1)</script>\"'><svg onload=alert(1)>{{ 7 * 7 }}"


class Page(HTMLParser):
    """Collects the tags, their attributes and the text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data: str) -> None:
        self.text += data


def page(tmp_path: Path, labels: list[str], **options: Any) -> str:
    """A report of twenty examples with two classes, the second of which is the first one's text."""
    lines = tmp_path / "lines"
    lines.write_text("x")
    comparison = Comparison(resolve(["accuracy", "macro_f1"]), labels)
    for i in range(20):
        comparison.add(labels[i % 2], labels[i % 2], labels[0])
    evaluation = Evaluation(
        lambda *_: {}, (Side("c"), Side("b")), lines, tmp_path / "a", tmp_path, Settings()
    )
    result = comparison.result()
    compared = Compared(result, 1, (SideStats(), SideStats()), [], [])
    data = evaluation.result(compared) | {"passed": True, "reasons": [EVIL]}
    return render(data, comparison=result, **options)


def row() -> dict[str, Any]:
    said = {"text": EVIL, "finish": "STOP"}
    blocked = {"blocked": "SAFETY"}
    return {"line": 3, "question": EVIL, "reference": EVIL, "candidate": said, "baseline": blocked,
            "scores": {"accuracy": (1.0, 0.0)}}  # fmt: skip


def test_nothing_an_example_says_becomes_markup(tmp_path: Path) -> None:
    html = page(
        tmp_path,
        [EVIL, "b"],
        worst=[row()],
        best=[row()],
        title=EVIL,
        facts={EVIL: EVIL, "list": [EVIL]},
        curves={f"{EVIL}_loss": [[0, 1.0], [1, 0.5]]},
        data_stats={"droppedExampleReasons": [EVIL], "tuningDatasetExampleCount": "5"},
    )
    found = Page(html)
    assert not {"script", "img", "iframe", "link", "object"} & set(found.tags)
    assert not [name for name, _ in found.attributes if name.startswith("on")]
    assert "{{ 7 * 7 }}" in html, "an example is no template"
    assert found.text.count("<script>alert(1)</script>") > 10
    assert "blocked: SAFETY" in found.text


def test_it_needs_nothing_from_anywhere(tmp_path: Path) -> None:
    html = page(tmp_path, ["a", "b"])
    found = Page(html)
    assert not [value for name, value in found.attributes if name in ("src", "href")]
    assert "url(" not in html
    assert "@import" not in html
    assert "content=\"default-src 'none'; style-src 'unsafe-inline'\"" in html
    assert "prefers-color-scheme: dark" in html
    assert "@media print" in html


def test_verdict_first_then_figures(tmp_path: Path) -> None:
    text = Page(page(tmp_path, ["a", "b"])).text
    words = re.sub(r"\s+", " ", text)
    assert words.index("The candidate is better: accuracy 1 against 0.5 on 20 examples") < words.index(
        "Metrics"
    )
    assert words.index("Metrics") < words.index("Confusion") < words.index("Answers, time and cost")
    assert "Gate passed" in words
    assert "+0.500" in words


def test_curves_and_histograms(tmp_path: Path) -> None:
    buckets = [{"count": 3, "left": 1, "right": 5}, {"count": 6, "left": 5, "right": 9}]
    html = page(
        tmp_path,
        ["a", "b"],
        curves={
            "/train_total_loss": [[0, 2.0], [10, 1.0]],
            "/eval_total_loss": [[0, 2.0], [5, 1.0], [10, 1.5]],
        },
        data_stats={"userInputTokenDistribution": {"buckets": buckets, "min": 1, "max": 9}},
    )
    found = Page(html)
    assert found.tags.count("polyline") == 2, "training and validation in one chart"
    assert "ends 50.0% above its lowest value" in found.text
    heights = [
        float(value)
        for name, value in found.attributes
        if name == "height" and re.fullmatch(r"[0-9.]+", value)
    ]
    assert {30.0, 60.0} <= set(heights)


@pytest.mark.parametrize(
    "options",
    [
        {"curves": {"x": []}, "data_stats": {"userInputTokenDistribution": None}},
        {"data_stats": {"userInputTokenDistribution": {"buckets": [{"count": 0}, None, {}]}}},
        {"curves": {"loss": [[0, 1.0]]}, "facts": {"a": None, "b": {}}},
    ],
)
def test_it_does_without_what_is_not_there(tmp_path: Path, options: dict[str, Any]) -> None:
    assert "Metrics" in page(tmp_path, ["a", "b"], **options)


def test_numbers_as_people_read_them() -> None:
    assert [figure(value) for value in (None, 1, 12345, 1.0, 0.12345, 123.456, "x")] == [
        "–", "1", "12,345", "1", "0.123", "123.5", "x",
    ]  # fmt: skip
    assert [signed(value) for value in (0.5, -0.25, 12.0)] == ["+0.500", "\N{MINUS SIGN}0.250", "+12.0"]
    assert [p_value(value) for value in (0.5, 0.012345, 1e-9)] == ["0.5", "0.012", "< 0.0001"]
