"""Promotion and roll-back against the emulator: what is lost, repeated or done twice at once changes nothing."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from typing import Any

import pytest

from airflow_tuning_provider import exceptions as errors
from airflow_tuning_provider._compat import AirflowSkipException
from airflow_tuning_provider.emulator.testing import Emulator
from airflow_tuning_provider.hooks.tuning_job import TuningJobHook
from airflow_tuning_provider.operators.promotion import (
    GetChampionOperator,
    PromoteTunedModelOperator,
    RollbackTunedModelOperator,
)
from tests.integration.tasks.champions import (
    MODEL,
    Airflow,
    aliases,
    later,
    merges,
    tuned,
    tuned_further,
    written,
)
from tests.integration.tasks.conftest import Lost, is_permanent

C, P, R = {"champion"}, {"previous"}, {"rolled-back"}
PASSED = {"passed": True, "verdict": "better", "metrics": {"accuracy": 0.9}, "report_uri": "gs://b/r.html"}
REFUSED = {"error": {"code": 400, "status": "FAILED_PRECONDITION", "message": "Aliases are not supported."}}


@pytest.fixture
def airflow() -> Airflow:
    return Airflow()


@pytest.fixture(autouse=True)
def _patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Send what failed again at once."""
    from airflow_tuning_provider._tasks import scope

    make = scope.TuningTask.make_hook
    monkeypatch.setattr(scope.TuningTask, "make_hook", lambda self, patience=3.0: make(self, patience))


def promote(model: Any, **kwargs: Any) -> PromoteTunedModelOperator:
    return PromoteTunedModelOperator(
        **{"task_id": "promote", "outlets": [MODEL], "tuned_model": model, **kwargs}
    )


def roll_back(**kwargs: Any) -> RollbackTunedModelOperator:
    return RollbackTunedModelOperator(**{"task_id": "roll_back", "outlets": [MODEL], **kwargs})


def get(**kwargs: Any) -> GetChampionOperator:
    return GetChampionOperator(**{"task_id": "champion", "inlets": [MODEL], **kwargs})


Further = Callable[[Emulator, dict[str, Any]], dict[str, Any]]


def another(server: Emulator, _: dict[str, Any]) -> dict[str, Any]:
    later()
    return tuned(server)


def lose(airflow: Airflow, operator: Any, *, after: int) -> None:
    """Run an attempt whose process is lost when it has changed aliases so many times, or before it has ended."""
    merge, changes = TuningJobHook.merge_version_aliases, itertools.count(1)

    def changed(hook: TuningJobHook, *args: Any, **kwargs: Any) -> Any:
        merge(hook, *args, **kwargs)
        if next(changes) == after:
            raise Lost

    def told(*_: Any) -> None:
        raise Lost

    with pytest.MonkeyPatch.context() as patch, pytest.raises(Lost):
        patch.setattr(TuningJobHook, "merge_version_aliases", changed)
        patch.setattr(type(operator), "tell", told)
        airflow.run(operator)


KINDS = pytest.mark.parametrize("further", [another, tuned_further], ids=["new model", "new version"])


class TestPromotion:
    @KINDS
    def test_the_alias_moves_and_the_one_before_is_kept(
        self, server: Emulator, airflow: Airflow, further: Further
    ) -> None:
        first = tuned(server)
        airflow.run(promote(first))
        assert aliases(first) == [C]
        second = further(server, first)
        airflow.run(promote(second))
        assert aliases(first, second) == [P, C]
        third = further(server, second)
        airflow.run(promote(third))
        assert aliases(first, second, third) == [set(), P, C]

    def test_the_event_tells_all_that_another_dag_needs(self, server: Emulator, airflow: Airflow) -> None:
        first, second = tuned(server), tuned(server)
        airflow.run(promote(first))
        result = airflow.run(promote(second, evaluation=PASSED, dataset={"content_hash": "abc", "rows": 3}))
        assert result == airflow.last()
        assert result == {
            "action": "promoted",
            "tuning_job_name": second["tuning_job_name"],
            "model": second["tuned_model"],
            "endpoint": second["endpoint"],
            "base_model": "gemini-3.5-flash",
            "display_name": "router",
            "checkpoint_id": "2",
            "dataset_hash": "abc",
            "metrics": {"accuracy": 0.9},
            "verdict": "better",
            "report_uri": "gs://b/r.html",
            "previous_model": first["tuned_model"],
            "previous_endpoint": first["endpoint"],
            "alias": "champion",
        }
        json.dumps(result, allow_nan=False)

    def test_repeated_after_success_it_changes_nothing(self, server: Emulator, airflow: Airflow) -> None:
        first, second = tuned(server), tuned(server)
        airflow.run(promote(first))
        told = airflow.run(promote(second))
        before = server.last_request()
        assert airflow.run(promote(second)) == told
        assert [r for r in server.requests(before) if r["method"] != "GET"] == []

    @KINDS
    @pytest.mark.parametrize("step", [1, 2, 3, 4])
    def test_an_attempt_that_is_lost_after_any_step_loses_nothing(
        self, server: Emulator, airflow: Airflow, further: Further, step: int
    ) -> None:
        first = tuned(server)
        second = further(server, first)
        third = further(server, second)
        airflow.run(promote(first))
        airflow.run(promote(second))
        lose(airflow, promote(third), after=step)
        assert airflow.last()["model"] == second["tuned_model"], "nothing was told"
        airflow.run(promote(third))
        assert aliases(first, second, third) == [set(), P, C]
        assert airflow.last()["previous_model"] == second["tuned_model"]

    def test_a_lost_answer_is_no_failure(self, server: Emulator, airflow: Airflow) -> None:
        first, second = tuned(server), tuned(server)
        airflow.run(promote(first))
        server.fault(method="POST", path_regex=":mergeVersionAliases$", times=1, drop="after_processing")
        airflow.run(promote(second))
        assert aliases(first, second) == [P, C]

    def test_the_default_checkpoint_is_set_and_its_endpoint_told(
        self, server: Emulator, airflow: Airflow
    ) -> None:
        model = tuned(server)
        told = airflow.run(promote(model, checkpoint_id="1"))
        assert told["endpoint"] == model["checkpoints"][0]["endpoint"] != model["endpoint"]
        assert told["checkpoint_id"] == "1"
        with TuningJobHook() as hook:
            assert hook.get_model(model["tuned_model"])["defaultCheckpointId"] == "1"
        again = airflow.run(promote(model, checkpoint_id="1"))
        assert again == told
        assert sum("PATCH" in one for one in written(server)) == 1

    def test_an_unknown_checkpoint_is_refused_before_anything_changes(
        self, server: Emulator, airflow: Airflow
    ) -> None:
        with pytest.raises(errors.TuningInvalidInputError, match=r"checkpoint_id='7'.* has 1, 2"):
            airflow.run(promote(tuned(server), checkpoint_id=7))
        assert len(written(server)) == 1, "the create"

    def test_a_model_may_be_given_by_its_name(self, server: Emulator, airflow: Airflow) -> None:
        model = tuned(server)
        told = airflow.run(promote(model["tuned_model"].partition("@")[0]))
        assert (told["model"], told["endpoint"]) == (model["tuned_model"], model["endpoint"])
        assert told["tuning_job_name"] is None

    def test_a_mapped_task_reads_the_events_too(self, server: Emulator, airflow: Airflow) -> None:
        first, second = tuned(server), tuned(server)
        airflow.mapped = True
        airflow.run(promote(first, alias=None))
        assert airflow.run(promote(second, alias=None))["previous_model"] == first["tuned_model"]

    def test_lines_do_not_mix(self, server: Emulator, airflow: Airflow) -> None:
        router, other = tuned(server), tuned(server, 'oth"er \\')
        airflow.run(promote(router))
        airflow.run(promote(other, outlets=[]))
        third = tuned(server, 'oth"er \\')
        airflow.run(promote(third, outlets=[]))
        assert aliases(router, other, third) == [C, P, C]

    def test_a_list_that_cannot_be_filtered_is_read_as_a_whole(
        self, server: Emulator, airflow: Airflow
    ) -> None:
        first, second = tuned(server), tuned(server)
        airflow.run(promote(first))
        server.fault(method="GET", path_regex="/models$", times=1, status=400, body=REFUSED)
        airflow.run(promote(second))
        assert aliases(first, second) == [P, C]

    def test_the_champion_of_before_may_have_another_name(self, server: Emulator, airflow: Airflow) -> None:
        first, second = tuned(server, "old-name"), tuned(server, "new-name")
        airflow.run(promote(first))
        told = airflow.run(promote(second))
        assert told["previous_model"] == first["tuned_model"]
        assert aliases(first, second) == [P, C]


class TestRefusal:
    @pytest.mark.parametrize(
        "evaluation", [{"passed": False, "verdict": "worse"}, {"verdict": "undecided"}, {}]
    )
    def test_what_did_not_pass_is_not_promoted(
        self, server: Emulator, airflow: Airflow, evaluation: dict[str, Any]
    ) -> None:
        model = tuned(server)
        with pytest.raises(errors.TuningNotPromotedError, match="did not pass") as caught:
            airflow.run(promote(model, evaluation=evaluation))
        assert is_permanent(caught.value)
        with pytest.raises(AirflowSkipException):
            airflow.run(promote(model, evaluation=evaluation, if_not_passed="skip"))
        assert aliases(model) == [set()]
        assert airflow.events == {}
        airflow.run(promote(model, evaluation=evaluation, if_not_passed="promote"))
        assert aliases(model) == [C]

    @pytest.mark.parametrize(
        ("parameters", "field"),
        [
            ({"tuned_model": "my-model"}, "tuned_model"),
            ({"tuned_model": {"tuned_model": None}}, "tuned_model"),
            ({"tuned_model": {"state": "JOB_STATE_FAILED", "tuned_model": None}}, "tuned_model"),
            ({"tuned_model": "projects/p/locations/l/models/1@../x"}, "tuned_model"),
            ({"evaluation": "better"}, "evaluation"),
            ({"dataset": []}, "dataset"),
            ({"if_not_passed": "maybe"}, "if_not_passed"),
            ({"alias": "Champion!"}, "alias"),
            ({"previous_alias": "champion"}, "previous_alias"),
        ],
    )
    def test_bad_input_is_refused_before_anything_is_sent(
        self, server: Emulator, airflow: Airflow, parameters: dict[str, Any], field: str
    ) -> None:
        given = {"tuned_model": "projects/p/locations/us-central1/models/1@1", **parameters}
        with pytest.raises(errors.TuningInvalidInputError, match=f"^{field}="):
            airflow.run(promote(given.pop("tuned_model"), **given))
        assert server.requests() == []

    def test_a_model_that_is_gone(self, server: Emulator, airflow: Airflow) -> None:
        with pytest.raises(errors.TuningNotFoundError):
            airflow.run(promote("projects/test-project/locations/us-central1/models/1@1"))

    def test_a_model_that_nothing_serves_is_not_promoted(self, server: Emulator, airflow: Airflow) -> None:
        model = tuned(server)
        with TuningJobHook() as hook:
            (deployed,) = hook.get_endpoint(model["endpoint"])["deployedModels"]
            hook.wait_until_ended(
                hook.undeploy_model(model["endpoint"], deployed["id"])["name"], poll_interval=1, deadline=None
            )
        with pytest.raises(errors.TuningNotPromotedError, match="cannot be called"):
            airflow.run(promote(model))
        assert merges(server) == []


class TestAtTheSameTime:
    def twice(
        self, server: Emulator, airflow: Airflow, monkeypatch: pytest.MonkeyPatch, first: Any, second: Any
    ) -> None:
        """Run one promotion in the middle of another: after that has looked, before it changes anything."""
        move = PromoteTunedModelOperator.move
        inner = [promote(second, task_id="other")]

        def interrupted(self: Any, hook: Any, steps: Any) -> Any:
            if inner and self.task_id == "promote":
                airflow.run(inner.pop())
            return move(self, hook, steps)

        monkeypatch.setattr(PromoteTunedModelOperator, "move", interrupted)
        airflow.run(promote(first))

    def test_the_newer_model_stays(
        self, server: Emulator, airflow: Airflow, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        served, older, newer = tuned(server), another(server, {}), another(server, {})
        airflow.run(promote(served))
        self.twice(server, airflow, monkeypatch, newer, older)
        assert aliases(served, older, newer) == [P, set(), C]
        assert airflow.last()["model"] == newer["tuned_model"]

    def test_the_older_model_yields(
        self, server: Emulator, airflow: Airflow, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        served, older, newer = tuned(server), another(server, {}), another(server, {})
        airflow.run(promote(served))
        with pytest.raises(errors.TuningNotPromotedError, match="at the same time"):
            self.twice(server, airflow, monkeypatch, older, newer)
        assert aliases(served, older, newer) == [P, set(), C]
        assert airflow.last()["model"] == newer["tuned_model"]

    def test_of_two_versions_of_a_model_the_last_one_has_the_alias(
        self, server: Emulator, airflow: Airflow, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        served = tuned(server)
        second = tuned_further(server, served)
        third = tuned_further(server, second)
        airflow.run(promote(served))
        self.twice(server, airflow, monkeypatch, second, third)
        assert aliases(served, second, third) == [P, C, set()]

    def test_a_promotion_that_is_overtaken_says_so(
        self, server: Emulator, airflow: Airflow, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        served, older, newer = tuned(server), another(server, {}), another(server, {})
        airflow.run(promote(served))
        move = PromoteTunedModelOperator.move

        def overtaken(self: Any, hook: Any, steps: Any) -> Any:
            result = move(self, hook, steps)
            if self.task_id == "promote":
                airflow.run(promote(newer, task_id="other"))
            return result

        monkeypatch.setattr(PromoteTunedModelOperator, "move", overtaken)
        with pytest.raises(errors.TuningNotPromotedError, match="replaced it meanwhile"):
            airflow.run(promote(older))
        assert aliases(served, older, newer) == [set(), P, C]


class TestRollback:
    @KINDS
    def test_back_in_one_call_and_only_once(
        self, server: Emulator, airflow: Airflow, further: Further
    ) -> None:
        first = tuned(server)
        airflow.run(promote(first, evaluation=PASSED, dataset={"content_hash": "one"}))
        second = further(server, first)
        airflow.run(promote(second))
        told = airflow.run(roll_back())
        assert aliases(first, second) == [C, R]
        assert told == airflow.last()
        assert (told["action"], told["model"]) == ("rolled_back", first["tuned_model"])
        assert (told["endpoint"], told["previous_model"]) == (first["endpoint"], None)
        assert (told["dataset_hash"], told["verdict"]) == ("one", "better")
        assert told["tuning_job_name"] == first["tuning_job_name"]
        again = airflow.run(roll_back())
        assert again["model"] == first["tuned_model"]
        assert aliases(first, second) == [C, R]

    @KINDS
    @pytest.mark.parametrize("step", [1, 2, 3, 4])
    def test_a_roll_back_that_is_lost_after_any_step_is_completed(
        self, server: Emulator, airflow: Airflow, further: Further, step: int
    ) -> None:
        first = tuned(server)
        second = further(server, first)
        airflow.run(promote(first))
        airflow.run(promote(second))
        lose(airflow, roll_back(), after=step)
        assert airflow.last()["model"] == second["tuned_model"], "nothing was told"
        assert airflow.run(roll_back())["model"] == first["tuned_model"]
        assert aliases(first, second) == [C, R]

    def test_after_it_the_next_promotion_goes_on_from_there(self, server: Emulator, airflow: Airflow) -> None:
        first, second, third = tuned(server), another(server, {}), another(server, {})
        for model in (first, second):
            airflow.run(promote(model))
        airflow.run(roll_back())
        told = airflow.run(promote(third))
        assert told["previous_model"] == first["tuned_model"]
        assert aliases(first, second, third) == [P, set(), C]
        assert airflow.run(roll_back())["model"] == first["tuned_model"]

    def test_without_events_the_display_name_says_which_line(
        self, server: Emulator, airflow: Airflow
    ) -> None:
        first, second = tuned(server), tuned(server)
        for model in (first, second):
            airflow.run(promote(model, outlets=[]))
        with pytest.raises(errors.TuningInvalidInputError, match="tuned_model_display_name"):
            airflow.run(roll_back(outlets=[]))
        airflow.run(roll_back(outlets=[], tuned_model_display_name="router"))
        assert aliases(first, second) == [C, R]

    def test_with_nothing_to_return_to_nothing_changes(self, server: Emulator, airflow: Airflow) -> None:
        model = tuned(server)
        airflow.run(promote(model))
        with pytest.raises(errors.TuningNotPromotedError, match="nothing to return to") as caught:
            airflow.run(roll_back())
        assert is_permanent(caught.value)
        assert aliases(model) == [C]

    def test_a_model_that_nothing_serves_any_more_is_not_returned_to(
        self, server: Emulator, airflow: Airflow
    ) -> None:
        first, second = tuned(server), tuned(server)
        for model in (first, second):
            airflow.run(promote(model))
        with TuningJobHook() as hook:
            (deployed,) = hook.get_endpoint(first["endpoint"])["deployedModels"]
            operation = hook.undeploy_model(first["endpoint"], deployed["id"])
            hook.wait_until_ended(operation["name"], poll_interval=1, deadline=None)
        with pytest.raises(errors.TuningNotPromotedError, match="cannot be called"):
            airflow.run(roll_back())
        assert aliases(first, second) == [P, C]


class TestWithoutAliases:
    """Where the API refuses them, or they are not wanted, the champion is what the asset's last event says."""

    @pytest.fixture(params=["refused", "not wanted"])
    def options(self, request: pytest.FixtureRequest, server: Emulator) -> dict[str, Any]:
        if request.param == "not wanted":
            return {"alias": None}
        server.fault(method="POST", path_regex=":mergeVersionAliases$", times=-1, status=400, body=REFUSED)
        return {}

    def test_one_interface(self, server: Emulator, airflow: Airflow, options: dict[str, Any]) -> None:
        first, second, third = tuned(server), tuned(server), tuned(server)
        assert airflow.run(get(**options)) is None
        told = airflow.run(promote(first, **options))
        assert (told["model"], told["previous_model"], told["alias"]) == (first["tuned_model"], None, None)
        told = airflow.run(promote(second, **options))
        assert told["previous_model"] == first["tuned_model"]
        told = airflow.run(promote(second, **options))
        assert told["previous_model"] == first["tuned_model"], "a repetition keeps the one before"
        told = airflow.run(promote(third, **options))
        assert told["previous_model"] == second["tuned_model"]
        champion = airflow.run(get(**options))
        assert champion["model"] == third["tuned_model"]
        assert champion["previous_model"] == second["tuned_model"]
        for _ in range(2):
            told = airflow.run(roll_back(**options))
            assert (told["model"], told["previous_model"]) == (second["tuned_model"], None)
            assert told["tuning_job_name"] == second["tuning_job_name"]
        assert airflow.run(get(**options))["model"] == second["tuned_model"]
        assert aliases(first, second, third) == [set(), set(), set()]

    def test_without_an_asset_a_refusal_is_an_error(self, server: Emulator, airflow: Airflow) -> None:
        server.fault(method="POST", path_regex=":mergeVersionAliases$", times=-1, status=400, body=REFUSED)
        with pytest.raises(errors.TuningBadRequestError, match="Aliases are not supported"):
            airflow.run(promote(tuned(server), outlets=[]))

    def test_a_model_without_aliases_after_one_with_them(self, server: Emulator, airflow: Airflow) -> None:
        first, second = tuned(server), tuned(server)
        airflow.run(promote(first))
        server.fault(
            method="POST",
            path_regex=f"{second['tuned_model'].rpartition('/')[2]}:mergeVersionAliases$",
            times=-1,
            status=400,
            body=REFUSED,
        )
        airflow.run(promote(second))
        assert airflow.run(get())["model"] == second["tuned_model"]
        told = airflow.run(roll_back())
        assert told["model"] == first["tuned_model"]
        assert airflow.run(get())["model"] == first["tuned_model"]
        assert airflow.run(roll_back())["model"] == first["tuned_model"]


class TestGetChampion:
    def test_the_registry_comes_before_the_events(self, server: Emulator, airflow: Airflow) -> None:
        first, second = tuned(server), tuned(server)
        airflow.run(promote(first, evaluation=PASSED))
        airflow.run(promote(second))
        with TuningJobHook() as hook:  # a person, in the console
            hook.merge_version_aliases(first["tuned_model"], add=["champion"])
            hook.merge_version_aliases(second["tuned_model"], remove=["champion"])
            hook.merge_version_aliases(first["tuned_model"], remove=["previous"])
        champion = airflow.run(get())
        assert (champion["model"], champion["verdict"]) == (first["tuned_model"], "better")

    def test_by_display_name_alone(self, server: Emulator, airflow: Airflow) -> None:
        assert airflow.run(get(inlets=[], tuned_model_display_name="router")) is None
        with pytest.raises(errors.TuningNotPromotedError):
            airflow.run(get(inlets=[], tuned_model_display_name="router", fail_if_none="true"))
        model = tuned(server)
        airflow.run(promote(model, outlets=[]))
        champion = airflow.run(get(inlets=[], tuned_model_display_name="router"))
        assert (champion["model"], champion["endpoint"]) == (model["tuned_model"], model["endpoint"])

    def test_without_anything_to_go_by(self, airflow: Airflow) -> None:
        with pytest.raises(errors.TuningInvalidInputError, match="tuned_model_display_name"):
            airflow.run(get(inlets=[]))
