"""Who sees and who does what, asked of the API server over HTTP."""

from __future__ import annotations

import re
import time
from typing import Any
from urllib.parse import urlencode

import pytest

from airflow_tuning_provider.api.identity import TaskIdentity
from airflow_tuning_provider.plugin import desk
from testbed.services import http_json
from tests.e2e.page.conftest import PROJECT, Site

pytestmark = [pytest.mark.e2e, pytest.mark.matrix, pytest.mark.timeout(400)]

CONNECTION = "google_cloud_default"
LONG_AGO = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - 7200))


def listed(site: Site, user: str, **query: Any) -> dict[str, Any]:
    status, answer = site.user(user).page("GET", f"jobs?{urlencode(query)}")
    assert status == 200, answer
    return answer


def names(answer: dict[str, Any]) -> set[str]:
    return {job["display_name"] for job in answer["jobs"]}


def cancellations(site: Site, name: str) -> int:
    end = f"/tuningJobs/{name.rpartition('/')[2]}:cancel"
    return sum(one["path"].endswith(end) for one in site.emulator.requests())


def seeded(site: Site, name: str, **fields: Any) -> str:
    job = {"tunedModelDisplayName": name, "state": "JOB_STATE_RUNNING", "createTime": LONG_AGO, **fields}
    return site.emulator.seed(job, project=PROJECT)[0]


def own(site: Site, dag_id: str, task_id: str, run_id: str | None = None) -> dict[str, str]:
    """Return the labels of a job of this Airflow."""
    identity = TaskIdentity(dag_id, run_id or site.runs[dag_id], task_id, -1, "site")
    return identity.labels({"baseModel": "m"}, max_tries=0)


def test_every_route_but_static_files_refuses_an_anonymous_call(site: Site) -> None:
    from airflow_tuning_provider.plugin.app import build_app

    routes = [route for route in build_app().routes if hasattr(route, "methods")]
    mounts = {getattr(route, "path", "") for route in build_app().routes} - {r.path for r in routes}
    assert len(routes) >= 6
    assert mounts == {"/static"}
    for route in routes:
        for method in route.methods:
            url = f"{site.airflow.base_url}/tuning-jobs{route.path}"
            # Neither a wrong body nor a wrong header comes before the question who asks.
            for headers in ({"X-Requested-With": "tuning-jobs"}, {"Authorization": "Bearer nonsense"}):
                status, answer = http_json(method, url, {} if method == "POST" else None, headers)
                assert status in (401, 403), (method, route.path, status)
                assert set(answer or {}) <= {"detail"}
    for path in ("docs", "openapi.json", "redoc", "api/", "static/../app.py", "static/%2e%2e/app.py"):
        status, _ = http_json("GET", f"{site.airflow.base_url}/tuning-jobs/{path}")
        assert status in (401, 404), path


def test_rows_are_filtered_by_the_dags_that_the_user_may_read(site: Site) -> None:
    seeded(site, "by hand")
    seeded(site, "of another airflow", labels=TaskIdentity("ours_weekly", "r", "t").labels({}, max_tries=0))
    seeded(
        site,
        "of a dag that is gone",
        labels=TaskIdentity("gone", "r", "t", -1, "site").labels({}, max_tries=0),
    )
    ours, theirs, shared = (
        f"model of {dag_id}" for dag_id in ("ours_weekly", "theirs_weekly", "shared_weekly")
    )
    time.sleep(desk._FRESH)  # until what was asked for before is not fresh any more
    without_dag = {"by hand", "of another airflow", "of a dag that is gone"}
    # Two DAG ids have the label shared_weekly, and who may read only one of them sees no job of either.
    for user in ("vera", "uma"):
        seen = names(listed(site, user, fresh="true"))
        assert ours in seen
        assert not seen & {theirs, shared, *without_dag}
    seen = names(listed(site, "otto", fresh="true"))
    assert {ours, *without_dag} <= seen
    assert not seen & {theirs, shared}
    assert {ours, theirs, shared, *without_dag} <= names(listed(site, "ada", fresh="true"))


def test_a_job_names_the_task_instance_that_created_it(site: Site) -> None:
    job = next(job for job in listed(site, "vera")["jobs"] if job["dag"] == "ours_weekly")
    assert job["creator"]["run_id"] == site.runs["ours_weekly"]
    assert (job["creator"]["dag_id"], job["creator"]["task_id"]) == ("ours_weekly", "tune")
    links = site.airflow.client.links("ours_weekly", site.runs["ours_weekly"], "tune")
    found = re.fullmatch(r"(.*)/plugin/tuning_jobs\?(.*)", links["Tuning jobs"] or "")
    assert found
    assert found[1] == site.airflow.base_url
    status, answer = site.user("vera").page("GET", f"jobs?{found[2]}")
    assert status == 200
    assert names(answer) == {"model of ours_weekly"}


def test_filters(site: Site) -> None:
    seeded(site, "a failure", state="JOB_STATE_FAILED", error={"code": 3, "message": "no such bucket"})
    failed = listed(site, "ada", state="failed", fresh="true")
    assert "a failure" in names(failed)
    assert {job["state"] for job in failed["jobs"]} == {"JOB_STATE_FAILED"}
    assert names(listed(site, "ada", dag="theirs_weekly")) == {"model of theirs_weekly"}
    assert names(listed(site, "ada", state="failed", text="SUCH bucket")) == {"a failure"}
    assert names(listed(site, "ada", run="no_such_run")) == set()
    old = "2026-01-02T03:04:05Z"
    seeded(site, "an old one", createTime=old, state="JOB_STATE_SUCCEEDED", endTime=old)
    assert "an old one" not in names(listed(site, "ada", fresh="true"))
    assert "an old one" in names(listed(site, "ada", days=3650))


@pytest.mark.parametrize("query", ["days=0", "state=odd", "days=x", "text=" + "x" * 300])
def test_what_cannot_be_asked_is_refused_in_words(site: Site, query: str) -> None:
    status, answer = site.user("ada").page("GET", f"jobs?{query}")
    assert status == 422
    assert query.partition("=")[0] in answer["detail"]


def test_another_team_s_job_looks_like_none(site: Site) -> None:
    theirs, none = site.job_of("theirs_weekly")["name"], None
    none = theirs[:-3] + "000"
    answers = []
    for name in (theirs, none):
        query = urlencode({"connection": CONNECTION, "name": name})
        answers.append(site.user("uma").page("GET", f"job?{query}"))
        for action in ("cancel", "recheck"):
            answers.append(
                site.user("uma").page("POST", f"job/{action}", {"connection": CONNECTION, "name": name})
            )
    assert {status for status, _ in answers} == {404}
    assert len({answer["detail"] for _, answer in answers}) == 1
    assert cancellations(site, theirs) == 0


def test_a_viewer_sees_and_does_not_act(site: Site) -> None:
    name = seeded(site, "watched", labels=own(site, "ours_weekly", "watched"))
    status, answer = site.user("vera").page(
        "GET", f"job?{urlencode({'connection': CONNECTION, 'name': name})}"
    )
    assert status == 200
    assert answer["job"]["may_cancel"] is False
    status, answer = site.user("vera").page("POST", "job/cancel", {"connection": CONNECTION, "name": name})
    assert status == 403
    assert "permission to edit the task instances" in answer["detail"]
    assert cancellations(site, name) == 0


def test_who_may_edit_task_instances_cancels_and_the_audit_log_tells(site: Site) -> None:
    site.emulator.cancel_takes(None)
    try:
        name = seeded(site, "wanted no more", labels=own(site, "ours_weekly", "before"))
        status, answer = site.user("uma").page("POST", "job/cancel", {"connection": CONNECTION, "name": name})
        assert status == 200, answer
        assert answer["job"]["state"] == "JOB_STATE_CANCELLING"
        # Two people at once: the second is told, and nothing is asked twice.
        status, answer = site.user("ada").page("POST", "job/cancel", {"connection": CONNECTION, "name": name})
        assert status == 200
        assert "somebody was faster" in answer["message"]
        assert cancellations(site, name) == 1
    finally:
        site.emulator.cancel_takes(0)
    entries = site.airflow.client.request("GET", "/eventLogs", event="tuning_jobs.cancel", limit=100)[
        "event_logs"
    ]
    entry = next(one for one in entries if name in one["extra"])
    assert (entry["owner"], entry["dag_id"], entry["task_id"]) == ("uma", "ours_weekly", "before")


def test_a_job_without_our_labels_is_for_who_may_edit_connections(site: Site) -> None:
    name = seeded(site, "started by hand")
    body = {"connection": CONNECTION, "name": name}
    assert site.user("uma").page("POST", "job/cancel", body)[0] == 404
    status, answer = site.user("otto").page("POST", "job/cancel", body)
    assert status == 200, answer
    assert cancellations(site, name) == 1
    status, answer = site.user("otto").page("POST", "job/recheck", body)
    assert status == 200
    assert "Google says" in answer["message"]


@pytest.mark.parametrize(
    "headers",
    [
        {"X-Requested-With": "XMLHttpRequest"},
        {"Origin": "https://evil.example"},
        {"X-Requested-With": "tuning-jobs", "Sec-Fetch-Site": "cross-site"},
        {"X-Requested-With": "tuning-jobs", "Sec-Fetch-Site": "same-site"},
    ],
)
def test_a_request_from_another_site_is_refused(site: Site, headers: dict[str, str]) -> None:
    name = site.job_of("ours_weekly")["name"]
    for path, body in (
        ("job/cancel", {"connection": CONNECTION, "name": name}),
        ("orphans", {"cancel": [name]}),
    ):
        status, answer = site.user("ada").page("POST", path, body, **headers)
        assert status == 403
        assert "does not come from the page" in answer["detail"]
    assert cancellations(site, name) == 0


def test_only_who_may_read_connections_looks_elsewhere(site: Site) -> None:
    for query in (
        {"connection": "no_permission"},
        {"connection": CONNECTION, "location": "europe-west4"},
        {"connection": CONNECTION, "project": "another-project", "location": "us-central1"},
    ):
        status, answer = site.user("vera").page("GET", f"jobs?{urlencode(query)}")
        assert status == 403
        assert "permission to read the connection" in answer["detail"]
        assert site.user("vera").page("POST", "orphans", query)[0] == 403
        listed(site, "otto", **query)
    assert site.user("vera").page("GET", "places")[1]["connections"] == []
    found = site.user("otto").page("GET", "places")[1]
    assert CONNECTION in found["connections"]
    assert [place["dags"] for place in found["places"]] == [["ours_weekly", "shared_weekly"]]


@pytest.mark.parametrize(
    ("connection", "kind", "words"),
    [
        ("away", "unavailable", "cannot be reached"),
        ("no_permission", "unauthenticated", "cannot be used"),
        ("deleted_long_ago", "unauthenticated", "may have been deleted"),
    ],
)
def test_a_connection_that_does_not_work_is_shown_in_words(
    site: Site, connection: str, kind: str, words: str
) -> None:
    trouble = listed(site, "otto", connection=connection)["trouble"]
    assert trouble["kind"] == kind
    assert words in f"{trouble['title']} {trouble['advice']}"
    assert "wrong" not in trouble["details"].split(), "the token"
    name = f"projects/{PROJECT}/locations/us-central1/tuningJobs/1"
    status, answer = site.user("otto").page("POST", "job/cancel", {"connection": connection, "name": name})
    assert status in (502, 503)
    assert trouble["title"] in answer["detail"]


def test_a_project_that_cannot_be_right_is_refused(site: Site) -> None:
    status, answer = site.user("otto").page(
        "GET", f"jobs?{urlencode({'connection': CONNECTION, 'project': '../x'})}"
    )
    assert status == 400
    assert "project_id" in answer["detail"]


def test_a_quota_that_is_used_up_is_shown_in_words_and_google_s_only_to_who_may_read_them(site: Site) -> None:
    site.emulator.fault(method="GET", status=429, times=-1)
    try:
        for user in ("vera", "otto"):
            trouble = listed(site, user, fresh="true", days=29)["trouble"]
            assert trouble["kind"] == "quota"
            assert "Nothing is wrong with the jobs" in trouble["title"]
            assert bool(trouble["details"]) is (user == "otto")
    finally:
        site.emulator.clear_faults()


def test_ten_thousand_jobs_come_page_by_page(site: Site) -> None:
    where = {"connection": CONNECTION, "location": "us-west1"}
    job = {"state": "JOB_STATE_SUCCEEDED", "createTime": LONG_AGO, "tunedModelDisplayName": "one of many"}
    site.emulator.seed(job, count=10_000, project=PROJECT, location="us-west1")
    before = site.emulator.last_request()
    first = listed(site, "ada", **where)
    assert len(first["jobs"]) == 50
    again = listed(site, "otto", **where)
    assert {job["name"] for job in again["jobs"]} == {job["name"] for job in first["jobs"]}
    assert len(site.emulator.requests(before)) == 1, "one request, remembered"
    second = listed(site, "ada", **where, page=first["next_page"])
    assert len(second["jobs"]) == 50
    assert not {job["name"] for job in first["jobs"]} & {job["name"] for job in second["jobs"]}


def test_a_page_that_google_does_not_know_any_more_is_told_in_words(site: Site) -> None:
    trouble = listed(site, "ada", page="a token of last week")["trouble"]
    assert trouble["kind"] == "bad_request"
    assert "go back to its newest page" in trouble["advice"]


def test_orphans_are_found_and_cancelled_by_who_may_edit_their_tasks(site: Site) -> None:
    # The task "before" has ended: nothing waits for these.
    mine = seeded(site, "an orphan", labels=own(site, "ours_weekly", "before"))
    foreign = seeded(site, "their orphan", labels=own(site, "theirs_weekly", "before"))
    assert site.user("vera").page("POST", "orphans", {})[1]["orphans"] == []
    status, found = site.user("uma").page("POST", "orphans", {})
    assert status == 200, found
    assert mine in {one["name"] for one in found["orphans"]}
    assert foreign not in {one["name"] for one in found["orphans"]}
    waited_for = site.job_of("ours_weekly")["name"]
    status, done = site.user("uma").page("POST", "orphans", {"cancel": [mine, foreign, waited_for]})
    assert status == 200, done
    assert done["cancelled"] == [mine]
    assert (cancellations(site, mine), cancellations(site, foreign), cancellations(site, waited_for)) == (
        1,
        0,
        0,
    )
    logged = site.airflow.client.request("GET", "/eventLogs", event="tuning_jobs.cancel_orphan", limit=100)
    assert any(mine in one["extra"] and one["owner"] == "uma" for one in logged["event_logs"])
