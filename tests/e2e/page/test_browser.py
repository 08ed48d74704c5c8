"""The page in a real browser, and the screenshots of docs/page.md (SCREENSHOTS=1 writes them there)."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.e2e.page.conftest import AXE, PROJECT, SHOTS, Site
from tests.e2e.page.test_rights import cancellations, own

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = [pytest.mark.e2e, pytest.mark.matrix, pytest.mark.timeout(400)]

HOUR = 3600
SCRIPT = "<img src=x onerror='globalThis.pwned=1'><script>globalThis.pwned=1</script>"


def ago(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - seconds))


def buckets(counts: list[int], width: float) -> list[dict[str, float]]:
    return [{"count": count, "left": n * width, "right": (n + 1) * width} for n, count in enumerate(counts)]


DATA = {
    "supervisedTuningDataStats": {
        "tuningDatasetExampleCount": "312",
        "totalBillableTokenCount": "41870",
        "tuningStepCount": "60",
        "droppedExampleIndices": ["17"],
        "droppedExampleReasons": ["Example 17: it has no model turn"],
        "userInputTokenDistribution": {
            **{"sum": "30000", "min": 3, "max": 400, "mean": 96, "median": 77, "p5": 5, "p95": 300},
            "buckets": buckets([80, 66, 54, 40, 30, 18, 11, 7, 4, 2], 40),
        },
        "userOutputTokenDistribution": {
            **{"sum": "3000", "min": 1, "max": 20, "mean": 9, "median": 8, "p5": 2, "p95": 18},
            "buckets": buckets([20, 34, 51, 66, 54, 38, 25, 13, 8, 3], 2),
        },
    }
}


@pytest.fixture(scope="module", autouse=True)
def some_jobs(site: Site) -> dict[str, str]:
    """Put in jobs of every kind."""
    spec = {
        "trainingDatasetUri": "gs://my-tuning-data/support-router/train.jsonl",
        "hyperParameters": {
            "epochCount": "3",
            "adapterSize": "ADAPTER_SIZE_FOUR",
            "learningRateMultiplier": 1,
        },
    }

    def seed(name: str, state: str, since: float, **fields: Any) -> str:
        job = {
            **{"tunedModelDisplayName": name, "state": f"JOB_STATE_{state}", "baseModel": "gemini-3.5-flash"},
            **{"createTime": ago(since), "startTime": ago(since - 400)},
            **{
                "supervisedTuningSpec": spec,
                "labels": own(site, "ours_weekly", "before", f"week_{name[-1]}"),
            },
        }
        return site.emulator.seed({**job, **fields}, project=PROJECT)[0]

    error = {"code": 3, "message": "gs://my-tuning-data/invoices.jsonl: 14 examples have no model turn."}
    return {
        "running": seed("ticket router 5", "RUNNING", 2 * HOUR),
        "succeeded": seed(
            "ticket router 4", "SUCCEEDED", 30 * HOUR, endTime=ago(29 * HOUR), tuningDataStats=DATA
        ),
        "failed": seed(
            "invoice reader 3", "FAILED", 55 * HOUR, endTime=ago(54 * HOUR), error=error, tuningDataStats=DATA
        ),
        "script": seed(SCRIPT, "SUCCEEDED", 80 * HOUR, endTime=ago(79 * HOUR)),
    }


@pytest.fixture
def shot(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    """Return what takes a screenshot."""
    folder = SHOTS if os.environ.get("SCREENSHOTS") else tmp_path

    def shot(page: Page, name: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        page.wait_for_timeout(300)
        page.screenshot(path=folder / f"{name}.png")

    return shot


def serious(page: Page) -> list[str]:
    """Return what axe finds serious or worse on the page, as far as it is ours."""
    if not AXE.exists():
        pytest.skip("axe is not installed: make www")
    page.evaluate(AXE.read_text("utf-8"))
    found = page.evaluate("axe.run('.tj', {resultTypes: ['violations']})")["violations"]
    return [
        f"{one['id']}: {one['help']}: {[node['html'][:120] for node in one['nodes'][:3]]}"
        for one in found
        if one["impact"] in ("serious", "critical")
    ]


def open_job(page: Page, name: str) -> None:
    page.get_by_role("button", name=name, exact=True).click()
    page.get_by_role("heading", name="Hyperparameters").wait_for()


def test_the_page_is_in_the_navigation(site: Site, visit: Any) -> None:
    page = visit("vera")
    page.goto(site.airflow.base_url)
    page.get_by_role("button", name="Browse").click()
    page.get_by_text("Tuning jobs").click()
    page.get_by_role("heading", name="Tuning jobs").wait_for()
    page.get_by_role("link", name="ours_weekly").first.wait_for()


def test_list_filter_and_back(site: Site, visit: Any, shot: Any) -> None:
    page = visit("vera")
    page.get_by_role("button", name="model of ours_weekly").wait_for()
    assert page.get_by_role("button", name="model of theirs_weekly").count() == 0
    shot(page, "list")
    page.get_by_label("State").select_option("failed")
    page.get_by_role("button", name="model of ours_weekly").wait_for(state="detached")
    assert "state=failed" in page.url
    page.get_by_label("Text on this page").fill("invoice READER")
    page.wait_for_url("**text=invoice**")
    page.get_by_role("button", name="invoice reader 3").wait_for()
    page.reload()
    page.get_by_role("button", name="invoice reader 3").wait_for()
    assert page.get_by_label("State").input_value() == "failed"
    open_job(page, "invoice reader 3")
    page.get_by_text("14 examples have no model turn").first.wait_for()
    page.get_by_text("What to do: Change the input").wait_for()
    shot(page, "failed")
    page.go_back()
    page.get_by_role("button", name="invoice reader 3").wait_for()
    page.get_by_label("Text on this page").fill("no such thing")
    page.get_by_text("No tuning jobs to show").wait_for()


def test_pages(site: Site, visit: Any) -> None:
    job = {"state": "JOB_STATE_SUCCEEDED", "createTime": ago(HOUR), "tunedModelDisplayName": "many"}
    site.emulator.seed(job, count=120, project=PROJECT, location="us-east4")
    page = visit("otto", "?connection=google_cloud_default&location=us-east4")
    rows = page.locator("tbody tr")
    page.get_by_role("button", name="Next page").click()
    page.wait_for_url("**page=*")
    page.get_by_role("button", name="Newest").wait_for()
    page.get_by_role("button", name="Next page").click()
    page.get_by_role("button", name="Next page").wait_for(state="detached")
    assert rows.count() == 20
    page.get_by_role("button", name="Newest").click()
    page.get_by_role("button", name="Next page").wait_for()
    assert rows.count() == 50


def test_detail(site: Site, visit: Any, shot: Any) -> None:
    page = visit("vera")
    open_job(page, "ticket router 4")
    page.get_by_role("img", name="Tokens of input per example").wait_for()
    page.get_by_text("125,610 (41,870 × 3 epochs)").wait_for()
    page.get_by_text("Example 17: it has no model turn").first.wait_for()
    assert page.get_by_role("link", name="Google Cloud console").get_attribute("href").startswith("https://")
    assert page.get_by_role("button", name="Cancel job").count() == 0
    assert not page.locator("pre.tj-raw").is_visible()
    assert serious(page) == []
    shot(page, "detail")
    page.get_by_role("button", name="Re-check").click()
    page.get_by_text("Google says: succeeded.").wait_for()


def test_an_operator_cancels(site: Site, visit: Any, shot: Any) -> None:
    name = site.emulator.seed(
        {
            **{
                "tunedModelDisplayName": "to be stopped",
                "state": "JOB_STATE_RUNNING",
                "createTime": ago(HOUR),
            },
            "labels": own(site, "ours_weekly", "stopped"),
        },
        project=PROJECT,
    )[0]
    site.emulator.cancel_takes(None)
    page = visit("uma")
    page.get_by_role("button", name="Refresh").click()
    open_job(page, "to be stopped")
    page.get_by_role("button", name="Cancel job").click()
    dialog = page.get_by_role("dialog", name="Cancel this job?")
    dialog.wait_for()
    assert serious(page) == []
    shot(page, "cancel")
    page.keyboard.press("Escape")
    dialog.wait_for(state="detached")
    assert cancellations(site, name) == 0
    page.get_by_role("button", name="Cancel job").click()
    dialog.get_by_role("button", name="Cancel the job").click()
    page.get_by_text("Google has been asked to cancel the job").wait_for()
    page.get_by_text("Being cancelled", exact=True).wait_for()
    assert page.get_by_role("button", name="Cancel job").count() == 0
    assert cancellations(site, name) == 1
    site.emulator.cancel_takes(0)


def test_orphans(site: Site, visit: Any) -> None:
    name = site.emulator.seed(
        {
            **{"tunedModelDisplayName": "left behind", "state": "JOB_STATE_RUNNING", "createTime": ago(HOUR)},
            "labels": own(site, "ours_weekly", "before"),
        },
        project=PROJECT,
    )[0]
    page = visit("uma")
    page.get_by_role("button", name="Find orphans").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_text("left behind").wait_for()
    assert cancellations(site, name) == 0
    dialog.get_by_role("button", name="Cancel th").click()
    dialog.get_by_text("Google has been asked to cancel the job").first.wait_for()
    assert cancellations(site, name) == 1


def test_a_link_to_another_team_s_job_shows_nothing_of_it(site: Site, visit: Any) -> None:
    name = site.job_of("theirs_weekly")["name"]
    page = visit("uma", f"?connection=google_cloud_default&job={name}")
    page.get_by_role("alert").get_by_text("There is no such job, or you may not see it.").wait_for()
    assert "theirs" not in page.locator(".tj").inner_text()


def test_script_in_a_name_is_text(visit: Any) -> None:
    page = visit("vera")
    page.get_by_role("button", name=SCRIPT).wait_for()
    open_job(page, SCRIPT)
    assert page.get_by_role("heading", level=1).inner_text() == SCRIPT
    assert page.evaluate("globalThis.pwned") is None


def test_an_expired_session_says_so(visit: Any) -> None:
    page = visit("vera")
    page.get_by_role("button", name="model of ours_weekly").wait_for()
    page.context.clear_cookies()
    page.get_by_role("button", name="Refresh").click()
    page.get_by_text("Your session has expired.").wait_for()
    assert page.get_by_role("link", name="Sign in again").get_attribute("href") == page.url


def test_an_api_that_is_away_is_shown_in_words(site: Site, visit: Any, shot: Any) -> None:
    page = visit("otto", "?connection=away")
    page.get_by_role("alert").get_by_text("Google's API cannot be reached at the moment").wait_for()
    assert serious(page) == []
    shot(page, "away")


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_colours_are_the_host_s_and_an_accessibility_checker_is_content(
    visit: Any, shot: Any, dark: bool
) -> None:
    page = visit("vera", dark=dark)
    page.get_by_role("button", name="ticket router 4").wait_for()
    painted = page.evaluate(
        """() => {
            const canvas = document.createElement('canvas').getContext('2d');
            canvas.fillStyle = getComputedStyle(document.querySelector('.tj h1')).color;
            canvas.fillRect(0, 0, 1, 1);
            return [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3);
        }"""
    )
    assert [part > 128 for part in painted] == [dark] * 3, painted
    assert serious(page) == []
    if dark:
        shot(page, "dark")


def test_a_telephone_needs_no_sideways_scrolling(visit: Any, shot: Any) -> None:
    page = visit("vera", width=390)
    page.get_by_role("button", name="ticket router 4").wait_for()
    wide = "document.querySelector('.tj').scrollWidth > document.querySelector('.tj').clientWidth"
    whole = "document.documentElement.scrollWidth > innerWidth"
    assert not page.evaluate(f"{wide} || {whole}")
    assert serious(page) == []
    shot(page, "narrow")
    open_job(page, "ticket router 4")
    assert not page.evaluate(f"{wide} || {whole}")


def test_the_keyboard_does(visit: Any) -> None:
    page = visit("vera")
    button = page.get_by_role("button", name="ticket router 4")
    button.wait_for()
    page.get_by_label("Text on this page").focus()
    for _ in range(60):
        page.keyboard.press("Tab")
        if button.evaluate("it => it === document.activeElement"):
            break
    page.keyboard.press("Enter")
    page.get_by_role("heading", name="ticket router 4").wait_for()


def test_it_refreshes_itself_while_jobs_run(site: Site, visit: Any) -> None:
    page = visit("vera")
    page.get_by_role("button", name="ticket router 5").wait_for()
    with page.expect_request("**/tuning-jobs/api/jobs?*", timeout=25_000):
        pass
