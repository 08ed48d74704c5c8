"""What a prepared, or validated, data set is for the tasks that come after: small, and JSON."""

from __future__ import annotations

from typing import TypedDict

from airflow_tuning_provider.datasets.measuring import Tokens


class StoredObject(TypedDict):
    """One object as it was when it was written or read."""

    generation: str | None
    """Cloud Storage's generation, ``None`` where the store has none."""
    checksum: str | None
    """``md5:`` and hexadecimal digits, ``None`` where it is not known."""
    bytes: int
    """Its size."""


class DatasetManifest(TypedDict):
    """What downstream tasks need of a data set. Every key is always there."""

    training_dataset_uri: str
    """The training set, for ``CreateTuningJobOperator``."""
    validation_dataset_uri: str | None
    """The validation set, ``None`` if there is none."""
    held_out_dataset_uri: str | None
    """The set for the evaluation, ``None`` if there is none."""
    content_hash: str
    """The same for the same content."""
    counts: dict[str, int]
    """Examples in ``train``, ``validation`` and ``held_out``."""
    objects: dict[str, StoredObject]
    """Each set's object by its URI."""
    tokens: Tokens
    """Billable tokens of one pass over the training set: an estimate and its interval."""
    classes: dict[str, dict[str, int]] | None
    """How often each class is in each set; ``None`` where the answers are no labels."""
    missing_classes: dict[str, list[str]]
    """The training set's classes that another set lacks, by that set."""
    dropped: dict[str, int]
    """Rows that were left out, by reason."""
    problems: dict[str, int]
    """How many ``errors`` and ``warnings`` were found."""
    report_uri: str | None
    """All of them, as JSON lines; ``None`` if there are none, or the file could not be written."""
    manifest_uri: str | None
    """This manifest beside the sets, ``None`` where nothing was written."""
    sources: dict[str, StoredObject]
    """What was read, by its URI."""
    unchanged: bool
    """Whether the same content was there already, so that nothing was uploaded."""
