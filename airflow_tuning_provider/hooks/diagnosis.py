"""What works of a connection, and what is missing: asked step by step, each with the command that mends it.

Nothing is created or changed: a token is had, one tuning job is listed, one object of a bucket is looked up.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from airflow_tuning_provider._errors import refusing_invalid_input
from airflow_tuning_provider.api.calls import Call
from airflow_tuning_provider.api.endpoints import parse_api_endpoint
from airflow_tuning_provider.api.errors import ApiError, ErrorKind
from airflow_tuning_provider.api.inputs import InvalidInputError, as_list, as_mapping
from airflow_tuning_provider.exceptions import TuningError
from airflow_tuning_provider.hooks import credentials as auth

if TYPE_CHECKING:
    from airflow_tuning_provider.hooks._base import ConnectedHook

Json = dict[str, Any]

_BUCKET = r"(?:gs://)?([a-z0-9][a-z0-9._-]{1,220}[a-z0-9])(?:/.*)?"
# Roles that hold storage.objects.get: https://cloud.google.com/storage/docs/access-control/iam-roles
_READERS = frozenset(
    f"roles/storage.{name}"
    for name in ("admin", "legacyObjectReader", "objectAdmin", "objectUser", "objectViewer")
)
_AGENT = "service-PROJECT_NUMBER@gcp-sa-vertex-tune.iam.gserviceaccount.com"


@dataclass(frozen=True)
class Finding:
    """What one step found.

    :param step: what was looked at, in a word or two.
    :param works: whether it works, ``None`` where that could not be seen.
    :param text: what was seen, in words; names no secret.
    :param remedy: the command that mends it, empty where there is none.
    """

    step: str
    works: bool | None
    text: str
    remedy: str = ""


def diagnose(hook: ConnectedHook, *, bucket: str | None = None) -> list[Finding]:
    """Look at a connection step by step; what depends on something that does not work is not looked at.

    :param bucket: a bucket, or an object in it, that data sets are in.
    :raises TuningInvalidInputError: if ``bucket`` names none.
    """
    with refusing_invalid_input():
        name = None if bucket is None else _bucket_name(bucket)
    try:
        findings = [_connection(hook), _credentials(hook)]
        if any(finding.works is False for finding in findings):
            return findings
        findings += _api(hook)
        if name is not None:
            findings += _bucket(hook, name)
        return findings
    except _StopError as stop:
        return [stop.finding]


def sentence(findings: list[Finding]) -> str:
    """Return the findings as one sentence."""
    missing = [f"{finding.step}: {finding.text}" for finding in findings if finding.works is False]
    unseen = [f"{finding.step}: {finding.text}" for finding in findings if finding.works is None]
    works = ", ".join(
        f"{finding.step} ({finding.text})" if finding.text.startswith("acting as") else finding.step
        for finding in findings
        if finding.works
    )
    parts = [*missing, *unseen, *([f"works: {works}"] if works else [])]
    text = "; ".join(parts)
    return f"{text[:1].upper()}{text[1:]}."


class _StopError(Exception):
    def __init__(self, finding: Finding) -> None:
        super().__init__(finding.text)
        self.finding = finding


def _connection(hook: ConnectedHook) -> Finding:
    conn_id = hook.gcp_conn_id
    try:
        settings = hook.settings
    except TuningError as error:
        raise _StopError(_failed("connection", error)) from None
    except Exception as error:  # noqa: BLE001 - a secrets backend may raise anything
        raise _StopError(
            Finding("connection", False, f"it cannot be read ({type(error).__name__}: {error})")
        ) from None
    if not settings.location:
        text = f"{conn_id!r} has no location, so that each task has to give one"
        remedy = (
            f'In the UI (Admin, Connections, {conn_id}): put {{"location": "us-central1"}} into its extra'
        )
        return Finding("connection", False, text, remedy)
    endpoint = f", API endpoint {settings.api_endpoint}" if settings.api_endpoint else ""
    place = f"project {settings.project or 'of the credentials'}, location {settings.location}"
    return Finding("connection", True, f"{conn_id!r}: {place}{endpoint}")


def _credentials(hook: ConnectedHook) -> Finding:
    try:
        hook.open()
    except TuningError as error:
        finding = _failed("credentials", error)
        remedy = finding.remedy or (
            "gcloud auth application-default login" if "default" in finding.text else ""
        )
        raise _StopError(Finding("credentials", False, finding.text, remedy)) from None
    trouble = hook.fetch_token()
    who = auth.principal(hook.credentials)
    if trouble is not None:
        return _refused("credentials", trouble, hook)
    return Finding("credentials", True, f"acting as {who}" if who else "a token is there")


def _api(hook: ConnectedHook) -> list[Finding]:
    try:
        call = hook.calls.page(page_size=1)
    except InvalidInputError as error:
        return [Finding("project", False, str(error))]
    seen = hook.attempt(call)
    if not isinstance(seen, ApiError):
        return [
            Finding("reach", True, "the API answers"),
            Finding("API enabled", True, "the Vertex AI API is on"),
            Finding("list permission", True, f"tuning jobs can be listed in {call.path}"),
        ]
    if seen.status is None or seen.kind.transient:  # whoever answered, if anybody did, was not the API
        return [_refused("reach", seen, hook)]
    findings = [Finding("reach", True, "the API answers")]
    if seen.disabled:
        return [*findings, _refused("API enabled", seen, hook)]
    if seen.kind is ErrorKind.NOT_PERMITTED:
        findings.append(Finding("API enabled", True, "the Vertex AI API is on"))
    if seen.kind is ErrorKind.UNAUTHENTICATED:
        return [*findings, _refused("token accepted", seen, hook)]
    return [*findings, _refused("list permission", seen, hook)]


@dataclass(frozen=True)
class _StorageCall(Call[Json]):
    """A call on Cloud Storage, whose host is none of the tuning API's."""

    host: str = ""

    def url(self, base_url: str, api_version: str) -> str:
        return f"{self.host}/storage/v1/{self.path}"


def _bucket_name(value: str) -> str:
    match = re.fullmatch(_BUCKET, value)
    if match is None:
        raise InvalidInputError("bucket", value, "give gs://BUCKET, or an object in it")
    return match[1]


def _bucket(hook: ConnectedHook, bucket: str) -> list[Finding]:
    emulator = os.environ.get("STORAGE_EMULATOR_HOST")
    try:
        host = parse_api_endpoint(emulator, "STORAGE_EMULATOR_HOST") if emulator else None
    except InvalidInputError as error:
        return [Finding("bucket", None, str(error))]
    seen = _ask_storage(hook, host, f"b/{quote(bucket, safe='')}/o?maxResults=1")
    if isinstance(seen, ApiError):
        return [_refused("bucket", seen, hook, bucket)]
    found = [Finding("bucket", True, f"gs://{bucket} can be read")]
    return found if host else [*found, _agent(hook, bucket)]


def _agent(hook: ConnectedHook, bucket: str) -> Finding:
    """Say whether the bucket itself lets a service agent of Vertex AI read: it is who reads the data set."""
    step = "bucket for the service agent"
    remedy = _grant_bucket(bucket, _AGENT)
    policy = _ask_storage(hook, None, f"b/{quote(bucket, safe='')}/iam")
    if isinstance(policy, ApiError):
        text = "who may read the bucket cannot be seen with these credentials; one of the same project needs no grant"
        return Finding(step, None, text, remedy)
    agents = [
        str(member)
        for binding in map(as_mapping, as_list(policy.get("bindings")))
        if binding.get("role") in _READERS
        for member in as_list(binding.get("members"))
        if re.search(r"@gcp-sa-(?:vertex-tune|aiplatform)\.", str(member))
    ]
    if agents:
        return Finding(step, True, f"{agents[0].removeprefix('serviceAccount:')} may read gs://{bucket}")
    text = f"gs://{bucket} itself grants it nothing; one of the same project needs no grant"
    return Finding(step, None, text, remedy)


def _ask_storage(hook: ConnectedHook, emulator: str | None, path: str) -> Json | ApiError:
    host = emulator or f"https://storage.{hook.settings.universe_domain}"
    call = _StorageCall("GET", path, "", f"look at {path}", _as_is, host=host)
    # An emulator is none of Google's hosts: it gets no token.
    return hook.attempt(call, anonymous=emulator is not None)


def _as_is(payload: Json) -> Json:
    return payload


# -- what is missing, and what mends it -----------------------------------------------------------------


def _failed(step: str, error: TuningError) -> Finding:
    if error.api_error is None:
        return Finding(step, False, str(error))
    advice = error.api_error.advice or ""
    _, colon, command = advice.partition("or by: ")
    return Finding(step, False, error.api_error.message, command if colon else "")


def _refused(step: str, error: ApiError, hook: ConnectedHook, bucket: str | None = None) -> Finding:
    project = hook.settings.project or "PROJECT"
    who = auth.principal(hook.credentials)
    if error.reason == "SERVICE_DISABLED":
        remedy = f"gcloud services enable {_service(error)} --project={project}"
    elif error.reason == "BILLING_DISABLED":
        remedy = f"gcloud billing projects link {project} --billing-account=BILLING_ACCOUNT"
    elif step == "credentials":
        remedy = _grant_impersonation(hook)
    elif bucket is not None and error.kind is ErrorKind.NOT_FOUND:
        remedy = f"gcloud storage buckets create gs://{bucket} --location={hook.settings.location}"
    elif bucket is not None and error.kind.refusal:
        remedy = _grant_bucket(bucket, who or "SERVICE_ACCOUNT")
    elif error.kind is ErrorKind.NOT_PERMITTED:
        remedy = (
            f"gcloud projects add-iam-policy-binding {project} --member=serviceAccount:{who or 'SERVICE_ACCOUNT'} "
            "--role=roles/aiplatform.user"
        )
    else:
        remedy = ""
    text = " ".join(part for part in (" ".join(str(error).split()), error.advice or "") if part)
    return Finding(step, False, text.rstrip("."), remedy)


def _service(error: ApiError) -> str:
    found = re.search(
        r"\b(aiplatform|iamcredentials|storage)\.googleapis\.com", f"{error.advice} {error.message}"
    )
    return found[0] if found else "aiplatform.googleapis.com"


def _grant_impersonation(hook: ConnectedHook) -> str:
    chain = hook.settings.impersonation_chain
    if not chain:
        return ""
    source = auth.principal(getattr(hook.credentials, "_source_credentials", None))
    before = chain[-2] if len(chain) > 1 else source or "SERVICE_ACCOUNT"
    return (
        f"gcloud iam service-accounts add-iam-policy-binding {chain[-1]} --member=serviceAccount:{before} "
        "--role=roles/iam.serviceAccountTokenCreator"
    )


def _grant_bucket(bucket: str, who: str) -> str:
    return (
        f"gcloud storage buckets add-iam-policy-binding gs://{bucket} --member=serviceAccount:{who} "
        "--role=roles/storage.objectViewer"
    )


def as_row(finding: Finding) -> Mapping[str, str]:
    """Return a finding as a row of text."""
    verdict = {True: "works", False: "missing", None: "not seen"}[finding.works]
    return {"step": finding.step, "verdict": verdict, "what": finding.text, "mend_with": finding.remedy}
