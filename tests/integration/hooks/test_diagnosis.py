"""What works of a connection and what is missing, with the command that mends it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from airflow_tuning_provider.emulator.testing import Emulator
from airflow_tuning_provider.exceptions import TuningInvalidInputError
from airflow_tuning_provider.hooks.diagnosis import Finding, diagnose, sentence
from tests.integration.conftest import PARENT, Connect, Hooks
from tests.integration.hooks.test_credentials import EMAIL, TokenServer, service_account
from tests.integration.hooks.test_messages import ENABLE, TARGET, TestImpersonation, refusal
from tests.integration.servers import Connection, Server

OURS = ("connection", "credentials", "reach", "API enabled", "list permission")


def by_step(findings: list[Finding]) -> dict[str, Finding]:
    return {finding.step: finding for finding in findings}


def storage(answers: dict[str, Any]) -> Server:
    """A Cloud Storage that answers by path; what it does not know is forbidden."""

    def answer(connection: Connection, request: bytes) -> None:
        path = request.split(b" ")[1].decode()
        found = next((body for part, body in answers.items() if path.startswith(f"/storage/v1/{part}")), None)
        if found is None:
            connection.answer(403, {"error": {"code": 403, "message": "no storage.objects.list access"}})
        else:
            connection.answer(200, found)

    return Server(answer)


def test_all_is_well(hooks: Hooks, emulator: Emulator, connect: Connect) -> None:
    connect(api_endpoint=emulator.url)
    found = diagnose(hooks())
    assert [(finding.step, finding.works, finding.remedy) for finding in found] == [
        (s, True, "") for s in OURS
    ]
    assert PARENT in found[-1].text
    assert sentence(found) == "Works: connection, credentials, reach, API enabled, list permission."
    assert [request["method"] for request in emulator.requests()] == ["GET"], "nothing is created"


def test_a_connection_that_is_not_there(hooks: Hooks) -> None:
    (finding,) = diagnose(hooks(gcp_conn_id="no_such"))
    assert (finding.step, finding.works) == ("connection", False)
    assert finding.remedy.startswith("airflow connections add no_such ")


def test_a_connection_without_location(hooks: Hooks, emulator: Emulator, connect: Connect) -> None:
    connect(api_endpoint=emulator.url, location=None)
    found = diagnose(hooks())
    assert found[0].works is False
    assert '{"location": "us-central1"}' in found[0].remedy
    assert emulator.requests() == []


def test_no_credentials_at_all(
    hooks: Hooks, emulator: Emulator, connect: Connect, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path))
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS", raising=False)
    connect(api_endpoint=emulator.url, password=None)
    (finding,) = diagnose(hooks())
    assert (finding.step, finding.works) == ("credentials", False)
    assert finding.remedy == "gcloud auth application-default login"


def test_denied_impersonation(
    hooks: Hooks, emulator: Emulator, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    help_ = TestImpersonation()
    with TokenServer() as tokens, help_.denied(403, refusal("IAM_PERMISSION_DENIED", "no", {})) as iam:
        help_.iam(monkeypatch, iam)
        key = service_account(tokens.url)
        connect(
            api_endpoint=emulator.url, password=None, keyfile_dict=json.dumps(key), impersonation_chain=TARGET
        )
        found = diagnose(hooks())
    assert [finding.works for finding in found] == [True, False]
    assert found[-1].remedy == (
        f"gcloud iam service-accounts add-iam-policy-binding {TARGET} --member=serviceAccount:{EMAIL} "
        "--role=roles/iam.serviceAccountTokenCreator"
    )
    assert key["private_key"][40:80] not in str(found)


@pytest.mark.parametrize(
    ("reason", "step", "remedy"),
    [
        (
            "SERVICE_DISABLED",
            "API enabled",
            "gcloud services enable aiplatform.googleapis.com --project=test-project",
        ),
        (
            "BILLING_DISABLED",
            "API enabled",
            "gcloud billing projects link test-project --billing-account=BILLING_ACCOUNT",
        ),
        (
            "IAM_PERMISSION_DENIED",
            "list permission",
            "gcloud projects add-iam-policy-binding test-project --member=serviceAccount:SERVICE_ACCOUNT "
            "--role=roles/aiplatform.user",
        ),
    ],
)
def test_refusals_of_the_api(
    hooks: Hooks, emulator: Emulator, connect: Connect, reason: str, step: str, remedy: str
) -> None:
    connect(api_endpoint=emulator.url)
    emulator.fault(status=403, times=-1, body=refusal(reason, "No.", {"activationUrl": ENABLE}))
    found = diagnose(hooks())
    assert (found[-1].step, found[-1].works, found[-1].remedy) == (step, False, remedy)
    assert by_step(found)["reach"].works
    assert not hooks().test_connection()[0]


def test_an_api_that_is_not_reached(hooks: Hooks, connect: Connect) -> None:
    with Server(lambda connection, _: connection.answer(502, b"<html>bad gateway</html>")) as proxy:
        connect(api_endpoint=proxy.url)
        found = diagnose(hooks())
    assert [(finding.step, finding.works) for finding in found[-1:]] == [("reach", False)]
    assert "502" in found[-1].text


class TestBucket:
    @pytest.fixture(autouse=True)
    def _connected(self, emulator: Emulator, connect: Connect) -> None:
        connect(api_endpoint=emulator.url)

    def test_one_that_can_be_read(self, hooks: Hooks, monkeypatch: pytest.MonkeyPatch) -> None:
        with storage({"b/my-bucket/o": {"items": []}}) as server:
            monkeypatch.setenv("STORAGE_EMULATOR_HOST", server.url)
            found = diagnose(hooks(), bucket="gs://my-bucket/train.jsonl")
        assert (found[-1].step, found[-1].works) == ("bucket", True)
        assert b"authorization" not in server.requests[0].lower(), "an emulator gets no token"

    def test_one_that_cannot(self, hooks: Hooks, monkeypatch: pytest.MonkeyPatch) -> None:
        with storage({}) as server:
            monkeypatch.setenv("STORAGE_EMULATOR_HOST", server.url)
            found = diagnose(hooks(), bucket="my-bucket")
        assert found[-1].works is False
        assert found[-1].remedy.startswith("gcloud storage buckets add-iam-policy-binding gs://my-bucket ")

    @pytest.mark.parametrize(
        ("policy", "works"),
        [
            (None, None),
            ({"bindings": [{"role": "roles/storage.objectViewer", "members": ["user:a@b.com"]}]}, None),
            (
                {
                    "bindings": [
                        {
                            "role": "roles/storage.objectViewer",
                            "members": [
                                "serviceAccount:service-7@gcp-sa-vertex-tune.iam.gserviceaccount.com"
                            ],
                        }
                    ]
                },
                True,
            ),
        ],
    )
    def test_who_reads_the_data_set(
        self, hooks: Hooks, monkeypatch: pytest.MonkeyPatch, policy: Any, works: bool | None
    ) -> None:
        answers = {"b/my-bucket/o": {}} | ({} if policy is None else {"b/my-bucket/iam": policy})
        with storage(answers) as server:
            from airflow_tuning_provider.hooks import diagnosis

            # Google's host is not here: its address is all that is replaced.
            ask = diagnosis._ask_storage
            monkeypatch.setattr(diagnosis, "_ask_storage", lambda hook, _, path: ask(hook, server.url, path))
            found = diagnose(hooks(), bucket="my-bucket")
        assert (found[-1].step, found[-1].works) == ("bucket for the service agent", works)
        assert bool(found[-1].remedy) is (works is None)

    def test_what_is_no_bucket_is_refused(self, hooks: Hooks) -> None:
        with pytest.raises(TuningInvalidInputError, match="bucket="):
            diagnose(hooks(), bucket="gs://B/../x?y")
