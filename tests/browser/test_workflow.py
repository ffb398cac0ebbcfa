"""The page of a workflow, as somebody looks at it while it goes on; its graph."""

from __future__ import annotations

from collections.abc import Callable

from playwright.sync_api import expect

from tests.browser.conftest import Visit


def test_what_was_unfolded_and_typed_stays_when_the_page_changes(visit: Callable[..., Visit]) -> None:
    its, other = visit(), visit()
    its.shop.begin("approve", "approve-3")
    page = its.open("workflow?id=approve-3")
    expect(page.get_by_role("heading", name="Now: waiting for a message or an event")).to_be_visible()
    page.locator("#step-1 summary").click()
    details = page.locator("#step-1").get_by_text("DBOS.setEvent")
    expect(details).to_be_visible()
    page.locator("#fork > summary").click()
    page.get_by_label("Its id").fill("half-typed")
    other.open("workflow?id=approve-3").get_by_role("button", name="Cancel").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("CANCELLED")
    expect(details).to_be_visible()
    expect(page.get_by_label("Its id")).to_have_value("half-typed")
    # It has ended: nobody asks any more.
    expect(page.locator("#live[data-hx-get]")).to_have_count(0)


def test_everything_that_can_be_unfolded_is_accessible(visit: Callable[..., Visit]) -> None:
    from axe_playwright_python.sync_playwright import Axe

    for path in ("workflow?id=order-1037", "workflow?id=order-1039", "workflow?id=import-ikea"):
        page = visit().open(path)
        page.evaluate("() => document.querySelectorAll('details').forEach(one => { one.open = one.id !== 'fork' })")
        result = Axe().run(page)
        assert result.violations_count == 0, result.generate_report()


def test_boxes_of_the_graph_lead_to_their_workflows(visit: Callable[..., Visit]) -> None:
    page = visit().open("graph?id=order-1037")
    expect(page.locator("svg a")).to_have_count(3)
    page.locator("svg a", has_text="send_mail").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("send_mail")
    page.get_by_role("link", name="order-1037").first.click()
    page.wait_for_url("**/workflow?id=order-1037")
