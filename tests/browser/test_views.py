"""Queues, schedules and executors, as somebody uses them."""

from __future__ import annotations

from collections.abc import Callable

from playwright.sync_api import expect

from tests.browser.conftest import Visit


def test_queues_are_kept_up_to_date(visit: Callable[..., Visit]) -> None:
    its = visit()
    page = its.open("queues")
    row = page.get_by_role("row").filter(has_text="imports")
    cells = row.get_by_role("cell")
    expect(cells.nth(2)).to_have_text("2")
    expect(cells.nth(5)).to_have_text("2 at once, 100 in 60 s")
    waiting = int(cells.nth(0).inner_text())
    its.shop.begin("import", f"import-muuto-{waiting}", "muuto")
    expect(cells.nth(0)).to_have_text(str(waiting + 1))
    row.get_by_role("link", name="imports").click()
    page.wait_for_url("**/workflows?queue_name=imports")


def test_schedules_are_paused_resumed_and_triggered(visit: Callable[..., Visit]) -> None:
    page = visit().open("schedules")
    row = page.get_by_role("row").filter(has_text="nightly-report")
    row.get_by_role("button", name="Pause").click()
    expect(page.get_by_role("status").filter(has_text="is paused")).to_be_visible()
    expect(row).to_contain_text("PAUSED")
    row.get_by_role("button", name="Resume").click()
    expect(row).to_contain_text("ACTIVE")
    page.once("dialog", lambda dialog: dialog.dismiss())
    row.get_by_role("button", name="Trigger").click()
    page.once("dialog", lambda dialog: dialog.accept())
    row.get_by_role("button", name="Trigger").click()
    expect(page.get_by_role("status").filter(has_text="Started now: sched-nightly-report-trigger-")).to_be_visible()


def test_a_schedule_is_backfilled(visit: Callable[..., Visit]) -> None:
    page = visit().open("schedule?name=nightly-report")
    page.get_by_label("After").fill("2024-01-01T00:00:00")
    page.get_by_label("Before").fill("2024-01-04T00:00:00")
    page.get_by_role("button", name="Backfill").click()
    expect(page.get_by_role("status").filter(has_text="Backfilled: 3 fire times")).to_be_visible()


def test_executors_tell_what_they_serve(visit: Callable[..., Visit]) -> None:
    page = visit().open("executors")
    row = page.get_by_role("row").filter(has_text="worker-1")
    expect(row).to_contain_text("alive")
    summary = row.get_by_text("2 queues")
    summary.focus()
    page.keyboard.press("Enter")
    expect(row.get_by_text("imports")).to_be_visible()
    with page.expect_response(lambda answer: answer.url.endswith("executors")):
        pass
    expect(row.get_by_text("imports")).to_be_visible()
