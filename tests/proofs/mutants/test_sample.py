"""What is drawn, and which lines' tests are run for it."""

from __future__ import annotations

import pytest

from tests.proofs.mutants.sample import lines_run_with, mutants, sample

SOURCE = '''\
"""A module."""
LIMIT = 3

class Job:
    """A job."""

    retries: int | None = 2

    def cancel(self, hook: str | None = None, *, soft: bool = True) -> bool | None:
        if not soft and hook:
            self.log.info("cancelling")
            hook.look(
                self.name,
            )
        for one in self.others:
            one.cancel()
        return soft
'''


def changed(*operators: str) -> set[str]:
    """Return what the lines become that some operators change."""
    before = SOURCE.splitlines()
    found = [
        mutant.code(SOURCE).splitlines() for mutant in mutants("a.py", SOURCE) if mutant.operator in operators
    ]
    return {line.strip() for after in found for line in after if line not in before}


def test_a_call_is_left_out_unless_it_only_logs() -> None:
    assert changed("RemoveCall") == {"pass"}
    assert sum(mutant.operator == "RemoveCall" for mutant in mutants("a.py", SOURCE)) == 2


def test_defaults_and_conditions_are_changed() -> None:
    assert changed("core/ReplaceTrueWithFalse") == {
        "def cancel(self, hook: str | None = None, *, soft: bool = False) -> bool | None:"
    }
    assert changed("core/ReplaceAndWithOr") == {"if not soft or hook:"}


def test_annotations_are_left_alone() -> None:
    assert not [mutant for mutant in mutants("a.py", SOURCE) if "Operator_BitOr" in mutant.operator]


def test_a_seed_draws_the_same_places_each_once() -> None:
    drawn = sample({"a.py": SOURCE, "b.py": SOURCE}, size=8, seed=5)
    assert drawn == sample({"b.py": SOURCE, "a.py": SOURCE}, size=8, seed=5)
    assert drawn != sample({"a.py": SOURCE, "b.py": SOURCE}, size=8, seed=6)
    assert len({mutant[:3] for mutant in drawn}) == 8
    assert all(mutant.diff(SOURCE) for mutant in drawn)


@pytest.mark.parametrize(
    ("place", "lines"),
    [
        ((2, 8), set(range(10, 18))),  # a constant: all functions of the file
        ((7, 26), set(range(10, 18))),  # of a class: those of the class
        ((9, 62), set(range(10, 18))),  # a default: the function's body
        ((10, 11), {10}),  # a condition, without what depends on it
        ((13, 17), {12, 13, 14}),
        ((15, 8), {15}),
        ((16, 12), {16}),
        ((17, 15), {17}),
    ],
)
def test_the_lines_that_tell_of_a_place(place: tuple[int, int], lines: set[int]) -> None:
    assert lines_run_with(SOURCE, *place) == lines
