"""Checks of single body parameters: each returns the value as it is sent, or refuses it in the user's words.

A check takes the value, which may come from a template as text, and the name that errors call it by.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from airflow_tuning_provider.api.inputs import InvalidInputError, as_int
from airflow_tuning_provider.api.names import DatasetName, ModelName
from airflow_tuning_provider.api.protojson import normalize

_BUCKET = r"gs://[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]"
_WORD = r"[^\s\x00-\x1f]{1,512}"


@dataclass(frozen=True)
class Text:
    """A check for a string.

    :param pattern: what all of it has to match.
    :param expected: what is allowed, for the error.
    """

    pattern: str
    expected: str

    def __call__(self, value: object, field: str) -> str:
        if isinstance(value, str) and re.fullmatch(self.pattern, value):
            return value
        raise InvalidInputError(field, value, self.expected)


model = Text(_WORD, "give the name of a model that can be tuned")
display_name = Text(r"(?s:.{1,128})", "give 1 to 128 characters")
text = Text(r"(?s:.*)", "give a string")
service_account = Text(
    r"[a-zA-Z0-9][a-zA-Z0-9._-]*@[a-zA-Z0-9-]+(?:\.[a-zA-Z0-9-]+)+",
    "give a service account's e-mail address",
)
kms_key_name = Text(
    r"projects/[^/\s]+/locations/[a-z0-9-]+/keyRings/[A-Za-z0-9_-]{1,63}/cryptoKeys/[A-Za-z0-9_-]{1,63}",
    "give projects/PROJECT/locations/LOCATION/keyRings/RING/cryptoKeys/KEY",
)
gcs_prefix = Text(rf"{_BUCKET}(?:/[^\x00-\x1f]*)?", "give gs://BUCKET/PREFIX")
_gcs_object = Text(
    rf"{_BUCKET}/[^\x00-\x1f]+", "give gs://BUCKET/OBJECT.jsonl, or the resource name of a Vertex AI dataset"
)
_checkpoint = Text(_WORD, "give a checkpoint id such as '2'")


def dataset_uri(value: object, field: str) -> str:
    """Return ``value`` if it is a ``gs://`` object or a Vertex AI dataset's resource name.

    :param field: how errors call the value.
    """
    if isinstance(value, str) and value.startswith("projects/"):
        return str(DatasetName.parse(value, field=field))
    return _gcs_object(value, field)


def checkpoint_id(value: object, field: str) -> str:
    """Return a checkpoint's id as text; ``value`` may be a number.

    :param field: how errors call the value.
    """
    return _checkpoint(value if as_int(value) is None else str(value), field)


def pre_tuned_model(value: object, field: str) -> dict[str, Any]:
    """Return the API's PreTunedModel for ``value``: a Model Registry name, or that object itself.

    :param field: how errors call the value.
    """
    source = normalize(value, field) if isinstance(value, Mapping) else {"tunedModelName": value}
    ModelName.parse(source.get("tunedModelName"), field=field)
    if "checkpointId" in source:
        source["checkpointId"] = checkpoint_id(source["checkpointId"], f"{field}.checkpointId")
    return source


def positive_integer(value: object, field: str) -> int:
    """Return ``value`` as a whole number, 1 or more.

    :param field: how errors call the value.
    """
    number = as_int(value)
    if number is None or number < 1:
        raise InvalidInputError(field, value, "give a whole number, 1 or more")
    return number


def positive_number(value: object, field: str) -> float:
    """Return ``value`` as a finite number above 0.

    :param field: how errors call the value.
    """
    number = math.nan
    if isinstance(value, (str, int, float)) and not isinstance(value, bool):
        with suppress(ValueError, OverflowError):
            number = float(value)
    if not 0 < number < math.inf:
        raise InvalidInputError(field, value, "give a number above 0")
    return number


def evaluation_config(value: object, field: str) -> dict[str, Any]:
    """Return ``value`` as the API's EvaluationConfig.

    :param field: how errors call the value.
    """
    config = normalize(value, field)
    if missing := [name for name in ("metrics", "outputConfig") if not config.get(name)]:
        raise InvalidInputError(field, config, f"it needs {' and '.join(missing)}")
    return config


def encryption_spec(value: object, field: str) -> dict[str, Any]:
    """Return ``value`` as the API's EncryptionSpec.

    :param field: how errors call the value.
    """
    spec = normalize(value, field)
    kms_key_name(spec.get("kmsKeyName"), f"{field}.kmsKeyName")
    return spec
