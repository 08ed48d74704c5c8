"""Resource names: parse, build and validate.

Names, projects and locations are templated user input that ends up in URLs next to a bearer token, so
every part is matched against a grammar without ``/``, ``.``-segments, ``?``, ``#``, ``@`` or ``%``
before it is used. The patterns are those of the discovery document
(https://aiplatform.googleapis.com/$discovery/rest?version=v1) narrowed to Google's resource-id grammar.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import ClassVar, TypeVar

from airflow_tuning_provider.api.inputs import InvalidInputError

# A project id (optionally scoped by a domain, as in "example.com:app") or a project number.
_PROJECT = r"(?:[a-z][a-z0-9.-]{0,61}[a-z0-9]:)?[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
# "us-central1", "europe-west4", "global", "us", "u-germany-northeast1": one DNS label.
_LOCATION = r"[a-z][a-z0-9]*(?:-[a-z0-9]+){0,3}"
_ID = r"[A-Za-z0-9][A-Za-z0-9_-]{0,127}"
_VERSION = r"[A-Za-z0-9][A-Za-z0-9-]{0,127}"
# Narrower than the API's, which has capitals between the first and the last character.
_ALIAS = r"[a-z](?:[a-z0-9-]{0,126}[a-z0-9])?"
_MODEL_WORD = r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,126}[A-Za-z0-9])?"
_PUBLISHER_MODEL_ID = rf"{_MODEL_WORD}(?:@{_MODEL_WORD})?"

_MAX_LOCATION = 40


def validate_project(value: object, field: str = "project_id") -> str:
    """Return ``value`` if it is a Google Cloud project id or number.

    :param field: how errors call the value.
    :raises InvalidInputError: if it is anything else.
    """
    if isinstance(value, str) and re.fullmatch(_PROJECT, value):
        return value
    raise InvalidInputError(
        field, value, "give a project id (lowercase letters, digits and hyphens) or a project number"
    )


def validate_location(value: object, field: str = "location") -> str:
    """Return ``value`` if it has the shape of a Google Cloud location such as ``us-central1``.

    :param field: how errors call the value.
    :raises InvalidInputError: if it is anything else.
    """
    if isinstance(value, str) and len(value) <= _MAX_LOCATION and re.fullmatch(_LOCATION, value):
        return value
    raise InvalidInputError(field, value, "give a location such as 'us-central1' or 'europe-west4'")


def parent(project: object, location: object) -> str:
    """Return ``projects/{project}/locations/{location}`` from validated parts."""
    return f"projects/{validate_project(project)}/locations/{validate_location(location)}"


def without_project(name: object) -> str:
    """Return what of a resource's name tells it apart, whether its project is named by its id or its number."""
    text = str(name)
    return text.partition("/locations/")[2] or text


_Name = TypeVar("_Name", bound="ResourceName")


@dataclass(frozen=True)
class ResourceName:
    """A full resource name below ``projects/{project}/locations/{location}``."""

    project: str
    location: str
    resource: str

    SHAPE: ClassVar[str] = ""
    _PATTERN: ClassVar[str] = ""

    def __str__(self) -> str:
        return f"projects/{self.project}/locations/{self.location}/{self.resource}"

    @property
    def resource_id(self) -> str:
        """The last segment, without a version."""
        return self.resource.rsplit("/", 1)[-1].split("@", 1)[0]

    @property
    def parent(self) -> str:
        """``projects/{project}/locations/{location}``."""
        return f"projects/{self.project}/locations/{self.location}"

    @classmethod
    def parse(cls: type[_Name], value: object, *, field: str) -> _Name:
        """Parse a full resource name.

        :param value: the name, for example from a template.
        :param field: how the error calls the value.
        :raises InvalidInputError: if the name does not have this resource's shape.
        """
        if isinstance(value, cls):
            return value
        if isinstance(value, str):
            match = re.fullmatch(
                rf"projects/(?P<p>{_PROJECT})/locations/(?P<l>{_LOCATION})/(?P<r>{cls._PATTERN})", value
            )
            if match and len(match["l"]) <= _MAX_LOCATION:
                return cls(match["p"], match["l"], match["r"])
        raise InvalidInputError(field, value, f"give a full resource name: {cls.SHAPE}")


class TuningJobName(ResourceName):
    """``projects/{project}/locations/{location}/tuningJobs/{id}``."""

    SHAPE = "projects/PROJECT/locations/LOCATION/tuningJobs/ID"
    _PATTERN = rf"tuningJobs/{_ID}"


class OperationName(ResourceName):
    """A long-running operation, for instance of ``rebaseTunedModel``; the service chooses what it is below."""

    SHAPE = "projects/PROJECT/locations/LOCATION/[COLLECTION/ID/]operations/ID"
    _PATTERN = rf"(?:[a-z][A-Za-z]{{0,62}}/{_ID}/)?operations/{_ID}"


class ModelName(ResourceName):
    """A model in the Model Registry, optionally with ``@version`` or ``@alias``."""

    SHAPE = "projects/PROJECT/locations/LOCATION/models/ID[@VERSION]"
    _PATTERN = rf"models/{_ID}(?:@{_VERSION})?"

    @property
    def version(self) -> str | None:
        """The version or alias after ``@``, if the name has one."""
        _, _, version = self.resource.partition("@")
        return version or None

    @property
    def unversioned(self) -> ModelName:
        """The model itself."""
        return ModelName(self.project, self.location, self.resource.partition("@")[0])

    def at(self, version: str) -> ModelName:
        """Return the model with ``@version``.

        :raises InvalidInputError: if ``version`` is none.
        """
        return ModelName.parse(f"{self.unversioned}@{version}", field="version")


class EndpointName(ResourceName):
    """The endpoint that serves a tuned model."""

    SHAPE = "projects/PROJECT/locations/LOCATION/endpoints/ID"
    _PATTERN = rf"endpoints/{_ID}"


class PublisherModelName(ResourceName):
    """An untuned model of a publisher, such as ``…/publishers/google/models/gemini-3.5-flash``."""

    SHAPE = "projects/PROJECT/locations/LOCATION/publishers/PUBLISHER/models/MODEL"
    _PATTERN = rf"publishers/[a-z][a-z0-9-]{{0,62}}/models/{_PUBLISHER_MODEL_ID}"


class DatasetName(ResourceName):
    """A Vertex AI multimodal dataset, accepted where a ``gs://`` JSONL file is."""

    SHAPE = "projects/PROJECT/locations/LOCATION/datasets/ID"
    _PATTERN = rf"datasets/{_ID}"


def tuning_job_name(
    value: object,
    *,
    project: str | None = None,
    location: str | None = None,
    field: str = "tuning_job_name",
) -> TuningJobName:
    """Parse a full tuning job name, or a bare job id where project and location are known.

    :param value: the name or id.
    :param project: project of a bare id.
    :param location: location of a bare id.
    :param field: how errors call the value.
    :raises InvalidInputError: for another shape, or a bare id without project and location.
    """
    # A template that renders to nothing gives the word.
    if isinstance(value, str) and re.fullmatch(_ID, value) and value != "None":
        if not project or not location:
            raise InvalidInputError(
                field, value, "a bare job id needs project_id and location; or give the full name"
            )
        return TuningJobName(validate_project(project), validate_location(location), f"tuningJobs/{value}")
    return TuningJobName.parse(value, field=field)


def model_to_call(
    value: object, *, project: str | None, location: str | None, field: str = "model"
) -> EndpointName | PublisherModelName:
    """Parse what ``generateContent`` may be called on: a tuned endpoint, or a publisher's model.

    A bare model id such as ``gemini-3.5-flash`` means Google's model in ``project`` and ``location``.

    :param value: the endpoint, the model's full name, or its id.
    :param project: project that pays for calls of a model that is given by its id.
    :param location: location of such a model.
    :param field: how errors call the value.
    :raises InvalidInputError: for anything else; a Model Registry name gets its own hint, because
        passing it instead of the endpoint is the common mistake.
    """
    text = value if isinstance(value, str) else ""
    if re.fullmatch(rf"projects/[^/]+/locations/[^/]+/models/{_ID}(?:@{_VERSION})?", text):
        raise InvalidInputError(
            field, value, "a tuned model is called through its endpoint: give tunedModel.endpoint, not .model"
        )
    if "/endpoints/" in text:
        return EndpointName.parse(value, field=field)
    if "/" in text:
        if re.fullmatch(PublisherModelName._PATTERN, text):
            text = f"{parent(project, location)}/{text}"
        if text.startswith("projects/") and "/publishers/" in text:
            return PublisherModelName.parse(text, field=field)
    elif re.fullmatch(_PUBLISHER_MODEL_ID, text):
        return PublisherModelName.parse(
            f"{parent(project, location)}/publishers/google/models/{text}", field=field
        )
    raise InvalidInputError(field, value, f"give an endpoint name ({EndpointName.SHAPE}) or a model id")


def validate_alias(value: object, field: str = "alias") -> str:
    """Return ``value`` if it is a version alias that may be moved.

    :param field: how errors call the value.
    :raises InvalidInputError: if it is anything else, or ``default``, which is Google's own.
    """
    if isinstance(value, str) and re.fullmatch(_ALIAS, value) and value != "default":
        return value
    raise InvalidInputError(
        field,
        value,
        "give a version alias: a lowercase letter first, then up to 127 lowercase letters, digits and hyphens, not "
        "'default'",
    )


def is_operation(name: object) -> bool:
    """Whether ``name`` is meant for a long-running operation, and not for a job."""
    return isinstance(name, OperationName) or (isinstance(name, str) and "/operations/" in name)
