"""Operators that prepare and validate the data of tuning jobs."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Any, BinaryIO, cast

from airflow.sdk import BaseOperator

from airflow_tuning_provider._compat import AirflowSkipException
from airflow_tuning_provider._errors import refusing_invalid_input
from airflow_tuning_provider.api.inputs import InvalidInputError, boolean
from airflow_tuning_provider.exceptions import (
    TuningError,
    TuningInvalidInputError,
    TuningNotFoundError,
    TuningPermissionError,
    TuningUnavailableError,
)
from airflow_tuning_provider.provider_info import DEFAULT_CONN_ID

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_tuning_provider.datasets.manifest import DatasetManifest, StoredObject
    from airflow_tuning_provider.datasets.preparing import Prepared
    from airflow_tuning_provider.datasets.problems import Problem, Report
    from airflow_tuning_provider.datasets.rules import Rules
    from airflow_tuning_provider.hooks.storage import Stat, Storage

Example = dict[str, Any]

_SHOWN = 50


class _DatasetOperator(BaseOperator):
    """What both operators have in common: where objects are, the rules, the report."""

    template_fields: Sequence[str] = (
        "base_model",
        "rules",
        "strict",
        "report_uri",
        "storage_conn_id",
        "gcp_conn_id",
        "impersonation_chain",
    )

    def __init__(
        self,
        *,
        base_model: str | None = None,
        rules: Mapping[str, Any] | None = None,
        strict: bool | str = False,
        report_uri: str | None = None,
        storage_conn_id: str | None = None,
        gcp_conn_id: str = DEFAULT_CONN_ID,
        impersonation_chain: str | Sequence[str] | None = None,
        **kwargs: Any,
    ) -> None:
        # Each key of the manifest is an XCom of its own: ``prepare.output["training_dataset_uri"]``.
        kwargs.setdefault("multiple_outputs", True)
        super().__init__(**kwargs)
        self.base_model = base_model
        self.rules = rules
        self.strict = strict
        self.report_uri = report_uri
        self.storage_conn_id = storage_conn_id
        self.gcp_conn_id = gcp_conn_id
        self.impersonation_chain = impersonation_chain

    def _flag(self, field: str) -> bool:
        return boolean(getattr(self, field), field)

    def _json(self, field: str, kind: type) -> Any:
        """Return a mapping or a list, which may come from a template as JSON."""
        value = getattr(self, field)
        if isinstance(value, str):
            try:
                value = json.loads(value)
            except ValueError:
                value = None
        if not isinstance(value, kind):
            raise InvalidInputError(field, getattr(self, field), "give a mapping, or JSON for one")
        return value

    def _rules(self) -> Rules:
        from airflow_tuning_provider.datasets.rules import rules_for

        return rules_for(self.base_model, self._json("rules", Mapping) if self.rules else None)

    def _storage(self) -> Storage:
        from airflow_tuning_provider.hooks.storage import Storage

        return Storage(
            self.storage_conn_id, gcp_conn_id=self.gcp_conn_id, impersonation_chain=self.impersonation_chain
        )

    @contextmanager
    def _reporting(self, storage: Storage) -> Iterator[tuple[Report, Callable[[str], str | None]]]:
        """Yield a report, and what publishes it: it returns the URI, ``None`` if there is nothing to tell.

        Told where to, it writes there, unless the task has a ``report_uri``.
        """
        from airflow_tuning_provider.datasets.problems import Report
        from airflow_tuning_provider.hooks.storage import anonymous_file

        with anonymous_file() as file:

            def take(problem: Problem) -> None:
                file.write(problem.as_json())

            report = Report(take, keep=_SHOWN, strict=self._flag("strict"))

            def publish(uri: str) -> str | None:
                if report.errors or report.warnings:
                    self.log.info("Problems: %s", report.summary())
                    return self._publish_report(storage, self.report_uri or uri, file)
                return None

            yield report, publish

    def _publish_report(self, storage: Storage, uri: str, file: IO[bytes]) -> str | None:
        file.seek(0)
        try:
            storage.publish(uri, file)
        except (OSError, TuningError) as error:
            self.log.warning("The report could not be written to %s: %s", uri, error)
            return None
        self.log.info("All problems are in %s.", uri)
        return uri

    def _refuse(self, report: Report, report_uri: str | None, what: str) -> TuningInvalidInputError:
        where = f"\nAll problems are in {report_uri}." if report_uri else ""
        return TuningInvalidInputError(f"{what} {report.summary()}{where}")


@contextmanager
def _storage_errors(what: str) -> Iterator[None]:
    """Tell a failure of the storage by the class that says what the caller can do about it."""
    try:
        yield
    except TuningError:
        raise
    except FileNotFoundError as error:
        raise TuningNotFoundError(f"Could not {what}: {error}") from error
    except PermissionError as error:
        raise TuningPermissionError(
            f"Could not {what}: {error}\nGrant the principal access to the objects."
        ) from error
    except OSError as error:
        raise TuningUnavailableError(
            f"Could not {what}: {error}\nA retry of the task tries again."
        ) from error


def _seen(storage: Storage, uri: str) -> Stat:
    seen = storage.stat(uri)
    if seen is None:
        raise TuningNotFoundError(f"{uri} does not exist. Check its name.")
    return seen


def _same(storage: Storage, before: Mapping[str, Stat], then: str) -> None:
    changed = [uri for uri, seen in before.items() if storage.stat(uri) != seen]
    if changed:
        raise TuningUnavailableError(
            f"{', '.join(changed)} changed while it was read. {then} A retry of the task reads it again."
        )


def _stored(seen: Stat, md5: str | None = None) -> StoredObject:
    checksum = md5 or seen.md5
    return {
        "generation": seen.generation,
        "checksum": f"md5:{checksum}" if checksum else None,
        "bytes": seen.bytes,
    }


class PrepareTuningDatasetOperator(_DatasetOperator):
    """Make the files of a tuning job from raw examples: convert, check, deduplicate, split, publish.

    The sets go to ``destination/HASH/``, a name derived from the content: unchanged data uploads nothing. All is read
    as a stream, and nothing is published before all of it is right. Which set an example belongs to depends on its
    question (or its group) alone: it stays there however many others come, and no question is in two sets.

    :param source: URI of a JSON lines or CSV (``.csv``, ``.tsv``) file, also packed by gzip; or a list of them.
    :param destination: ``gs://`` prefix (or another that ``ObjectStoragePath`` knows) below which the sets are written.
    :param source_format: ``gemini``, ``messages`` (Gemini 1.0), ``openai``, ``columns``, ``preference``; ``auto`` looks
        at the first row.
    :param question: template of the question over a row's columns, such as ``{title}: {text}``.
    :param answer: the same for the answer.
    :param system_instruction: what each example tells the model beforehand, where its row does not.
    :param convert: makes an example of a row, instead of a format of ours.
    :param check: called with each example; returns why it is to be left out (personal data, near-duplicates …), or
        ``None``.
    :param split: the share of each set, by ``train``, ``validation`` and ``held_out``.
    :param group_by: column whose value keeps rows together, as a customer's id does.
    :param seed: another seed makes another split.
    :param on_invalid: ``fail`` if a row is broken; ``drop`` leaves broken rows out.
    :param skip_if_unchanged: skip the task, and with it what depends on it, if another run has published the same
        content already.
    :param base_model: the model that is to be tuned, for the rules of its family.
    :param rules: rules to use instead of those of ``datasets/families.json``, by name.
    :param strict: take every warning for an error.
    :param report_uri: where all problems are written; default: ``problems.jsonl`` beside the sets,
        or in the destination where none are written.
    :param storage_conn_id: Airflow connection for stores other than Google's.
    :param gcp_conn_id: Airflow connection for ``gs://``.
    :param impersonation_chain: service account to act as on ``gs://``, or a chain of them.
    :return: the manifest, see :class:`airflow_tuning_provider.datasets.manifest.DatasetManifest`.
    """

    template_fields: Sequence[str] = (
        "source",
        "destination",
        "source_format",
        "question",
        "answer",
        "system_instruction",
        "split",
        "group_by",
        "seed",
        "on_invalid",
        "skip_if_unchanged",
        *_DatasetOperator.template_fields,
    )
    template_fields_renderers = {"split": "json", "rules": "json"}  # noqa: RUF012 - Airflow's own convention
    ui_color = "#e6f4ea"

    def __init__(
        self,
        *,
        source: str | Sequence[str],
        destination: str,
        source_format: str = "auto",
        question: str = "{text}",
        answer: str = "{label}",
        system_instruction: str | None = None,
        convert: Callable[[Mapping[str, Any]], Example] | None = None,
        check: Callable[[Example], str | None] | None = None,
        split: Mapping[str, float | str] | str | None = None,
        group_by: str | None = None,
        seed: str = "",
        on_invalid: str = "fail",
        skip_if_unchanged: bool | str = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.source = source
        self.destination = destination
        self.source_format = source_format
        self.question = question
        self.answer = answer
        self.system_instruction = system_instruction
        self.convert = convert
        self.check = check
        self.split = split
        self.group_by = group_by
        self.seed = seed
        self.on_invalid = on_invalid
        self.skip_if_unchanged = skip_if_unchanged

    def execute(self, context: Context) -> DatasetManifest:
        """Read, prepare, publish."""
        from airflow_tuning_provider.datasets.converting import Converter
        from airflow_tuning_provider.datasets.preparing import Preparation, detect_csv
        from airflow_tuning_provider.datasets.problems import BrokenDataError
        from airflow_tuning_provider.datasets.splitting import Splitter

        with refusing_invalid_input():
            sources = self._sources()
            root = self._destination()
            skip = self._flag("skip_if_unchanged")
            if self.on_invalid not in ("fail", "drop"):
                raise InvalidInputError("on_invalid", self.on_invalid, "give fail or drop")
            shares = (
                self._json("split", Mapping)
                if self.split
                else {"train": 0.8, "validation": 0.1, "held_out": 0.1}
            )
            splitter = Splitter(shares, str(self.seed))
            rules = self._rules()
            convert = self.convert or Converter(
                self.source_format,
                question=self.question,
                answer=self.answer,
                system_instruction=self.system_instruction,
            )
            self._flag("strict")
        storage = self._storage()
        failed = f"{root}/problems.jsonl"
        with self._reporting(storage) as (report, publish_report):
            preparation = Preparation(
                rules,
                report,
                convert=convert,
                splitter=splitter,
                group_by=self.group_by,
                user_check=self.check,
            )
            with _storage_errors("read the data"):
                before = {uri: _seen(storage, uri) for uri in sources}
                for uri in sources:
                    delimiter = detect_csv(uri)
                    with storage.open(uri) as stream:
                        preparation.read(stream, uri, csv=delimiter is not None, delimiter=delimiter or ",")
                _same(storage, before, "Nothing was published.")
            broken = "The data cannot be used; nothing was published."
            if preparation.cut_off:
                raise self._refuse(
                    report, publish_report(failed), f"{broken} A file cannot be read to its end."
                )
            if preparation.bad_rows and self.on_invalid == "fail":
                raise self._refuse(
                    report, publish_report(failed), f"{broken} (on_invalid='drop' leaves bad rows out.)"
                )
            try:
                prepared = preparation.finish()
            except BrokenDataError as error:
                raise self._refuse(report, publish_report(failed), f"{broken} {error}:") from None
            if self._flag("strict") and report.errors:
                raise self._refuse(report, publish_report(failed), broken)
            with _storage_errors(f"write to {root}"):
                return self._published(
                    context, storage, root, prepared, before, report, publish_report, skip=skip
                )

    def _sources(self) -> list[str]:
        given = self.source
        if isinstance(given, str) and given.lstrip().startswith("["):
            given = self._json("source", list)
        sources = [given] if isinstance(given, str) else list(given or ())
        if not sources or not all(isinstance(uri, str) and "://" in uri for uri in sources):
            raise InvalidInputError(
                "source", self.source, "give a URI such as gs://bucket/file.jsonl, or a list"
            )
        return sources

    def _destination(self) -> str:
        given = self.destination
        if not isinstance(given, str) or "://" not in given:
            raise InvalidInputError("destination", given, "give a URI such as gs://bucket/folder")
        return given.rstrip("/")

    def _published(
        self,
        context: Context,
        storage: Storage,
        root: str,
        prepared: Prepared,
        before: Mapping[str, Stat],
        report: Report,
        publish_report: Callable[[str], str | None],
        *,
        skip: bool,
    ) -> DatasetManifest:
        folder = f"{root}/{prepared.content_hash[:16]}"
        uris = {split: f"{folder}/{split}.jsonl" for split in prepared.files}
        manifest_uri = f"{folder}/manifest.json"
        kept = storage.read_json(manifest_uri)
        unchanged = (
            isinstance(kept, Mapping)
            and kept.get("content_hash") == prepared.content_hash
            and all(
                storage.holds(uris[split], size=file.bytes, md5=file.md5)
                for split, file in prepared.files.items()
            )
        )
        ti: Any = context["ti"]
        me = {key: getattr(ti, key) for key in ("dag_id", "run_id", "task_id", "map_index")}
        if unchanged and skip and cast("Mapping[str, Any]", kept).get("published_by") != me:
            raise AirflowSkipException(
                f"The data are the same as in {manifest_uri}, published by an earlier run. (skip_if_unchanged=True)"
            )
        objects: dict[str, StoredObject] = {}
        # The training set and the manifest last: what is there is complete.
        for split, file in reversed(prepared.files.items()):
            uri = uris[split]
            if unchanged:
                objects[uri] = _stored(_seen(storage, uri), file.md5)
                continue
            seen = storage.publish(uri, file.file)
            if seen.bytes != file.bytes or seen.md5 not in (None, file.md5):
                raise TuningUnavailableError(
                    f"{uri} is not what was written: somebody else wrote it too. A retry of the task writes it again."
                )
            objects[uri] = _stored(seen, file.md5)
        counts = dict.fromkeys(("train", "validation", "held_out"), 0)
        counts.update({split: file.examples for split, file in prepared.files.items()})
        result: DatasetManifest = {
            "training_dataset_uri": uris["train"],
            "validation_dataset_uri": uris.get("validation"),
            "held_out_dataset_uri": uris.get("held_out"),
            "content_hash": prepared.content_hash,
            "counts": counts,
            "objects": objects,
            "tokens": prepared.tokens,
            "classes": prepared.classes,
            "missing_classes": prepared.missing_classes,
            "dropped": prepared.dropped,
            "problems": {"errors": report.errors, "warnings": report.warnings},
            "report_uri": (
                kept.get("report_uri")
                if unchanged and not self.report_uri
                else publish_report(f"{folder}/problems.jsonl")
            ),
            "manifest_uri": manifest_uri,
            "sources": {uri: _stored(seen) for uri, seen in before.items()},
            "unchanged": unchanged,
        }
        if not unchanged:
            text = json.dumps({**result, "published_by": me}, indent=1)
            storage.publish(manifest_uri, io.BytesIO(text.encode()))
        self.log.info(
            "%s in %s: %s. About %s tokens a pass (%s to %s). Dropped: %s.",
            "Unchanged, nothing was uploaded" if unchanged else "Published",
            folder,
            ", ".join(f"{count:,} {split}" for split, count in counts.items()),
            *(f"{prepared.tokens[key]:,}" for key in ("estimate", "low", "high")),
            prepared.dropped or "nothing",
        )
        return result


class ValidateTuningDatasetOperator(_DatasetOperator):
    """Check the files of a tuning job before it is paid for.

    The task fails for good if the format is broken. What goes beyond a limit that Google may have moved is a warning.

    :param training_dataset_uri: the training set, JSON lines.
    :param validation_dataset_uri: the validation set.
    :param preference_optimization: whether the data are preferences; default: whichever each line looks like.
    :param check: called with each example; returns what is wrong with it, or ``None``.
    :param base_model: the model that is to be tuned, for the rules of its family.
    :param rules: rules to use instead of those of ``datasets/families.json``, by name.
    :param strict: take every warning for an error.
    :param report_uri: where all problems are written; default: beside the training set, with ``.problems.jsonl`` at
        the end of its name.
    :param storage_conn_id: Airflow connection for stores other than Google's.
    :param gcp_conn_id: Airflow connection for ``gs://``.
    :param impersonation_chain: service account to act as on ``gs://``, or a chain of them.
    :return: the manifest, as that of :class:`PrepareTuningDatasetOperator`.
    """

    template_fields: Sequence[str] = (
        "training_dataset_uri",
        "validation_dataset_uri",
        "preference_optimization",
        *_DatasetOperator.template_fields,
    )
    template_fields_renderers = {"rules": "json"}  # noqa: RUF012 - Airflow's own convention
    ui_color = "#e6f4ea"

    def __init__(
        self,
        *,
        training_dataset_uri: str,
        validation_dataset_uri: str | None = None,
        preference_optimization: bool | str | None = None,
        check: Callable[[Example], str | None] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.training_dataset_uri = training_dataset_uri
        self.validation_dataset_uri = validation_dataset_uri
        self.preference_optimization = preference_optimization
        self.check = check

    def execute(self, context: Context) -> DatasetManifest:
        """Read, check, report."""
        from airflow_tuning_provider.datasets.validating import Validator

        with refusing_invalid_input():
            kind = None
            if self.preference_optimization not in (None, ""):
                kind = "preference" if self._flag("preference_optimization") else "supervised"
            uris = {"train": self.training_dataset_uri}
            if self.validation_dataset_uri:
                uris["validation"] = self.validation_dataset_uri
            for split, uri in uris.items():
                field = "training_dataset_uri" if split == "train" else "validation_dataset_uri"
                if not isinstance(uri, str) or "://" not in uri:
                    raise InvalidInputError(field, uri, "give a URI such as gs://bucket/file.jsonl")
            rules = self._rules()
            self._flag("strict")
        storage = self._storage()
        digests = {uri: _Digest() for uri in uris.values()}

        def opening(uri: str) -> Callable[[], Any]:
            @contextmanager
            def opened() -> Iterator[BinaryIO]:
                with storage.open(uri) as stream:
                    yield cast("BinaryIO", digests[uri].around(stream))

            return opened

        with self._reporting(storage) as (report, publish_report):
            validator = Validator(rules, report, kind=kind, user_check=self.check)
            with _storage_errors("read the data"):
                before = {uri: _seen(storage, uri) for uri in uris.values()}
                files = {split: (opening(uri), uri) for split, uri in uris.items()}
                if "validation" in files:
                    train, validation = validator.validate_both(*files["train"], *files["validation"])
                else:
                    train, validation = validator.validate(*files["train"]), None
                _same(storage, before, "Nothing is said of it.")
            written = publish_report(f"{uris['train']}.problems.jsonl")
        if report.errors:
            raise self._refuse(report, written, "The data cannot be used.")
        counts = {
            "train": train.examples,
            "validation": validation.examples if validation else 0,
            "held_out": 0,
        }
        self.log.info(
            "%s training examples of about %s tokens a pass (%s to %s), %s validation examples; %s warnings.",
            counts["train"],
            *(f"{train.tokens[key]:,}" for key in ("estimate", "low", "high")),
            counts["validation"],
            report.warnings,
        )
        objects = {uri: _stored(seen) for uri, seen in before.items()}
        return {
            "training_dataset_uri": uris["train"],
            "validation_dataset_uri": uris.get("validation"),
            "held_out_dataset_uri": None,
            "content_hash": _Digest.of_all(digests.values()),
            "counts": counts,
            "objects": objects,
            "tokens": train.tokens,
            "classes": None,
            "missing_classes": {},
            "dropped": {},
            "problems": {"errors": report.errors, "warnings": report.warnings},
            "report_uri": written,
            "manifest_uri": None,
            "sources": objects,
            "unchanged": False,
        }


class _Digest:
    """Hashes a file the first time that it is read."""

    def __init__(self) -> None:
        import hashlib

        self._sha256 = hashlib.sha256()
        self._stream: BinaryIO | None = None
        self._times = 0

    def around(self, stream: BinaryIO) -> _Digest:
        self._stream = stream
        self._times += 1
        return self

    def read(self, size: int = -1) -> bytes:
        assert self._stream is not None
        data = self._stream.read(size)
        if self._times == 1:
            self._sha256.update(data)
        return data

    @staticmethod
    def of_all(digests: Any) -> str:
        import hashlib

        return hashlib.sha256(
            "\n".join(digest._sha256.hexdigest() for digest in digests).encode()
        ).hexdigest()
