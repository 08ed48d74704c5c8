"""Operators that compare tuned models with what they are to replace, hold up what is not better, select the best."""

from __future__ import annotations

import os
import re
import tempfile
import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator

from airflow_tuning_provider._compat import AirflowSkipException
from airflow_tuning_provider._errors import error_from, refusing_invalid_input
from airflow_tuning_provider._tasks.scope import SCOPE_FIELDS, TuningTask
from airflow_tuning_provider.api.identity import DAG_LABEL, RUN_LABEL, TASK_LABEL, label_value
from airflow_tuning_provider.api.inputs import InvalidInputError, as_int, as_mapping
from airflow_tuning_provider.api.labels import check_labels
from airflow_tuning_provider.api.manifest import data_stats
from airflow_tuning_provider.exceptions import (
    TuningError,
    TuningGateError,
    TuningInvalidInputError,
    TuningUnavailableError,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow.sdk import Context

    from airflow_tuning_provider.evaluation.asking import AskingError
    from airflow_tuning_provider.evaluation.run import Evaluation, Settings, Side
    from airflow_tuning_provider.hooks.tuning_job import TuningJobHook

Json = dict[str, Any]

ON_FAIL = ("record", "skip", "fail")
_MOST_AT_A_TIME = 32
_NOTHING = (None, "", "None")
"""What a template gives that renders to nothing."""


class EvaluateTunedModelOperator(TuningTask):
    """Have a tuned model and a baseline answer the same held-out examples, and say which is better.

    Each line is replayed as it was trained: system instruction, tools, media resolution; with the least thinking, and
    without a response schema. Both models are asked at once, at a pace that adapts to the quota. The answers are kept
    beside the data: a retry asks only what is missing.

    **A failure of the infrastructure is never a wrong answer**: it is tried again, counted apart, and above a share the
    task fails. A refusal or an empty answer is a wrong one.

    The verdict is paired: McNemar's exact test for right and wrong, the seeded paired bootstrap for scores.

    :param candidate: the manifest of a tuning job (the XCom of a create), or the name of a tuned endpoint.
    :param held_out_uri: JSONL file of examples in the format of the training data; anything that ``ObjectStoragePath``
        opens: ``gs://``, ``s3://``, ``file://``.
    :param baseline: what to compare with: a base model's id, an endpoint, or a manifest; default: the base model of the
        candidate's manifest.
    :param baseline_location: location of a baseline that is a base model. Gemini 3 answers in ``global``, ``us`` and
        ``eu``, not in the regions that tune it.
    :param output_uri: directory for answers, results and report; default: ``evaluations/DAG/RUN/TASK`` beside the data.
    :param metrics: names (``exact_match``, ``normalized_match``, ``accuracy``, ``token_f1``, ``rouge_l``, ``bleu``,
        ``chrf``, ``macro_f1``, ``recall:CLASS``, ``precision:CLASS``, ``f1:CLASS``), callables of answer and reference,
        or a mapping of names to such; default: accuracy and macro-F1 for labels, else normalised match, token F1 and
        ROUGE-L.
    :param decide_by: the metric that the verdict is of; default: the first.
    :param labels: the classes, where the answers are labels; default: found from the references.
    :param parse: callable that makes an answer's text into what is compared, such as
        :func:`~airflow_tuning_provider.evaluation.metrics.one_of`.
    :param judge: a model's id or an endpoint that compares the two answers, each pair twice with the places swapped;
        its metric is ``judge``, the candidate's share. ``decide_by="judge"`` makes the verdict its.
    :param judge_rubric: what makes an answer the better one, in words; default: right, complete, nothing beside it.
    :param confidence: of the intervals.
    :param seed: of the bootstrap and of a sample.
    :param gate: what the candidate has to fulfil: metrics to bounds with MLflow's names (``threshold``,
        ``min_absolute_change``, ``min_relative_change``, ``greater_is_better``) and ``min_interval_low``; ``verdict``
        (``better`` or ``not_worse``); ``max_dropped_share``, ``max_truncated_share``, ``max_validation_loss_rise``.
    :param on_fail: what a gate does that is not passed: ``record`` it in the result, ``skip`` this task and what
        follows, or ``fail`` without a retry. The result is in XCom in any case.
    :param max_examples: ask a seeded sample of so many lines; default: all.
    :param shard: ask and compare only one of several parts of the lines, such as ``0/4``; for a mapped task over a
        large set. With the same ``output_uri``, an evaluation of the whole set then finds all answers there.
    :param max_calls: how many requests may be sent for this evaluation; more are refused before the first.
    :param max_cost: US dollars that the answers may cost, as estimated before and counted meanwhile; default: no bound.
    :param prices: dollars for a million tokens by model, ``{"input": …, "output": …}``, in place of the dated table.
    :param max_failed_share: share of the questions that may stay without an answer for reasons none of the model's.
    :param max_concurrency: how many requests may be under way at a time, at most 32.
    :param lowest_thinking: ask for the least thinking, unless a line says otherwise.
    :param keep_response_schema: replay a line's response schema too.
    :param generation_config: fields that replace those of each line's ``generationConfig``.
    :param request_labels: labels on each request, for billing; DAG, run and task are added.
    :param curves: the job's curves for the report, names to ``[[step, value], …]``.
    :param storage_conn_id: Airflow connection of the storage; default: that of the scheme.

    The other parameters are those of :class:`~airflow_tuning_provider._tasks.scope.TuningTask`.

    :return: figures only: ``verdict``, ``sentence``, ``decided_by``, ``metrics`` (each with ``candidate``,
        ``baseline``, ``difference``, ``low``, ``high``, ``p_value``), ``classes``, ``candidate``, ``baseline``,
        ``examples``, ``examples_needed``, ``counts``, ``passed`` (``None`` without a gate), ``reasons``, ``cost``,
        ``tokens``, ``seconds``, ``dataset``, ``manifest``, ``report_uri``, ``predictions_uri``.
    """

    template_fields: Sequence[str] = (
        "candidate",
        "held_out_uri",
        "baseline",
        "baseline_location",
        "output_uri",
        "decide_by",
        "labels",
        "judge",
        "judge_rubric",
        "confidence",
        "seed",
        "gate",
        "on_fail",
        "max_examples",
        "shard",
        "max_calls",
        "max_cost",
        "prices",
        "max_failed_share",
        "max_concurrency",
        "generation_config",
        "request_labels",
        "curves",
        "storage_conn_id",
        *SCOPE_FIELDS,
    )
    template_fields_renderers = {"candidate": "json", "gate": "json"}  # noqa: RUF012 - Airflow's own convention
    ui_color = "#e6f4ea"

    def __init__(
        self,
        *,
        candidate: Mapping[str, Any] | str,
        held_out_uri: str,
        baseline: Mapping[str, Any] | str | None = None,
        baseline_location: str = "global",
        output_uri: str | None = None,
        metrics: str | Callable[..., float] | Sequence[Any] | Mapping[str, Any] | None = None,
        decide_by: str | None = None,
        labels: Sequence[str] | None = None,
        parse: Callable[[str], str] | None = None,
        judge: str | None = None,
        judge_rubric: str | None = None,
        confidence: float | str = 0.95,
        seed: int | str = 0,
        gate: Mapping[str, Any] | None = None,
        on_fail: str = "record",
        max_examples: int | str | None = None,
        shard: str | None = None,
        max_calls: int | str = 20_000,
        max_cost: float | str | None = None,
        prices: Mapping[str, Any] | None = None,
        max_failed_share: float | str = 0.02,
        max_concurrency: int | str = 16,
        lowest_thinking: bool = True,
        keep_response_schema: bool = False,
        generation_config: Mapping[str, Any] | None = None,
        request_labels: Mapping[str, str] | None = None,
        curves: Mapping[str, Any] | None = None,
        storage_conn_id: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.candidate = candidate
        self.held_out_uri = held_out_uri
        self.baseline = baseline
        self.baseline_location = baseline_location
        self.output_uri = output_uri
        self.metrics = metrics
        self.decide_by = decide_by
        self.labels = labels
        self.parse = parse
        self.judge = judge
        self.judge_rubric = judge_rubric
        self.confidence = confidence
        self.seed = seed
        self.gate = gate
        self.on_fail = on_fail
        self.max_examples = max_examples
        self.shard = shard
        self.max_calls = max_calls
        self.max_cost = max_cost
        self.prices = prices
        self.max_failed_share = max_failed_share
        self.max_concurrency = max_concurrency
        self.lowest_thinking = lowest_thinking
        self.keep_response_schema = keep_response_schema
        self.generation_config = generation_config
        self.request_labels = request_labels
        self.curves = curves
        self.storage_conn_id = storage_conn_id
        self._stop: threading.Event | None = None

    def execute(self, context: Context) -> Json:
        """Ask, compare, report, and hold the gate."""
        self._stop = threading.Event()  # not before: an operator is copied
        with tempfile.TemporaryDirectory(prefix="evaluation-") as directory, self.make_hook() as hook:
            scratch = Path(directory)
            with refusing_invalid_input():
                settings, gate = self._settings(), _gate(self.gate, self.on_fail)
                labels = self._labels(context)
            hook.open()
            with refusing_invalid_input():
                sides = self._sides(hook)
                settings = self._with_judge(settings, hook)
            lines = self._fetch(scratch)
            output = _local(self._output(context))
            evaluation = self._evaluation(hook, sides, lines, output, scratch, settings, labels)
            try:
                result, gate_reasons = self._evaluate(context, hook, evaluation, output, gate)
            finally:
                evaluation.close()
        return _decide(self, context, result, gate_reasons, str(self.on_fail))

    def on_kill(self) -> None:
        """Ask nothing more; the answers so far are kept."""
        if self._stop is not None:
            self._stop.set()

    # -- what is asked for ---------------------------------------------------------------------------

    def _settings(self) -> Settings:
        from airflow_tuning_provider.evaluation.examples import Replay
        from airflow_tuning_provider.evaluation.run import Settings

        if self.generation_config is not None and not isinstance(self.generation_config, Mapping):
            raise InvalidInputError("generation_config", self.generation_config, "give an object")
        if self.labels is not None and (isinstance(self.labels, str) or len(set(self.labels)) < 2):
            raise InvalidInputError("labels", self.labels, "give a list of at least two classes")
        return Settings(
            metrics=self.metrics,
            decide_by=None if self.decide_by in _NOTHING else str(self.decide_by),
            labels=None if self.labels is None else [str(label) for label in self.labels],
            parse=self.parse,
            confidence=_bounded(self.confidence, "confidence", 0.5, 0.9999),
            seed=int(_bounded(self.seed, "seed", 0, 2**63)),
            max_examples=None if self.max_examples in _NOTHING else _count(self.max_examples, "max_examples"),
            shard=self._shard(),
            max_calls=_count(self.max_calls, "max_calls"),
            max_cost=None if self.max_cost in _NOTHING else _bounded(self.max_cost, "max_cost", 0, 1e9),
            max_failed_share=_bounded(self.max_failed_share, "max_failed_share", 0, 1),
            max_concurrency=_count(self.max_concurrency, "max_concurrency", _MOST_AT_A_TIME),
            lowest_thinking=self.flag("lowest_thinking"),
            replay=Replay(self.generation_config, self.flag("keep_response_schema")),
        )

    def _shard(self) -> tuple[int, int] | None:
        if self.shard in _NOTHING:
            return None
        match = re.fullmatch(r"([0-9]{1,6})/([0-9]{1,6})", str(self.shard))
        if match is None or int(match[1]) >= int(match[2]):
            raise InvalidInputError("shard", self.shard, "give NUMBER/HOW_MANY, from 0/4 to 3/4")
        if self.max_examples not in _NOTHING:
            raise InvalidInputError("shard", self.shard, "give either shard or max_examples")
        return int(match[1]), int(match[2])

    def _labels(self, context: Context) -> dict[str, str]:
        ti = context["ti"]
        own = {DAG_LABEL: ti.dag_id, RUN_LABEL: ti.run_id, TASK_LABEL: ti.task_id}
        given = check_labels(self.request_labels or {}, "request_labels")
        return check_labels(given | {key: label_value(text) for key, text in own.items()}, "request_labels")

    def _sides(self, hook: TuningJobHook) -> tuple[Side, Side]:
        from airflow_tuning_provider.evaluation.prices import check_prices, price_of
        from airflow_tuning_provider.evaluation.run import Side

        prices = check_prices(self.prices)
        name, base = _model(self.candidate, "candidate")
        if "/endpoints/" not in name:
            raise InvalidInputError(
                "candidate", name, "give the manifest of a tuning job, or a tuned endpoint"
            )
        other: str
        other_base: str | None
        if self.baseline in _NOTHING:
            if base is None:
                raise InvalidInputError(
                    "baseline", self.baseline, "the candidate's base model is not known: name a baseline"
                )
            other, other_base = base, base
        else:
            other, given = _model(self.baseline, "baseline")
            other_base = given if "/endpoints/" in other else other.rpartition("/")[2]
        sides = []
        pairs: list[tuple[str, str | None]] = [(name, base), (other, other_base)]
        for model, base_model in pairs:
            full = hook.model_name(model, location=self.baseline_location)
            tuned = "/endpoints/" in full
            # An endpoint's own name may have a price too.
            price = price_of(full, tuned=tuned, prices=prices) or price_of(
                base_model, tuned=tuned, prices=prices
            )
            sides.append(Side(full, base_model, price))
        return sides[0], sides[1]

    def _with_judge(self, settings: Settings, hook: TuningJobHook) -> Settings:
        from airflow_tuning_provider.evaluation.judge import RUBRIC, Judge
        from airflow_tuning_provider.evaluation.prices import price_of

        if self.judge in _NOTHING:
            return settings
        name = hook.model_name(str(self.judge), location=self.baseline_location)
        tuned = "/endpoints/" in name
        base = None if tuned else name.rpartition("/")[2]
        rubric = RUBRIC if self.judge_rubric in _NOTHING else str(self.judge_rubric)
        price = price_of(name, tuned=tuned, prices=self.prices)
        return replace(settings, judge=Judge(name, base, rubric), judge_price=price)

    def _fetch(self, scratch: Path) -> Path:
        """Copy the held-out lines here: what is asked and what is compared are the same lines then."""
        path = scratch / "held_out.jsonl"
        try:
            source = self._path(self.held_out_uri)
            with source.open("rb") as file, path.open("wb") as copy:
                while block := file.read(1 << 20):
                    copy.write(block)
        except (FileNotFoundError, IsADirectoryError, ValueError) as error:
            with refusing_invalid_input():
                raise InvalidInputError(
                    "held_out_uri", self.held_out_uri, f"it cannot be read ({error})"
                ) from None
        return path

    def _path(self, uri: str) -> Any:
        from airflow_tuning_provider.hooks.storage import Storage

        storage = Storage(
            self.storage_conn_id, gcp_conn_id=self.gcp_conn_id, impersonation_chain=self.impersonation_chain
        )
        return storage.path(uri)

    def _output(self, context: Context) -> Any:
        if self.output_uri not in _NOTHING:
            return self._path(str(self.output_uri))
        ti = context["ti"]
        beside = self._path(self.held_out_uri).parent
        return beside / "evaluations" / _segment(ti.dag_id) / _segment(ti.run_id) / _segment(ti.task_id)

    # -- the work ------------------------------------------------------------------------------------

    def _evaluation(
        self,
        hook: TuningJobHook,
        sides: tuple[Side, Side],
        lines: Path,
        output: Any,
        scratch: Path,
        settings: Settings,
        labels: dict[str, str],
    ) -> Evaluation:
        from airflow_tuning_provider.evaluation.run import Evaluation

        stop = self._stop or threading.Event()

        def ask(model: str, request: Json) -> Any:
            return hook.try_to_generate_content(model, **request, labels=labels)

        with refusing_invalid_input():
            return Evaluation(ask, sides, lines, output / "answers", scratch, settings, stopped=stop.is_set)

    def _evaluate(
        self, context: Context, hook: TuningJobHook, evaluation: Evaluation, output: Any, gate: Any
    ) -> tuple[Json, list[str] | None]:
        from airflow_tuning_provider.evaluation.asking import AskingError
        from airflow_tuning_provider.evaluation.gate import validation_loss_rise

        with refusing_invalid_input():
            survey = evaluation.read()
            comparison = evaluation.comparison()
            for name in gate.bounds if gate else ():
                if not comparison.measures(name):
                    raise InvalidInputError("gate", name, f"it is not measured; there are {comparison.names}")
        part = f"-{self.shard}" if evaluation.settings.shard else ""
        place = output / "results" / _segment(evaluation.sides[0].model.rpartition("/")[2] + part)
        decide_by = evaluation.settings.decide_by
        try:
            with refusing_invalid_input():
                evaluation.ask()
        except AskingError as error:
            raise _stopped(error, output) from error.__cause__
        try:
            compared = evaluation.compare(comparison, place / "predictions.jsonl", decide_by)
        except InvalidInputError as error:
            # Not "nothing was sent": it was, and it is kept.
            raise TuningInvalidInputError(f"{error}\n{_kept(output)}", field=error.field) from None
        except AskingError as error:
            raise _stopped(error, output) from None
        manifest = as_mapping(self.candidate)
        result = evaluation.result(compared) | {
            "dataset": {"uri": str(self.held_out_uri), "sha256": survey.sha256, "examples": survey.examples},
            "manifest": dict(manifest) or None,
            "validation_loss_rise": validation_loss_rise(self.curves),
            "report_uri": _uri(place / "report.html"),
            "predictions_uri": _uri(place / "predictions.jsonl"),
        }
        reasons: list[str] | None = None
        if gate is not None:
            reasons = gate.check(result)
        result |= _passed(result, reasons)
        self._tell(result)
        self._report(context, hook, evaluation, compared, result, place)
        return result, reasons

    def _report(
        self,
        context: Context,
        hook: TuningJobHook,
        evaluation: Evaluation,
        compared: Any,
        result: Json,
        place: Any,
    ) -> None:
        from airflow_tuning_provider import __version__
        from airflow_tuning_provider.evaluation.report import render
        from airflow_tuning_provider.evaluation.run import write_report

        ti = context["ti"]
        manifest = as_mapping(self.candidate)
        settings = evaluation.settings
        facts = {
            "held-out data": result["dataset"]["uri"],
            "SHA-256 of it": result["dataset"]["sha256"],
            "candidate": result["candidate"],
            "baseline": result["baseline"],
            "tuning job": manifest.get("tuning_job_name"),
            "base model": manifest.get("base_model"),
            "hyperparameters": manifest.get("hyper_parameters"),
            "lowest thinking": settings.lowest_thinking,
            "generation config": settings.replay.generation_config,
            "sample": f"{result['counts']['asked']} of {result['counts']['held_out']} lines",
            "seed": settings.seed,
            "labels": list(compared.result.labels),
            "judge": settings.judge and settings.judge.model,
            "rubric": settings.judge and settings.judge.rubric,
            "gate": self.gate,
            "DAG, run, task": f"{ti.dag_id}, {ti.run_id}, {ti.task_id}",
            "provider": f"airflow-tuning-provider {__version__}",
            "results of each example": result["predictions_uri"],
        }
        page = render(
            result,
            comparison=compared.result,
            worst=compared.worst,
            best=compared.best,
            curves=self.curves,
            data_stats=self._data_stats(hook),
            title=str(manifest.get("tuned_model_display_name") or "Evaluation of a tuned model"),
            facts=facts,
        )
        write_report(place / "report.html", page)
        self.log.info("Report: %s", result["report_uri"])

    def _data_stats(self, hook: TuningJobHook) -> Mapping[str, Any]:
        """Return the job's data statistics for the report, which does without them where they cannot be had."""
        name = as_mapping(self.candidate).get("tuning_job_name")
        if not name:
            return {}
        try:
            return data_stats(hook.get_tuning_job(str(name)))
        except TuningError as error:
            self.log.info("The report goes without the job's statistics: %s", error)
            return {}

    def _tell(self, result: Json) -> None:
        rows = [f"{'metric':<24}{'candidate':>11}{'baseline':>11}{'difference':>12}   interval of it"]
        for name, values in result["metrics"].items():
            rows.append(
                f"{name:<24}{values['candidate']:>11.4g}{values['baseline']:>11.4g}{values['difference']:>+12.4g}   "
                f"{values['low']:+.4g} to {values['high']:+.4g}, p = {values['p_value']:.2g}"
            )
        self.log.info("%s\n%s", result["sentence"], "\n".join(rows))


class EvaluationGateOperator(BaseOperator):
    """Let an evaluation go on only if it fulfils what is asked; without a gate, only if the model is better.

    :param evaluation: the result of an :class:`EvaluateTunedModelOperator`.
    :param gate: see there; default: ``{"verdict": "better"}``.
    :param on_fail: ``skip`` this task and what follows (as ``ShortCircuitOperator`` does for tasks with the default
        trigger rule), ``fail`` without a retry, or ``record``: return it with ``passed`` false, for a branch.
    :return: the evaluation with ``passed`` and ``reasons``.
    """

    template_fields: Sequence[str] = ("evaluation", "gate", "on_fail")
    template_fields_renderers = {"evaluation": "json", "gate": "json"}  # noqa: RUF012 - Airflow's own convention
    ui_color = "#e6f4ea"

    def __init__(
        self,
        *,
        evaluation: Mapping[str, Any],
        gate: Mapping[str, Any] | None = None,
        on_fail: str = "skip",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.evaluation = evaluation
        self.gate = gate
        self.on_fail = on_fail

    def execute(self, context: Context) -> Json:
        """Check the evaluation."""
        with refusing_invalid_input():
            if not isinstance(self.evaluation, Mapping) or "metrics" not in self.evaluation:
                raise InvalidInputError("evaluation", self.evaluation, "give the result of an evaluation")
            gate = _gate(self.gate or {"verdict": "better"}, self.on_fail)
            reasons = gate.check(self.evaluation)
        result = {**self.evaluation, **_passed(self.evaluation, reasons)}
        return _decide(self, context, result, reasons, str(self.on_fail))


class SelectTunedModelOperator(BaseOperator):
    """Select the best of several candidates that were evaluated on the same examples, such as those of a sweep.

    Those that failed are left out and named. A mapped ``EvaluateTunedModelOperator`` over a sweep needs
    ``trigger_rule="all_done"`` (or a task group that is mapped), and so does this task, so that one failure stops
    nothing.

    :param evaluations: the results, as ``evaluate.output`` gives them.
    :param metric: what to compare; default: what the verdicts are of.
    :param tie: of those that are equal within their intervals, take the ``cheapest`` to train, or the ``best``.
    :param greater_is_better: whether more is better.
    :param must_pass: leave out those that did not pass their gate.
    :param min_candidates: fail if fewer could be compared.
    :return: the winner's manifest (``{"endpoint": …}`` alone where it was evaluated without one). Further XComs:
        ``evaluation`` (the winner's), ``table`` (settings against scores, best first), ``left_out``, ``reason``.
    """

    template_fields: Sequence[str] = ("evaluations", "metric", "tie", "min_candidates")
    ui_color = "#e6f4ea"

    def __init__(
        self,
        *,
        evaluations: Sequence[Mapping[str, Any] | None],
        metric: str | None = None,
        tie: str = "cheapest",
        greater_is_better: bool = True,
        must_pass: bool = False,
        min_candidates: int | str = 1,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.evaluations = evaluations
        self.metric = metric
        self.tie = tie
        self.greater_is_better = greater_is_better
        self.must_pass = must_pass
        self.min_candidates = min_candidates

    def execute(self, context: Context) -> Json:
        """Select, and tell how all of them stand."""
        from airflow_tuning_provider.evaluation.selection import select

        with refusing_invalid_input():
            if isinstance(self.evaluations, (str, Mapping)) or self.evaluations is None:
                raise InvalidInputError("evaluations", self.evaluations, "give a list of evaluations")
            evaluations = list(self.evaluations)
            selection = select(
                evaluations,
                metric=None if self.metric in _NOTHING else self.metric,
                tie=str(self.tie),
                greater_is_better=self.greater_is_better,
                must_pass=self.must_pass,
            )
            least = _count(self.min_candidates, "min_candidates")
            if len(selection.table) < least:
                raise InvalidInputError(
                    "min_candidates", least, f"only {len(selection.table)} candidates could be compared"
                )
        left_out = [*selection.left_out, *self._failed(context)]
        ti = context["ti"]
        for key, value in (
            ("evaluation", dict(selection.winner)),
            ("table", selection.table),
            ("left_out", left_out),
            ("reason", selection.reason),
        ):
            ti.xcom_push(key=key, value=value)
        self.log.info(
            "%s wins. %s\n%s", selection.winner["candidate"], selection.reason, _table(selection.table)
        )
        for text in left_out:
            self.log.warning("Left out: %s", text)
        return dict(selection.winner.get("manifest") or {"endpoint": selection.winner["candidate"]})

    def _failed(self, context: Context) -> list[str]:
        """Name the mapped task instances before this one that have no result to be seen."""
        ti = context["ti"]
        # Outside of a DAG there is nothing before it.
        before = (
            {str(task.task_id) for task in self.get_flat_relatives(upstream=True)} if self._dag else set()
        )
        if not before:
            return []
        states = ti.get_task_states(dag_id=ti.dag_id, run_ids=[ti.run_id]).get(ti.run_id, {})
        named = []
        for name, state in sorted(states.items()):
            task_id, _, index = str(name).rpartition("_")
            if (
                task_id in before
                and index.isdigit()
                and str(state) in ("failed", "upstream_failed", "skipped")
            ):
                named.append(f"{task_id}[{index}]: {state}.")
        return named


def _gate(gate: Any, on_fail: Any) -> Any:
    from airflow_tuning_provider.evaluation.gate import Gate

    if on_fail not in ON_FAIL:
        raise InvalidInputError("on_fail", on_fail, f"give one of {', '.join(ON_FAIL)}")
    return None if gate in _NOTHING or gate == {} else Gate.parse(gate)


def _passed(result: Mapping[str, Any], reasons: list[str] | None) -> Json:
    if reasons is None:
        return {"passed": None, "reasons": []}
    return {"passed": not reasons, "reasons": reasons or ["The candidate fulfils all that the gate asks."]}


def _decide(
    task: BaseOperator, context: Context, result: Json, reasons: list[str] | None, on_fail: str
) -> Json:
    if not reasons:
        return result
    text = "The candidate does not pass its gate: " + " ".join(reasons)
    if on_fail == "record":
        task.log.warning(text)
        return result
    # What is raised returns nothing.
    context["ti"].xcom_push(key="return_value", value=result)
    if on_fail == "skip":
        raise AirflowSkipException(text)
    raise TuningGateError(f"{text}\n{result['sentence']}\nReport: {result.get('report_uri')}")


def _kept(output: Any) -> str:
    return f"The answers so far are kept in {_uri(output / 'answers')}: the next attempt asks only what is missing."


def _stopped(error: AskingError, output: Any) -> TuningError:
    from airflow_tuning_provider.evaluation.asking import BudgetError

    kept = _kept(output)
    if isinstance(error, BudgetError):
        return TuningInvalidInputError(f"{error}\n{kept} Allow more, then clear the task.")
    if error.error is None:
        return TuningUnavailableError(f"{error}\n{kept}")
    found = error_from(error.error, error.what, outlook=f"{error}\n{kept}")
    found.api_error = error.error
    return found


def _model(given: Any, field: str) -> tuple[str, str | None]:
    """Return the name of what is asked, and its base model as far as known."""
    if isinstance(given, str) and given not in _NOTHING:
        return given, None
    if not isinstance(given, Mapping):
        raise InvalidInputError(
            field, given, "give the manifest of a tuning job, or a model's or endpoint's name"
        )
    endpoint = given.get("endpoint")
    if not endpoint:
        state = given.get("state", "unknown")
        raise InvalidInputError(
            f"{field}.endpoint", endpoint, f"the tuned model has no endpoint (job state: {state})"
        )
    base = given.get("base_model")
    return str(endpoint), str(base) if base else None


def _count(value: Any, field: str, most: int = 10**9) -> int:
    number = as_int(value)
    if number is None or not 1 <= number <= most:
        raise InvalidInputError(field, value, f"give a whole number from 1 to {most}")
    return number


def _bounded(value: Any, field: str, least: float, most: float) -> float:
    try:
        number = float(value) if not isinstance(value, bool) else -1.0
    except (TypeError, ValueError):
        number = -1.0
    if not least <= number <= most:
        raise InvalidInputError(field, value, f"give a number from {least:g} to {most:g}")
    return number


def _segment(text: str) -> str:
    """Return a text as one segment of a path."""
    return re.sub(r"[^A-Za-z0-9_.=-]", "_", text).lstrip(".") or "_"


def _local(path: Any) -> Any:
    """Return a path of the local file system as one of ``pathlib``, which can append; any other as it is."""
    return Path(os.fspath(path.path)) if path.protocol in ("file", "", "local") else path


def _uri(path: Any) -> str:
    from airflow_tuning_provider.evaluation.journal import is_local

    # As text, a path of Airflow's names its connection too.
    return path.absolute().as_uri() if is_local(path) else f"{path.protocol}://{path.path}"


def _table(rows: Sequence[Mapping[str, Any]]) -> str:
    columns = list(
        dict.fromkeys(key for row in rows for key in row if key not in ("tuning_job_name", "selected"))
    )
    cells = [columns, *([_cell(row.get(key)) for key in columns] for row in rows)]
    widths = [max(len(line[index]) for line in cells) for index in range(len(columns))]
    return "\n".join(
        "  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)) for line in cells
    )


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    text = "–" if value is None else str(value)
    return text.rpartition("/")[2]
