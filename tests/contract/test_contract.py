"""``make contract``: the emulator does what this provider expects of Google, and answers as Google was recorded."""

from __future__ import annotations

from typing import Any

import pytest

from testbed.services import REPOSITORY
from tests.contract import pages, recording
from tests.contract.expectations import EXPECTATIONS, Expectation
from tests.contract.session import Session

BY_NAME = {expectation.name: expectation for expectation in EXPECTATIONS}


@pytest.fixture
def said(expectation: Expectation, request: pytest.FixtureRequest) -> Any:
    fixture = "finished_session" if expectation.to_the_end else "session"
    session: Session = request.getfixturevalue(fixture)
    return recording.outcome(expectation, session)


@pytest.mark.parametrize("expectation", EXPECTATIONS, ids=lambda e: e.name)
def test_the_emulator_does_what_is_expected(expectation: Expectation, said: Any) -> None:
    if not expectation.emulator and said["outcome"] != recording.HOLDS:
        pytest.xfail("the emulator does not do this yet, as docs/emulator.md says")
    assert said["outcome"] == recording.HOLDS, said


@pytest.mark.parametrize("name", sorted(recording.recorded()))
def test_the_emulator_answers_as_google_did(name: str, request: pytest.FixtureRequest) -> None:
    expectation = BY_NAME[name]
    fixture = "finished_session" if expectation.to_the_end else "session"
    by_emulator = recording.outcome(expectation, request.getfixturevalue(fixture))
    assert recording.disagreement(recording.load()[name], by_emulator) is None


def test_every_expectation_has_a_name_and_a_sentence_of_its_own() -> None:
    assert len(BY_NAME) == len(EXPECTATIONS) == len({e.says for e in EXPECTATIONS})
    assert all(e.says.endswith(".") for e in EXPECTATIONS)


def test_the_list_of_assumptions_is_up_to_date() -> None:
    assert "\n".join(pages.lines()) in pages.EMULATOR_PAGE.read_text(), "run python -m tests.contract write"


@pytest.mark.parametrize("page", pages.TOLD_AT)
def test_a_page_begins_with_what_a_reader_may_rely_on(page: str) -> None:
    paragraphs = (REPOSITORY / page).read_text().split("\n\n")
    assert pages.sentence(page) in paragraphs[1:3]
