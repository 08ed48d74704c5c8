"""Messages that end the search: each names its cause and the remedy. The rows of docs/troubleshooting.md."""

from __future__ import annotations

import json
import socket
from typing import Any

import googleapiclient
import pytest

from airflow_tuning_provider._compat import AirflowFailException
from airflow_tuning_provider.api import regions
from airflow_tuning_provider.api.errors import ONLY_V1BETA1
from airflow_tuning_provider.api.retry import RetryPolicy
from airflow_tuning_provider.emulator.testing import Emulator
from airflow_tuning_provider.exceptions import (
    TuningAuthenticationError,
    TuningBadRequestError,
    TuningInvalidInputError,
    TuningPermissionError,
    TuningUnavailableError,
)
from tests.emulator import discovery
from tests.integration.conftest import BODY, QUICK, Connect, Hooks
from tests.integration.hooks.test_credentials import EMAIL, TokenServer, service_account
from tests.integration.servers import Connection, Server

TARGET = "acting@p.iam.gserviceaccount.com"
ENABLE = "https://console.developers.google.com/apis/api/aiplatform.googleapis.com/overview?project=p"


def refusal(reason: str, message: str, metadata: dict[str, str], *links: str) -> dict[str, Any]:
    """An error as Google's front end sends it."""
    details: list[dict[str, Any]] = [
        {"@type": "type.googleapis.com/google.rpc.Help", "links": [{"url": link} for link in links]},
        {
            "@type": "type.googleapis.com/google.rpc.ErrorInfo",
            "reason": reason,
            "domain": "googleapis.com",
            "metadata": metadata,
        },
    ]
    return {"error": {"code": 403, "message": message, "status": "PERMISSION_DENIED", "details": details}}


class TestDisabled:
    def test_a_disabled_api_shows_google_s_link_and_speaks_of_no_roles(
        self, hooks: Hooks, emulator: Emulator, connect: Connect
    ) -> None:
        connect(api_endpoint=emulator.url)
        body = refusal(
            "SERVICE_DISABLED", "Vertex AI API has not been used.", {"activationUrl": ENABLE}, "https://other"
        )
        emulator.fault(status=403, times=-1, body=body)
        with pytest.raises(TuningPermissionError) as caught:
            hooks().create_tuning_job(BODY)
        assert f"Enable the API, wait a few minutes, then try again: {ENABLE}" in str(caught.value)
        assert "role" not in str(caught.value)

    def test_disabled_billing_too(self, hooks: Hooks, emulator: Emulator, connect: Connect) -> None:
        connect(api_endpoint=emulator.url)
        link = "https://console.developers.google.com/billing/enable?project=1"
        emulator.fault(status=403, times=-1, body=refusal("BILLING_DISABLED", f"Enable at {link}.", {}, link))
        with pytest.raises(TuningPermissionError) as caught:
            hooks().create_tuning_job(BODY)
        assert str(caught.value).count(link) == 1
        assert "Enable billing for the project" in str(caught.value)
        assert "role" not in str(caught.value)

    def test_any_other_refusal_is_about_roles(
        self, hooks: Hooks, emulator: Emulator, connect: Connect
    ) -> None:
        connect(api_endpoint=emulator.url)
        emulator.fault(status=403, times=-1, body=refusal("IAM_PERMISSION_DENIED", "No.", {}))
        with pytest.raises(TuningPermissionError, match=r"roles/aiplatform\.user"):
            hooks().create_tuning_job(BODY)


class TestImpersonation:
    def iam(self, monkeypatch: pytest.MonkeyPatch, server: Server) -> None:
        from google.auth import iam as addresses

        for name in ("_IAM_ENDPOINT", "_IAM_BASE_URL"):
            if hasattr(addresses, name):
                rest = getattr(addresses, name).rpartition("{}")[2]
                monkeypatch.setattr(addresses, name, f"{server.url}/v1/projects/-/serviceAccounts/{{}}{rest}")

    def denied(self, status: int, body: dict[str, Any]) -> Server:
        def answer(connection: Connection, _: bytes) -> None:
            connection.answer(status, body)

        return Server(answer)

    def message(self, hooks: Hooks) -> str:
        with pytest.raises(TuningAuthenticationError) as caught:
            hooks(retry_policy=QUICK).get_tuning_job("1")
        return str(caught.value)

    def test_a_denied_one_names_who_acts_as_whom_and_the_role(
        self, hooks: Hooks, emulator: Emulator, connect: Connect, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        body = refusal("IAM_PERMISSION_DENIED", "Permission 'iam.serviceAccounts.getAccessToken' denied", {})
        with TokenServer() as tokens, self.denied(403, body) as iam:
            self.iam(monkeypatch, iam)
            key = service_account(tokens.url)
            connect(api_endpoint=emulator.url, password=None, keyfile_dict=key, impersonation_chain=TARGET)
            message = self.message(hooks)
        assert f"{EMAIL} may not act as {TARGET}" in message
        assert "Permission 'iam.serviceAccounts.getAccessToken' denied" in message
        assert f"Grant the role roles/iam.serviceAccountTokenCreator to {EMAIL} on {TARGET}." in message
        assert emulator.requests() == []

    def test_a_chain_needs_the_role_at_each_of_its_steps(
        self, hooks: Hooks, emulator: Emulator, connect: Connect, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        body = refusal("IAM_PERMISSION_DENIED", "denied", {})
        first = "first@p.iam.gserviceaccount.com"
        with self.denied(403, body) as iam:
            self.iam(monkeypatch, iam)
            connect(api_endpoint=emulator.url, impersonation_chain=f"{first},{TARGET}")
            message = self.message(hooks)
        assert (
            f"to the principal of the connection's own credentials on {first} and {first} on {TARGET}."
            in message
        )

    def test_where_iam_s_own_api_is_off_no_role_is_named(
        self, hooks: Hooks, emulator: Emulator, connect: Connect, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        body = refusal(
            "SERVICE_DISABLED", "IAM Service Account Credentials API is off.", {"activationUrl": ENABLE}
        )
        with self.denied(403, body) as iam:
            self.iam(monkeypatch, iam)
            connect(api_endpoint=emulator.url, impersonation_chain=TARGET)
            message = self.message(hooks)
        assert ENABLE in message
        assert "role" not in message

    def test_an_account_that_does_not_exist(
        self, hooks: Hooks, emulator: Emulator, connect: Connect, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        body = {"error": {"code": 404, "message": "Not found; Gaia id not found", "status": "NOT_FOUND"}}
        with self.denied(404, body) as iam:
            self.iam(monkeypatch, iam)
            connect(api_endpoint=emulator.url, impersonation_chain=TARGET)
            message = self.message(hooks)
        assert "Check that the service account exists" in message


class TestLocation:
    """The host of a location is looked up by the machine's name service, which is what these replace."""

    @pytest.fixture
    def lookup(self, monkeypatch: pytest.MonkeyPatch) -> list[str]:
        asked: list[str] = []

        def getaddrinfo(host: str, *_: Any, **__: Any) -> Any:
            asked.append(host)
            code = socket.EAI_AGAIN if host.startswith("away") else socket.EAI_NONAME
            raise socket.gaierror(code, "no such name")

        monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
        for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.delenv(name, raising=False)
        return asked

    def test_a_misspelt_one_says_so_at_once(self, hooks: Hooks, connect: Connect, lookup: list[str]) -> None:
        connect(location="us-cental1")
        with pytest.raises(TuningBadRequestError, match=r"Did you mean us-central1\b") as caught:
            hooks(retry_policy=RetryPolicy()).create_tuning_job(BODY)
        assert isinstance(caught.value, AirflowFailException)
        assert lookup == ["us-cental1-aiplatform.googleapis.com"], "asked once"

    def test_a_known_one_may_be_unreachable_for_a_while(
        self, hooks: Hooks, connect: Connect, lookup: list[str]
    ) -> None:
        connect(location="us-central1", num_retries=2)
        with pytest.raises(TuningUnavailableError):
            hooks(retry_policy=QUICK).create_tuning_job(BODY)
        assert len(lookup) > 1

    def test_a_name_service_that_is_away_refuses_nobody(
        self, hooks: Hooks, connect: Connect, lookup: list[str]
    ) -> None:
        connect(location="away-new1", num_retries=2)
        with pytest.raises(TuningUnavailableError, match="'away-new1' is no location of Vertex AI"):
            hooks(retry_policy=QUICK).create_tuning_job(BODY)
        assert len(lookup) > 1

    def test_an_own_endpoint_has_no_host_of_a_location(
        self, hooks: Hooks, emulator: Emulator, connect: Connect
    ) -> None:
        connect(location="mars-north1", api_endpoint=emulator.url)
        assert "/locations/mars-north1/" in hooks().create_tuning_job(BODY)["name"]

    def test_the_table_is_google_s(self) -> None:
        for version in ("v1", "v1beta1"):
            document = json.loads((discovery._DOCUMENTS / f"aiplatform.{version}.json").read_text())
            assert {entry["location"] for entry in document["endpoints"]} <= regions.KNOWN

    @pytest.mark.parametrize(
        ("given", "meant"),
        [("us-centra1", "us-central1"), ("europe-west-4", "europe-west4"), ("us_central1", "us-central1")],
    )
    def test_what_was_meant_is_found(self, given: str, meant: str) -> None:
        assert meant in str(regions.hint(given))

    def test_nothing_is_guessed_of_what_is_far_from_all(self) -> None:
        assert regions.hint("moon") == "'moon' is no location of Vertex AI that this provider knows."


class TestOnlyInV1beta1:
    def test_the_api_s_refusal_says_which_version_knows_it(
        self, hooks: Hooks, emulator: Emulator, connect: Connect
    ) -> None:
        connect(api_endpoint=emulator.url)
        job = {"baseModel": "gemini-3.5-flash", "distillationSpec": {"trainingDatasetUri": "gs://b/t.jsonl"}}
        with pytest.raises(TuningBadRequestError) as caught:
            hooks().create_tuning_job(job)
        assert "Only v1beta1 of the API knows distillationSpec: give api_version='v1beta1'." in str(
            caught.value
        )
        assert emulator.jobs() == []

    def test_what_no_version_knows_is_not_promised(
        self, hooks: Hooks, emulator: Emulator, connect: Connect
    ) -> None:
        connect(api_endpoint=emulator.url)
        with pytest.raises(TuningBadRequestError) as caught:
            hooks().create_tuning_job({**BODY, "fooSpec": {}})
        assert "v1beta1" not in str(caught.value)

    def test_the_table_is_google_s(self) -> None:
        def fields(version: str, schema: str) -> set[str]:
            name = f"GoogleCloudAiplatform{version.capitalize()}{schema}"
            return set(discovery._schemas(version)[name]["properties"])

        output = {"satisfiesPzi", "satisfiesPzs", "pipelineJob", "tuningJobState", "tuningJobMetadata"}
        newer = {
            field
            for schema in ("TuningJob", "SupervisedTuningSpec")
            for field in fields("v1beta1", schema) - fields("v1", schema)
        }
        assert newer - output == ONLY_V1BETA1
        assert googleapiclient.__name__  # its discovery documents are what this is compared with


class TestConnection:
    def test_a_missing_one_is_not_retried_and_says_how_to_make_it(self, hooks: Hooks) -> None:
        with pytest.raises(TuningAuthenticationError) as caught:
            hooks(gcp_conn_id="no_such").get_tuning_job("1")
        assert isinstance(caught.value, AirflowFailException)
        assert "airflow connections add no_such --conn-type vertex_ai_tuning" in str(caught.value)

    def test_an_official_one_without_location_is_told_where_to_put_it(
        self, hooks: Hooks, emulator: Emulator, connect: Connect
    ) -> None:
        connect(
            conn_type="google_cloud_platform", api_endpoint=emulator.url, location=None, is_anonymous=True
        )
        with pytest.raises(TuningInvalidInputError) as caught:
            hooks().create_tuning_job(BODY)
        assert "give it to the task (location='us-central1')" in str(caught.value)
        assert """the extra of connection 'google_cloud_default' ({"location": "us-central1"})""" in str(
            caught.value
        )
        assert "Nothing was sent." in str(caught.value)
        assert emulator.requests() == []
