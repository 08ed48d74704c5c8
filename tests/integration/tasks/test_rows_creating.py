"""A create is sent once: whatever becomes of its answer, an attempt does not pay twice."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme

from airflow_tuning_provider import exceptions as errors
from airflow_tuning_provider.emulator.testing import Emulator
from airflow_tuning_provider.operators.tuning_job import CreateTuningJobOperator, RebaseTunedModelOperator
from tests.integration.servers import Connection, Server
from tests.integration.tasks.conftest import (
    BODY,
    LONG,
    MODES,
    TaskInstance,
    blind,
    connection,
    creates,
    eventually,
    is_permanent,
    live,
)


def operator(**kwargs: Any) -> CreateTuningJobOperator:
    return CreateTuningJobOperator(
        **{"task_id": "tune", "poll_interval": 0.2, "timeout": 60, **BODY, **kwargs}
    )


# -- through a proxy ---------------------------------------------------------------------------------


def tunnel_to(port: int) -> Any:
    """Return what a proxy does with a connection: whatever host is asked for, lead it to a port here."""

    def pump(source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                target.sendall(data)
        for end in (source, target):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def greet(client: Connection) -> None:
        head = client.receive()
        assert head is not None
        assert head.startswith(b"CONNECT ")
        with socket.create_connection(("127.0.0.1", port)) as upstream:
            client.sock.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
            back = threading.Thread(target=pump, args=(upstream, client.sock), daemon=True)
            back.start()
            pump(client.sock, upstream)
            back.join(5)

    return greet


@pytest.fixture(scope="module")
def far_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Emulator, Path]]:
    """A server that speaks TLS as ``vertex.invalid``, which only a proxy can reach."""
    directory, authority = tmp_path_factory.mktemp("tls"), trustme.CA()
    authority.cert_pem.write_to_path(directory / "authority.pem")
    issued = authority.issue_cert("vertex.invalid")
    issued.cert_chain_pems[0].write_to_path(directory / "server.pem")
    issued.private_key_pem.write_to_path(directory / "server.key")
    certificate, key = directory / "server.pem", directory / "server.key"
    with Emulator(speed=4000, datasets="skip", tls_cert=certificate, tls_key=key) as emulator:
        yield emulator, directory / "authority.pem"


@pytest.mark.parametrize("lost", [{"drop": "after_processing"}, {"truncate_body": True}], ids=str)
@pytest.mark.parametrize("times", [1, 2, 9])
def test_answer_lost_behind_a_proxy_is_not_an_unsent_create(
    far_server: tuple[Emulator, Path],
    ti: TaskInstance,
    monkeypatch: pytest.MonkeyPatch,
    times: int,
    lost: dict[str, Any],
) -> None:
    emulator, authority = far_server
    emulator.reset()
    monkeypatch.setenv("AIRFLOW_CONN_GOOGLE_CLOUD_DEFAULT", connection("https://vertex.invalid"))
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(authority))
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    emulator.fault(method="POST", path_regex="/tuningJobs$", times=times, **lost)
    with Server(greet=tunnel_to(emulator.port)) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        monkeypatch.setenv("https_proxy", proxy.url)
        result = ti.run(operator(wait_for_completion=False, **LONG))
    assert len(creates(emulator)) == 1
    assert [job["name"] for job in emulator.jobs()] == [result["tuning_job_name"]]


# -- a list that is late -----------------------------------------------------------------------------


@MODES
def test_lost_job_that_the_list_shows_late_is_found_by_the_same_attempt(
    server: Emulator, ti: TaskInstance, deferrable: bool
) -> None:
    server.lag(list_seconds=1)
    server.fault(method="POST", path_regex="/tuningJobs$", times=-1, drop="after_processing")
    result = ti.run(operator(deferrable=deferrable))
    assert result["state"] == "JOB_STATE_SUCCEEDED"
    assert len(creates(server)) == 1


@MODES
def test_lost_job_that_the_list_does_not_show_in_time_is_left_to_the_next_attempt(
    server: Emulator, deferrable: bool
) -> None:
    ti = TaskInstance(retries=2)
    blind(server)
    server.fault(method="POST", path_regex="/tuningJobs$", times=3, drop="after_processing")
    task = {"deferrable": deferrable, "retries": 2, **LONG}
    with pytest.raises(errors.TuningFateUnknownError, match="may have been created") as caught:
        ti.run(operator(**{**task, "timeout": 4}))
    assert not is_permanent(caught.value)
    assert len(creates(server)) == 1
    server.clear_faults()
    result = ti.retry().run(operator(**task, wait_for_completion=False))
    assert [job["name"] for job in server.jobs()] == [result["tuning_job_name"]]
    assert len(creates(server)) == 1


@MODES
def test_refusal_of_a_list_while_a_lost_job_is_looked_for_is_borne(
    server: Emulator, ti: TaskInstance, deferrable: bool
) -> None:
    """One 403 on a list: permissions flap."""
    server.lag(list_seconds=1)
    server.fault(method="POST", path_regex="/tuningJobs$", times=1, drop="after_processing")

    def refuse_once() -> None:
        assert eventually(lambda: bool(creates(server)))
        server.fault(method="GET", path_regex="/tuningJobs$", times=1, status=403)

    thread = threading.Thread(target=refuse_once)
    thread.start()
    try:
        result = ti.run(operator(deferrable=deferrable))
    finally:
        thread.join()
    assert result["state"] == "JOB_STATE_SUCCEEDED"
    assert len(creates(server)) == 1
    assert server.faults()[-1]["hits"] == 1


def test_edit_to_nonsense_while_a_lost_job_is_looked_for_is_not_told_as_nothing_sent(
    server: Emulator, ti: TaskInstance
) -> None:
    server.lag(list_seconds=1)
    server.fault(method="POST", path_regex="/tuningJobs$", times=1, drop="after_processing")
    task = operator(**LONG)
    ti.before_resume = lambda _: setattr(task, "epoch_count", "nonsense")
    with pytest.raises(
        errors.TuningFateUnknownError, match=r"may have been created[^@]*epoch_count"
    ) as caught:
        ti.run(task)
    assert not is_permanent(caught.value)


@pytest.mark.parametrize("location", ["http://[", "\xff"], ids=ascii)
def test_redirect_to_no_address_at_all_is_no_python_error(
    server: Emulator, ti: TaskInstance, location: str
) -> None:
    headers = {"Location": location}
    server.fault(method="POST", path_regex="/tuningJobs$", times=1, status=302, headers=headers)
    with pytest.raises(errors.TuningError):
        ti.run(operator(**LONG, wait_for_completion=False))
    assert live(server) == []


def test_connection_that_is_broken_for_a_moment_while_a_lost_job_is_looked_for_is_borne(
    server: Emulator, ti: TaskInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = connection(server.url)
    server.lag(list_seconds=1)
    server.fault(method="POST", path_regex="/tuningJobs$", times=1, drop="after_processing")
    mend = threading.Timer(1.0, lambda: monkeypatch.setenv("AIRFLOW_CONN_GOOGLE_CLOUD_DEFAULT", good))

    def break_it(_: Any) -> None:
        if mend.ident is None:
            monkeypatch.setenv("AIRFLOW_CONN_GOOGLE_CLOUD_DEFAULT", "{broken")
            mend.start()

    ti.before_resume = break_it
    try:
        found = ti.run(operator(**LONG, wait_for_completion=False))
    finally:
        mend.join()
    assert live(server) == [found["tuning_job_name"]]
    assert len(creates(server)) == 1


# -- a rebase ----------------------------------------------------------------------------------------


@MODES
def test_rebase_whose_answer_is_lost_and_whose_job_is_not_seen_is_never_sent_again(
    server: Emulator, deferrable: bool
) -> None:
    source = TaskInstance(run_id="first").run(operator())["tuning_job_name"]
    ti = TaskInstance(task_id="rebase", retries=2)
    blind(server)
    server.fault(method="POST", path_regex=":rebaseTunedModel$", times=3, drop="after_processing")

    def rebase() -> RebaseTunedModelOperator:
        return RebaseTunedModelOperator(
            task_id="rebase",
            tuning_job_name=source,
            tuning_job={"base_model": "gemini-3.5-flash"},
            poll_interval=0.2,
            timeout=4,
            deferrable=deferrable,
            retries=2,
        )

    with pytest.raises(errors.TuningError, match="may have been") as caught:
        ti.run(rebase())
    assert is_permanent(caught.value)
    assert sum(r["path"].endswith(":rebaseTunedModel") for r in server.requests()) == 1


@pytest.mark.parametrize("seen", ["gone", "no-error"])
def test_rebase_whose_operation_is_known_is_never_sent_again(server: Emulator, seen: str) -> None:
    """A read lags behind, or a field that is not set is null."""
    model = TaskInstance(run_id="first").run(operator())["tuned_model"]
    ti = TaskInstance(task_id="rebase", retries=2)
    task = RebaseTunedModelOperator(
        task_id="rebase", tuned_model=model, timeout=4, retries=2, wait_for_completion=False
    )
    ti.run(task)
    blind(server)
    body = {"name": ti.xcoms["operation_name"], "done": False, "error": None}
    answer: dict[str, Any] = {"status": 404} if seen == "gone" else {"status": 200, "body": body}
    server.fault(method="GET", path_regex="/operations/", times=-1, **answer)
    with contextlib.suppress(errors.TuningFateUnknownError):
        ti.retry().run(task)
    assert sum(r["path"].endswith(":rebaseTunedModel") for r in server.requests()) == 1


@MODES
@pytest.mark.parametrize("status", [403, 404, 503])
def test_job_of_a_rebase_that_cannot_be_seen_for_a_moment_is_waited_for(
    server: Emulator, deferrable: bool, status: int
) -> None:
    """Reads lag behind the operation that has made the job."""
    source = TaskInstance(run_id="first").run(operator())
    ti = TaskInstance(task_id="rebase")
    path = f"/tuningJobs/(?!{source['tuning_job_name'].rpartition('/')[2]})[^/]*$"
    server.fault(method="GET", path_regex=path, times=1, status=status)
    task = RebaseTunedModelOperator(
        task_id="rebase",
        tuned_model=source["tuned_model"],
        tuning_job={"base_model": "gemini-3.5-flash"},
        poll_interval=0.2,
        deferrable=deferrable,
    )
    assert ti.run(task)["state"] == "JOB_STATE_SUCCEEDED"
    assert server.faults()[-1]["hits"] == 1


# -- refusals and quota ------------------------------------------------------------------------------


@MODES
def test_pause_for_quota_resumes_with_the_event_alone(
    server: Emulator, ti: TaskInstance, deferrable: bool
) -> None:
    """As under ``dag.test()``, whose inline trigger replaces what the deferral has kept."""
    ti.event_alone = True
    server.fault(method="POST", path_regex="/tuningJobs$", times=2, status=429)
    assert ti.run(operator(deferrable=deferrable))["state"] == "JOB_STATE_SUCCEEDED"
    assert [r["status"] for r in creates(server)] == [429, 429, 200]
    assert len(ti.deferrals) == (3 if deferrable else 0)


def test_rebase_resumes_with_the_event_alone(server: Emulator) -> None:
    model = TaskInstance(run_id="first").run(operator())["tuned_model"]
    ti = TaskInstance(task_id="rebase", event_alone=True)
    task = RebaseTunedModelOperator(
        task_id="rebase", tuned_model=model, tuning_job={"base_model": "gemini-3.5-flash"}, poll_interval=0.2
    )
    assert ti.run(task)["state"] == "JOB_STATE_SUCCEEDED"
    assert ti.deferrals


@MODES
def test_waiting_for_quota_stays_within_the_timeout_with_the_event_alone(
    server: Emulator, ti: TaskInstance, deferrable: bool
) -> None:
    """Where the pause does not keep when it began, every resumption starts anew."""
    ti.event_alone = True
    server.fault(method="POST", path_regex="/tuningJobs$", times=-1, status=429)
    with pytest.raises(errors.TuningQuotaError) as caught:
        ti.run(operator(deferrable=deferrable, timeout=3, poll_interval=0.5))
    assert not is_permanent(caught.value)
    assert server.jobs() == []
    assert live(server) == []


def test_list_over_its_quota_is_not_called_the_quota_of_jobs(
    server: Emulator, ti: TaskInstance, capsys: pytest.CaptureFixture[str]
) -> None:
    ti.run(operator(wait_for_completion=False, **LONG))
    ti.store = None
    server.fault(method="GET", path_regex="/tuningJobs$", times=-1, status=429)
    task = operator(**{**LONG, "timeout": 4}, deferrable=False, wait_for_completion=False)
    with pytest.raises(errors.TuningError, match="list"):
        ti.retry().run(task)
    assert "no tuning job can be created now" not in capsys.readouterr().out
    assert len(creates(server)) == 1
