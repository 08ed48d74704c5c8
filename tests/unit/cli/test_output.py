"""How results are written."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys

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
def test_other_programs_get_types(output: str, load: object) -> None:
    data = {"name": "ünï", "count": 3, "none": None, "list": [1.5, True]}
    out = io.StringIO()
    write(out, data, [], output)
    assert load(out.getvalue()) == data  # type: ignore[operator]


def test_stdout_is_for_results_alone() -> None:
    code = (
        "import os, sys\nfrom airflow_tuning_provider.cli.output import stdout_for_results\n"
        "with stdout_for_results() as out:\n"
        "    print('a log line', flush=True); os.write(1, b'another'); out.write('ünï')\n"
        "print('the end')"
    )
    env = {**os.environ, "PYTHONIOENCODING": "ascii"}
    ran = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60, env=env
    )
    assert (ran.stdout, ran.stderr) == ("?n?the end\n", "a log line\nanother")
