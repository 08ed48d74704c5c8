"""Who is the champion, and that no interruption of a promotion or a roll-back puts that in doubt."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_tuning_provider.api import promotion
from airflow_tuning_provider.api.inputs import InvalidInputError
from airflow_tuning_provider.api.promotion import ROLLED_BACK, Aliases, Step, Version

ALIASES = Aliases()
C, P, R = "champion", "previous", ROLLED_BACK
PLACE = "projects/1/locations/us-central1/models"


def version(name: str, *aliases: str, created: float = 0.0) -> Version:
    return Version(f"{PLACE}/{name}", frozenset(aliases), created)


def apply(line: Sequence[Version], steps: Sequence[Step]) -> list[Version]:
    """Do as the API does: within a model, an alias that a version gains is taken from the others."""
    current = list(line)
    for step in steps:
        target = promotion.named(current, step.name)
        assert target is not None
        assert not set(step.add) & set(step.remove)
        for i, one in enumerate(current):
            if one is target:
                current[i] = replace(one, aliases=(one.aliases | set(step.add)) - set(step.remove))
            elif one.model == target.model:
                current[i] = replace(one, aliases=one.aliases - set(step.add))
    return current


def held(line: Sequence[Version]) -> dict[str, set[str]]:
    return {one.name.rpartition("/")[2]: set(one.aliases) for one in line if one.aliases}


def serving(line: Sequence[Version]) -> tuple[str | None, str | None]:
    """Return the champion and the one before it."""
    pair = promotion.champion(line, ALIASES), promotion.previous(line, ALIASES)
    first, second = (one and one.name.rpartition("/")[2] for one in pair)
    return first, second


# A model each, as tuning jobs make them, and versions of one model, as continuous tuning does.
LINES = {"models": ("x@1", "y@1", "z@1", "w@1"), "versions": ("m@1", "m@2", "m@3", "m@4")}


@pytest.mark.parametrize("names", LINES.values(), ids=LINES)
def test_promotions_and_roll_backs_one_after_another(names: Sequence[str]) -> None:
    line = [version(name, created=i) for i, name in enumerate(names)]
    one, two, three, _ = names

    def promote(name: str) -> None:
        nonlocal line
        target = promotion.named(line, f"{PLACE}/{name}")
        assert target is not None
        line = apply(line, promotion.promotion(line, target, ALIASES))

    def roll_back() -> str | None:
        nonlocal line
        target, steps = promotion.rollback(line, ALIASES)
        line = apply(line, steps)
        return target and target.name.rpartition("/")[2]

    assert roll_back() is None
    promote(one)
    assert held(line) == {one: {C}}
    assert roll_back() is None
    promote(two)
    assert held(line) == {two: {C}, one: {P}}
    promote(three)
    assert held(line) == {three: {C}, two: {P}}
    assert roll_back() == two
    assert held(line) == {two: {C}, three: {R}}
    assert roll_back() == two, "a second one does not go back further, nor forth again"
    assert held(line) == {two: {C}, three: {R}}
    promote(three)
    assert held(line) == {three: {C}, two: {P}}
    promote(two)
    assert held(line) == {two: {C}, three: {P}}
    promote(two)
    assert held(line) == {two: {C}, three: {P}}, "what is the champion already keeps the one before it"
    assert roll_back() == three


STATES = [
    {},
    {0: {C}},
    {0: {C}, 1: {P}},
    {0: {C}, 2: {P}},
    {0: {C}, 2: {R}},
    {0: {C}, 1: {R}},
    {2: {C}, 0: {P}},
]


@pytest.mark.parametrize("names", LINES.values(), ids=LINES)
@pytest.mark.parametrize("state", STATES, ids=str)
@pytest.mark.parametrize("target", [0, 1, 2, 3])
def test_a_promotion_that_is_cut_off_anywhere_is_completed_by_the_next(
    names: Sequence[str], state: dict[int, set[str]], target: int
) -> None:
    line = [version(name, *state.get(i, ())) for i, name in enumerate(names)]
    steps = promotion.promotion(line, line[target], ALIASES)
    whole = apply(line, steps)
    mine = names[target]
    champion = serving(line)[0]
    assert serving(whole)[0] == mine
    if champion not in (None, mine):
        assert serving(whole)[1] == champion, "a roll-back returns to what served before"
    for count in range(len(steps) + 1):
        cut = apply(line, steps[:count])
        assert serving(cut)[0] in {champion, mine}, "never another one, and never none"
        again = promotion.promotion(cut, cut[target], ALIASES)
        assert held(apply(cut, again)) == held(whole)
    assert promotion.promotion(whole, whole[target], ALIASES) == [], "done is done"


@pytest.mark.parametrize("names", LINES.values(), ids=LINES)
def test_a_promotion_that_is_cut_off_can_be_rolled_back(names: Sequence[str]) -> None:
    line = [version(names[0], C), version(names[1], P), version(names[2])]
    steps = promotion.promotion(line, line[2], ALIASES)
    for count in range(len(steps) + 1):
        cut = apply(line, steps[:count])
        expected = names[1] if serving(cut)[0] == names[0] else names[0]
        if len({one.model for one in line}) == 1 and count == 1:
            expected = names[0]  # within a model, the alias has left the older one: nothing changes
        target, more = promotion.rollback(cut, ALIASES)
        assert target is not None
        assert target.name.endswith(expected)
        whole = apply(cut, more)
        assert serving(whole) == (expected, None)
        for done in range(len(more) + 1):
            half = apply(cut, more[:done])
            again, rest = promotion.rollback(half, ALIASES)
            assert again is not None
            assert again.name == target.name, "cut off once more, it goes no further back"
            assert serving(apply(half, rest)) == (expected, None)


@pytest.mark.parametrize("names", LINES.values(), ids=LINES)
def test_a_roll_back_that_is_cut_off_anywhere_is_completed_by_the_next(names: Sequence[str]) -> None:
    line = [version(names[0], P), version(names[1], C), version(names[2])]
    target, steps = promotion.rollback(line, ALIASES)
    whole = apply(line, steps)
    assert target is line[0]
    assert held(whole) == {names[0]: {C}, names[1]: {R}}
    for count in range(len(steps) + 1):
        cut = apply(line, steps[:count])
        assert serving(cut)[0] in names[:2]
        again, more = promotion.rollback(cut, ALIASES)
        assert again is not None
        assert again.name == target.name
        assert held(apply(cut, more)) == held(whole)


@given(
    st.lists(st.sampled_from([0, 1, 2, 3]), min_size=1, max_size=6),
    st.sampled_from(sorted(LINES)),
    st.data(),
)
def test_any_history_with_interruptions_has_one_champion(targets: list[int], kind: str, data: Any) -> None:
    line = [version(name, created=i) for i, name in enumerate(LINES[kind])]
    for target in targets:
        steps = promotion.promotion(line, line[target], ALIASES)
        for _ in range(2):  # cut off, then again as a whole
            line = apply(line, steps[: data.draw(st.integers(0, len(steps)))])
            steps = promotion.promotion(line, line[target], ALIASES)
        line = apply(line, steps)
        assert [one for one in line if C in one.aliases] == [line[target]]
        assert sum(P in one.aliases for one in line) <= 1


def test_of_two_promotions_at_the_same_time_the_newer_version_s_stays() -> None:
    old, new = version("a@1", C, created=1.0), version("b@1", C, created=2.0)
    line = [old, new, version("x@1", P)]
    assert promotion.rivals(line, old, ALIASES) == [new]
    assert promotion.wins(new, promotion.rivals(line, new, ALIASES))
    assert not promotion.wins(old, promotion.rivals(line, old, ALIASES))
    leaving = [version("x@1", C, P), version("y@1", C, R), new]
    assert promotion.rivals(leaving, new, ALIASES) == []
    same = [version(name, C, created=1.0) for name in ("a@1", "b@1")]
    assert [promotion.wins(one, promotion.rivals(same, one, ALIASES)) for one in same] == [False, True]


def test_the_event_tells_where_no_version_has_the_alias() -> None:
    line = [version("a@1"), version("b@1"), version("c@1")]
    event = {"model": f"{PLACE}/b@1".replace("/1/", "/my-project/"), "previous_model": f"{PLACE}/a@1"}
    assert serving(promotion.told_by_event(line, ALIASES, event)) == ("b@1", "a@1")
    line[2] = version("c@1", C)
    assert serving(promotion.told_by_event(line, ALIASES, event)) == ("c@1", None)
    assert serving(promotion.told_by_event([], ALIASES, event)) == (None, None)


def test_what_has_an_alias_is_protected() -> None:
    line = [version("a@1", "default"), version("b@1", C), version("c@1", P, "default"), version("d@1", R)]
    line += [version("e@1", "golden"), version("f@1"), version("g@1")]
    event = {"model": f"{PLACE}/f@1", "previous_model": f"{PLACE}/g@1"}
    reasons = promotion.protected(line, event, ALIASES)
    assert {name.rpartition("/")[2] for name in reasons} == {"b@1", "c@1", "e@1", "f@1", "g@1"}
    assert "golden" in reasons[f"{PLACE}/e@1"]


@pytest.mark.parametrize(
    ("evaluation", "allowed"),
    [
        (None, True),
        ({"passed": True, "verdict": "undecided"}, True),
        ({"verdict": "better"}, True),
        ({"passed": False, "verdict": "better"}, False),
        ({"passed": None, "verdict": "undecided"}, False),
        ({"passed": "true"}, False),
        ({"verdict": "worse"}, False),
        ({}, False),
    ],
)
def test_which_evaluation_allows_a_promotion(evaluation: Any, allowed: bool) -> None:
    assert (promotion.refusal(evaluation) is None) is allowed


def test_a_refusal_tells_the_verdict_and_where_the_report_is() -> None:
    text = promotion.refusal({"passed": False, "verdict": "worse", "report_uri": "gs://b/r.html"})
    assert text == "The evaluation did not pass. The verdict is 'worse'. Report: gs://b/r.html"


def test_what_a_database_cannot_take_becomes_null() -> None:
    metrics = {"f1": float("nan"), "n": 3, "curve": (1.0, float("inf")), 1: object}
    assert promotion.plain(metrics)["f1"] is None
    assert promotion.plain(metrics)["curve"] == [1.0, None]
    json.dumps(promotion.plain(metrics), allow_nan=False)


@pytest.mark.parametrize(
    ("champion", "previous", "field"),
    [
        ("Champion", "previous", "alias"),
        ("default", "previous", "alias"),
        ("1", "previous", "alias"),
        ("-x", "previous", "alias"),
        ("x-", "previous", "alias"),
        ("a" * 129, "previous", "alias"),
        ("champion", "", "previous_alias"),
        ("champion", "champion", "previous_alias"),
        (ROLLED_BACK, "previous", "previous_alias"),
        ("../x", "previous", "alias"),
    ],
)
def test_what_is_no_alias(champion: Any, previous: Any, field: str) -> None:
    with pytest.raises(InvalidInputError, match=f"^{field}="):
        Aliases(champion, previous)


def test_a_version_of_the_registry() -> None:
    model = {
        "name": f"{PLACE}/a",
        "versionId": "3",
        "versionAliases": ["default", "champion", None],
        "versionCreateTime": "1970-01-01T00:01:00Z",
        "displayName": "router",
        "defaultCheckpointId": "2",
        "deployedModels": [
            {"endpoint": "e1", "deployedModelId": "11", "checkpointId": "1"},
            {"endpoint": "e2", "deployedModelId": "22", "checkpointId": "2"},
            {"endpoint": "e3"},
            "nonsense",
        ],
    }
    found = promotion.version_of(model)
    assert (found.name, found.created, found.endpoint) == (f"{PLACE}/a@3", 60.0, "e2")
    assert found.aliases == {"default", "champion"}
    assert (found.endpoint_of("1"), found.endpoint_of("9")) == ("e1", None)
    assert promotion.version_of({"name": f"{PLACE}/a@5"}).name == f"{PLACE}/a@5"
    assert promotion.version_of({"name": f"{PLACE}/a"}).endpoint is None


def test_every_order_of_a_line_gives_the_same_answer() -> None:
    line = [version("a@1", C, P, created=1), version("b@1", C, created=2), version("c@1", P, created=3)]
    answers = {serving(order) for order in itertools.permutations(line)}
    assert answers == {("b@1", "a@1")}
