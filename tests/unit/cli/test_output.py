"""How results are written."""

from __future__ import annotations

import json

import pytest
import yaml

from airflow_tuning_provider.cli.output import table, write

ROWS = [{"id": "1", "note": "ünï"}, {"id": "22", "note": None}]


def test_a_table_has_a_line_for_each_row_and_cuts_nothing() -> None:
    assert table(ROWS, plain=False).splitlines() == ["id | note", "===+=====", "1  | ünï", "22 |"]
    assert table(ROWS, plain=True).splitlines() == ["id  note", "1   ünï", "22"]
    assert "x" * 500 in table([{"id": "x" * 500}], plain=False)


def test_nothing_found_says_so() -> None:
    assert table([], plain=False) == "No data found"


def test_names_of_strangers_do_nothing_to_a_terminal() -> None:
    assert "\x1b" not in (text := table([{"name": "\x1b[2Jgone\nfake row"}], plain=True))
    assert len(text.splitlines()) == 2


@pytest.mark.parametrize(("output", "load"), [("json", json.loads), ("yaml", yaml.safe_load)])
def test_other_programs_get_types(capsys: pytest.CaptureFixture[str], output: str, load: object) -> None:
    data = {"name": "ünï", "count": 3, "none": None, "list": [1.5, True]}
    write(data, [], output)
    assert load(capsys.readouterr().out) == data  # type: ignore[operator]
