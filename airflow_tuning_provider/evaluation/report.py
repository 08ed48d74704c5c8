"""One self-contained HTML page about an evaluation: no script, no request to anywhere, every text escaped."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from airflow_tuning_provider.api.inputs import as_int, as_list, as_mapping
from airflow_tuning_provider.evaluation.comparison import OTHER, Result, confusions
from airflow_tuning_provider.evaluation.gate import validation_loss_rise

_TEMPLATE = Path(__file__).with_name("report.html")
_COLOURS = ("var(--candidate)", "var(--baseline)", "var(--third)", "var(--fourth)")
_MOST_CURVES = 6
_WIDTH, _HEIGHT = 460, 150

Json = dict[str, Any]


def render(
    result: Mapping[str, Any],
    *,
    comparison: Result,
    worst: Sequence[Mapping[str, Any]] = (),
    best: Sequence[Mapping[str, Any]] = (),
    curves: Mapping[str, Any] | None = None,
    data_stats: Mapping[str, Any] | None = None,
    title: str = "Evaluation of a tuned model",
    facts: Mapping[str, Any] | None = None,
) -> str:
    """Return the page.

    :param result: what goes to XCom, see :meth:`airflow_tuning_provider.evaluation.run.Evaluation.result`.
    :param comparison: the comparison, for the confusion.
    :param worst: examples that the candidate has become worst at: question, reference, both answers, scores.
    :param best: those that it has gained most on.
    :param curves: the job's curves: names to ``[[step, value], ...]``.
    :param data_stats: the job's data statistics, as the API gives them.
    :param facts: what else belongs to the record: names to texts or JSON data.
    """
    from jinja2 import Environment, select_autoescape

    environment = Environment(
        autoescape=select_autoescape(default=True), trim_blocks=True, lstrip_blocks=True, auto_reload=False
    )
    environment.filters |= {"figure": figure, "signed": signed, "p": p_value, "share": share}
    template = environment.from_string(_TEMPLATE.read_text(encoding="utf-8"))
    return template.render(
        title=title,
        result=result,
        metrics=_metric_rows(result),
        confusions=_confusions(comparison),
        examples=[("Worst regressions", list(worst)), ("Best gains", list(best))],
        curves=_curves(curves),
        loss_rise=validation_loss_rise(curves),
        histograms=_histograms(data_stats),
        data=_data_rows(data_stats),
        facts=_facts(facts),
        roles=("candidate", "baseline"),
    )


def figure(value: object) -> str:
    """Return a number as people read it."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return "–" if value is None else str(value)
    if value == int(value):
        return f"{int(value):,}"
    return f"{value:.3f}" if abs(value) < 10 else f"{value:,.1f}"


def signed(value: float) -> str:
    """Return a difference with its sign."""
    text = f"{value:+.3f}" if abs(value) < 10 else f"{value:+,.1f}"
    return text.replace("-", "\N{MINUS SIGN}")


def p_value(value: float) -> str:
    """Return a p-value; below a ten-thousandth its size says nothing more."""
    return "< 0.0001" if value < 0.0001 else f"{value:.2g}"


def share(value: float) -> str:
    """Return a share in percent."""
    return f"{value:.1%}"


def _metric_rows(result: Mapping[str, Any]) -> list[Json]:
    metrics = as_mapping(result.get("metrics"))
    # Scores up to 1 share a scale, and so do those up to 100.
    spans: dict[bool, float] = {}
    for values in metrics.values():
        spans[_is_large(values)] = max(
            spans.get(_is_large(values), 0.0), abs(values["low"]), abs(values["high"]), 1e-9
        )
    return [
        {"name": name, **values, "plot": _interval(values, spans[_is_large(values)]), "state": _state(values)}
        for name, values in metrics.items()
    ]


def _is_large(values: Mapping[str, Any]) -> bool:
    return bool(max(abs(values["candidate"]), abs(values["baseline"])) > 1.5)


def _state(values: Mapping[str, Any]) -> str:
    low, high = values["low"], values["high"]
    if low <= 0 <= high:
        return "undecided"
    return "better" if (low > 0) is values.get("greater_is_better", True) else "worse"


def _interval(values: Mapping[str, Any], span: float) -> Json:
    def place(value: float) -> float:
        return round(110 + 100 * value / span, 2)

    low, high = place(values["low"]), place(values["high"])
    return {"low": low, "width": max(round(high - low, 2), 1.0), "dot": place(values["difference"])}


def _confusions(comparison: Result) -> list[Json]:
    if not comparison.labels:
        return []
    tables = []
    for role, confusion in zip(("Candidate", "Baseline"), confusions(comparison.outcomes), strict=True):
        others = OTHER in {answer for _, answer in confusion}
        columns = [*comparison.labels, OTHER] if others else list(comparison.labels)
        rows = []
        for label in comparison.labels:
            counts = [confusion.get((label, answer), 0) for answer in columns]
            total = sum(counts)
            cells = [
                {
                    "count": count,
                    "strength": round(100 * count / total) if total else 0,
                    "right": answer == label,
                }
                for answer, count in zip(columns, counts, strict=True)
            ]
            rows.append({"label": label, "cells": cells})
        tables.append({"role": role, "columns": columns, "rows": rows})
    return tables


def _curves(curves: Mapping[str, Any] | None) -> list[Json]:
    """Return the curves as charts: training and validation of the same quantity in one."""
    groups: dict[str, dict[str, list[tuple[float, float]]]] = {}
    for name, points in (curves or {}).items():
        pairs = [(float(x), float(y)) for x, y in (point[:2] for point in points)]
        quantity = str(name).removeprefix("/").removeprefix("train_").removeprefix("eval_")
        if pairs:
            groups.setdefault(quantity, {})[str(name).removeprefix("/")] = pairs
    return [_chart(quantity, lines) for quantity, lines in list(groups.items())[:_MOST_CURVES]]


def _chart(title: str, lines: Mapping[str, Sequence[tuple[float, float]]]) -> Json:
    xs = [x for points in lines.values() for x, _ in points]
    ys = [y for points in lines.values() for _, y in points]
    left, right, bottom, top = min(xs), max(xs), min(ys), max(ys)

    def place(point: tuple[float, float]) -> str:
        x = (point[0] - left) / (right - left or 1) * (_WIDTH - 60) + 50
        y = (1 - (point[1] - bottom) / (top - bottom or 1)) * (_HEIGHT - 20) + 10
        return f"{x:.1f},{y:.1f}"

    return {
        "title": title.replace("_", " "),
        "low": figure(bottom),
        "high": figure(top),
        "first": figure(left),
        "last": figure(right),
        "lines": [
            {
                "name": name.replace("_", " "),
                "points": " ".join(map(place, points)),
                "colour": _COLOURS[index % len(_COLOURS)],
                "end": figure(points[-1][1]),
            }
            for index, (name, points) in enumerate(lines.items())
        ],
    }


def _histograms(stats: Mapping[str, Any] | None) -> list[Json]:
    titles = {
        "userInputTokenDistribution": "Tokens of a question",
        "userOutputTokenDistribution": "Tokens of an answer",
    }
    found = []
    for field, title in titles.items():
        distribution = as_mapping((stats or {}).get(field))
        buckets = [bucket for bucket in as_list(distribution.get("buckets")) if isinstance(bucket, Mapping)]
        counts = [float(bucket.get("count", 0) or 0) for bucket in buckets]
        if not counts or not max(counts):
            continue
        width = 100 / len(counts)
        bars = [
            {
                "x": round(index * width, 2),
                "width": round(width * 0.9, 2),
                "height": round(60 * count / max(counts), 2),
                "text": f"{_edge(bucket, 'left')} to {_edge(bucket, 'right')}: {count:.0f}",
            }
            for index, (bucket, count) in enumerate(zip(buckets, counts, strict=True))
        ]
        shown = {
            key: figure(float(distribution[key]))
            for key in ("min", "median", "p95", "max")
            if key in distribution
        }
        found.append({"title": title, "bars": bars, "figures": shown})
    return found


def _edge(bucket: Mapping[str, Any], side: str) -> str:
    return figure(float(bucket.get(side, 0) or 0))


def _data_rows(stats: Mapping[str, Any] | None) -> list[tuple[str, str]]:
    names = {
        "tuningDatasetExampleCount": "training examples",
        "totalBillableTokenCount": "billable tokens of a pass",
        "tuningStepCount": "steps",
        "totalTruncatedExampleCount": "truncated examples",
    }
    rows = [(text, as_int((stats or {}).get(field))) for field, text in names.items()]
    found = [(text, f"{count:,}") for text, count in rows if count is not None]
    for reason in as_list((stats or {}).get("droppedExampleReasons"))[:5]:
        found.append(("dropped", str(reason)))
    return found


def _facts(facts: Mapping[str, Any] | None) -> Iterable[tuple[str, str]]:
    for name, value in (facts or {}).items():
        if value not in (None, "", {}, []):
            text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, sort_keys=True)
            yield name, text
