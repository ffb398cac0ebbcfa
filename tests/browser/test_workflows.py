"""The list of workflows, and the page of one, as somebody uses them."""

from __future__ import annotations

from collections.abc import Callable

from playwright.sync_api import Page, expect

from tests.browser.conftest import Visit


def ids(page: Page) -> list[str]:
    """The ids in the list, from above."""
    return page.locator("tbody th a.id").all_inner_texts()


def test_the_list_is_kept_up_to_date(visit: Callable[..., Visit]) -> None:
    its = visit()
    page = its.open("workflows")
    expect(page.get_by_label("Select order-1041", exact=True)).to_be_visible()
    its.shop.begin("order", "order-2001")
    row = page.get_by_role("row").filter(has=page.get_by_label("Select order-2001", exact=True))
    expect(row).to_contain_text("SUCCESS")


def test_it_is_filtered_and_a_workflow_opened_by_keys_alone(visit: Callable[..., Visit]) -> None:
    page = visit().open("workflows")
    page.get_by_role("searchbox").focus()
    page.keyboard.type("order-1039")
    page.keyboard.press("Enter")
    page.wait_for_url("**/workflows?*q=order-1039*")
    assert ids(page) == ["order-1039"]
    page.get_by_role("link", name="order-1039").focus()
    page.keyboard.press("Enter")
    page.wait_for_url("**/workflow?id=order-1039")
    expect(page.get_by_role("heading", level=1)).to_contain_text("ERROR")
    expect(page.get_by_role("main")).to_contain_text("the card was declined")


def test_a_status_is_ticked(visit: Callable[..., Visit]) -> None:
    page = visit().open("workflows")
    page.get_by_role("group", name="Status").get_by_label("ERROR").check()
    page.get_by_role("button", name="Search").click()
    page.wait_for_url("**/workflows?*status=ERROR*")
    assert ids(page) == ["order-1039"]


def test_a_workflow_is_cancelled_and_resumed(visit: Callable[..., Visit]) -> None:
    its = visit()
    its.shop.begin("approve", "approve-2")
    page = its.open("workflow?id=approve-2")
    heading = page.get_by_role("heading", level=1)
    expect(heading).to_contain_text("PENDING")
    page.get_by_role("button", name="Cancel").click()
    expect(heading).to_contain_text("CANCELLED")
    page.get_by_role("button", name="Resume").click()
    expect(heading).to_contain_text("PENDING")


def test_a_workflow_is_forked_from_a_step(visit: Callable[..., Visit]) -> None:
    page = visit().open("workflow?id=order-1040")
    page.get_by_text("Fork…").click()
    page.get_by_label("First step that runs again").fill("3")
    page.get_by_label("Its id").fill("order-1040 again")
    page.get_by_role("button", name="Fork").click()
    page.wait_for_url("**/workflow?id=order-1040*again")
    expect(page.get_by_role("heading", level=1)).to_contain_text("SUCCESS")
    expect(page.get_by_role("link", name="order-1040", exact=True)).to_be_visible()


def test_several_are_cancelled_at_once(visit: Callable[..., Visit]) -> None:
    """A list that is kept up to date does not lose what is ticked."""
    its = visit()
    for name in ("pick-1", "pick-2"):
        its.shop.begin("approve", name)
    page = its.open("workflows?q=pick-")
    for name in ("pick-1", "pick-2"):
        page.get_by_label(f"Select {name}").check()
    its.shop.begin("approve", "pick-3")
    with page.expect_response("**/workflows?q=pick-"):
        expect(page.locator("#picked")).to_have_text("2 selected")
    expect(page.locator("#picked")).to_have_text("2 selected")
    page.get_by_role("button", name="Cancel selected").click()
    page.get_by_role("button", name="Cancel 2 workflows").click()
    page.wait_for_url("**/workflows?q=pick-")
    row = page.get_by_role("row").filter(has_text="CANCELLED")
    expect(row).to_have_count(2)
