"""What holds of every page: it fits a phone, needs no mouse, is light and dark, and obeys its own policy."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.browser.conftest import Visit

PAGES = (
    "",
    "workflows?status=ERROR",
    "queues",
    "schedules",
    "schedule?name=nightly-report",
    "executors",
    "workflow?id=order-1037",
    "workflow?id=order-1039",
    "workflow?id=import-ikea",
    "workflow/stream?id=import-ikea&key=progress",
    "graph?id=order-1037",
)

PHONE = {"width": 360, "height": 740}

OVERFLOW = "() => document.documentElement.scrollWidth - document.documentElement.clientWidth"

BACKGROUND = "() => getComputedStyle(document.body).backgroundColor"


@pytest.mark.parametrize("path", PAGES)
def test_it_fits_a_phone_and_can_be_read_without_javascript(visit: Callable[..., Visit], path: str) -> None:
    page = visit(viewport=PHONE, java_script_enabled=False).open(path)
    assert page.evaluate(OVERFLOW) == 0
    assert page.locator("h1").count() == 1
    assert page.locator("main").inner_text().strip()


@pytest.mark.parametrize("path", PAGES)
def test_axe_finds_nothing(visit: Callable[..., Visit], path: str) -> None:
    """All rules of axe-core in light, and the contrast of colours in dark as well."""
    from axe_playwright_python.sync_playwright import Axe

    page = visit(color_scheme="light").open(path)
    in_light = Axe().run(page)
    assert in_light.violations_count == 0, in_light.generate_report()
    page.emulate_media(color_scheme="dark")
    in_dark = Axe().run(page, options={"runOnly": ["color-contrast"]})
    assert in_dark.response["passes"], "no colour was looked at"
    assert in_dark.violations_count == 0, in_dark.generate_report()


def test_dark_is_dark(visit: Callable[..., Visit]) -> None:
    light, dark = (visit(color_scheme=scheme).open("").evaluate(BACKGROUND) for scheme in ("light", "dark"))
    brightness = [sum(map(int, colour.removeprefix("rgb(").removesuffix(")").split(","))) for colour in (light, dark)]
    assert brightness[0] > 600
    assert brightness[1] < 150


def test_the_keyboard_goes_everywhere(visit: Callable[..., Visit]) -> None:
    """The first stop skips the navigation; where one is can be seen."""
    page = visit().open("queues")
    page.keyboard.press("Tab")
    assert page.evaluate("() => document.activeElement.textContent") == "Skip to the content"
    page.keyboard.press("Enter")
    assert page.evaluate("() => document.activeElement.id") == "content"
    page.keyboard.press("Tab")
    assert page.evaluate("() => document.activeElement.closest('main') !== null")
    assert page.evaluate("() => getComputedStyle(document.activeElement).outlineStyle") == "solid"
    page = visit().open("queues")
    for _ in range(4):
        page.keyboard.press("Tab")
    assert page.evaluate("() => document.activeElement.textContent") == "Workflows"
    page.keyboard.press("Enter")
    page.wait_for_url("**/workflows")


def test_what_breaks_the_policy_would_be_seen(visit: Callable[..., Visit]) -> None:
    """That no page complains proves something only if the browser complains where it must."""
    its = visit()
    page = its.open("queues")
    is_blocked = "() => new Promise(done => document.addEventListener('securitypolicyviolation', () => done(true)))"
    script = "document.body.append(Object.assign(document.createElement('script'), {textContent: 'window.ran = 1'}))"
    assert page.evaluate(f"() => {{ const blocked = ({is_blocked})(); {script}; return blocked }}")
    assert page.evaluate("() => window.ran") is None
    page.wait_for_function("() => true")
    assert any("Content Security Policy" in complaint for complaint in its.complaints)
    its.complaints.clear()
