"""How the table of body parameters reaches an operator."""

from __future__ import annotations

import inspect
from typing import Annotated, Any

import pytest
from airflow.sdk import DAG, BaseOperator, task

from airflow_tuning_provider.api import checks
from airflow_tuning_provider.api.parameters import BodyParameters, Parameter, table
from airflow_tuning_provider.operators.parameters import accepts, documented, renderers
from airflow_tuning_provider.operators.tuning_job import CreateTuningJobOperator

NAMES = list(table(BodyParameters))
DATA = "gs://bucket/train.jsonl"


@pytest.fixture
def dag() -> DAG:
    return DAG("retrain", schedule=None)


@pytest.mark.parametrize("name", NAMES)
def test_a_parameter_is_stored_as_it_is_given(name: str) -> None:
    value = object()
    operator: Any = CreateTuningJobOperator(task_id="tune", **{name: value})
    assert [getattr(operator, other) for other in NAMES] == [
        value if other == name else None for other in NAMES
    ]


@pytest.mark.parametrize("name", NAMES)
def test_default_args_reach_it(name: str) -> None:
    with DAG("retrain", schedule=None, default_args={name: "of the DAG", "poll_interval": 7}):
        operator: Any = CreateTuningJobOperator(task_id="tune")
        own: Any = CreateTuningJobOperator(task_id="own", **{name: "own"})
    assert (getattr(operator, name), operator.poll_interval) == ("of the DAG", 7)
    assert getattr(own, name) == "own"


@pytest.mark.parametrize("name", NAMES)
def test_it_is_documented_and_a_template(name: str) -> None:
    assert f"\n:param {name}: {table(BodyParameters)[name].help}\n" in str(CreateTuningJobOperator.__doc__)
    assert name in CreateTuningJobOperator.template_fields
    assert name in inspect.signature(CreateTuningJobOperator).parameters


def test_what_is_unknown_is_refused_by_name(dag: DAG) -> None:
    arguments: dict[str, Any] = {"task_id": "tune", "epoch_cuont": 3}
    with pytest.raises(TypeError, match="epoch_cuont"):
        CreateTuningJobOperator(**arguments)
    with pytest.raises(TypeError, match="epoch_cuont"):
        CreateTuningJobOperator.partial(**arguments)
    with dag, pytest.raises(TypeError, match="epoch_cuont"):
        CreateTuningJobOperator.partial(task_id="tune").expand(epoch_cuont=[3])


def test_it_can_be_mapped(dag: DAG) -> None:
    with dag:
        partial = CreateTuningJobOperator.partial(task_id="tune", base_model="g", epoch_count=2)
        mapped = partial.expand(training_dataset_uri=[DATA, f"{DATA}.2"])
    one = mapped.unmap({"training_dataset_uri": DATA})
    assert one.request_body() == {
        "baseModel": "g",
        "supervisedTuningSpec": {"trainingDatasetUri": DATA, "hyperParameters": {"epochCount": 2}},
    }
    with dag, pytest.raises(ValueError, match=r"unexpected type 'int' for keyword argument epoch_count"):
        CreateTuningJobOperator.partial(task_id="other").expand(epoch_count=3)


@pytest.mark.parametrize("wrapped", [False, True])
def test_another_tasks_output_is_an_upstream(dag: DAG, wrapped: bool) -> None:
    @task
    def choose() -> int:
        return 3

    with dag:
        chosen: Any = choose()
        operator = CreateTuningJobOperator(
            task_id="tune",
            **({"evaluation_config": {"metrics": [chosen]}} if wrapped else {"epoch_count": chosen}),
        )
        later = CreateTuningJobOperator(task_id="later")
        later.epoch_count = chosen  # type: ignore[attr-defined]
    assert operator.upstream_task_ids == later.upstream_task_ids == {"choose"}


def test_mappings_are_shown_as_json() -> None:
    names = ("labels", "encryption_spec", "evaluation_config", "pre_tuned_model")
    assert renderers(BodyParameters) == dict.fromkeys(names, "json")


class Longer(BodyParameters, total=False):
    """The table with one more line."""

    batch_size: Annotated[
        int | None, Parameter("{spec}.hyperParameters.batchSize", checks.positive_integer, "examples a step.")
    ]


class LongerOperator(BaseOperator):
    """An operator.

    :param own: a parameter of its own.
    """

    __doc__ = documented(__doc__, Longer)
    template_fields = tuple(table(Longer))

    @accepts(Longer)
    def __init__(self, *, own: str = "x", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.own = own


def test_a_new_line_of_the_table_is_a_new_parameter() -> None:
    with DAG("retrain", schedule=None, default_args={"batch_size": "8", "own": "y"}):
        operator: Any = LongerOperator(task_id="tune", epoch_count=3)
    assert (operator.batch_size, operator.epoch_count, operator.own) == ("8", 3, "y")
    assert str(LongerOperator.__doc__).endswith(
        ":param batch_size: examples a step.\n:param own: a parameter of its own."
    )


def test_a_subclass_may_give_what_it_knows() -> None:
    class Ours(CreateTuningJobOperator):
        def __init__(self, *, team: str, **kwargs: Any) -> None:
            super().__init__(base_model="g", labels={"team": team}, **kwargs)

    with DAG("retrain", schedule=None, default_args={"epoch_count": 2, "team": "support"}):
        operator: Any = Ours(task_id="tune", training_dataset_uri=DATA)
    assert operator.request_body() == {
        "baseModel": "g",
        "labels": {"team": "support"},
        "supervisedTuningSpec": {"trainingDatasetUri": DATA, "hyperParameters": {"epochCount": 2}},
    }
