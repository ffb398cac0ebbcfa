"""A browser, a shop, and a console of it that may change things. Without a Chromium all of this is skipped."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.chromium import NO_CHROMIUM, chromium, find_chromium
from tests.support.console import serve_console
from tests.support.processes import ROOT, Child, Spawner

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

PATIENCE_MS = 30_000.0


@dataclass
class Shop:
    """The application, its database, and where its console is."""

    child: Child
    url: str
    console: str

    def begin(self, kind: str, workflow_id: str, customer: str = "ann") -> None:
        """Have the application start a workflow."""
        before = self.child.stdout.count("begun")
        self.child.write_line(f"{kind} {workflow_id} {customer}")
        self.child.wait_for_line("begun", count=before + 1)


@dataclass
class Visit:
    """A page of the browser, and what its console said."""

    page: Page
    shop: Shop
    complaints: list[str] = field(default_factory=list)

    def open(self, path: str) -> Page:
        """Go to a page of the console."""
        answer = self.page.goto(self.shop.console + path.lstrip("/"))
        assert answer is not None
        assert answer.status == 200, (path, answer.status)
        return self.page


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    executable = find_chromium()
    if executable is None:
        pytest.skip(NO_CHROMIUM)
    from playwright.sync_api import expect

    expect.set_options(timeout=PATIENCE_MS)
    with chromium(executable) as browser:
        yield browser


@pytest.fixture(scope="package")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    directory = tmp_path_factory.mktemp("shop")
    spawner = Spawner(directory)
    url = f"sqlite:///{directory}/shop.sqlite"
    try:
        child = spawner(ROOT / "docs/images/shop.py", url)
        child.wait_for_line("ready")
        yield Shop(child, url, serve_console(spawner, url, "--allow-writes"))
    finally:
        spawner.close()


@pytest.fixture
def visit(browser: Browser, shop: Shop) -> Iterator[Callable[..., Visit]]:
    """Opens pages of the browser, each in a context of its own; in the end none may have complained of anything."""
    visits: list[Visit] = []

    def begin(**options: Any) -> Visit:
        context = browser.new_context(**options)
        context.set_default_timeout(PATIENCE_MS)
        its = Visit(context.new_page(), shop)
        its.page.on("console", lambda message: its.complaints.append(f"{message.type}: {message.text}"))
        its.page.on("pageerror", lambda error: its.complaints.append(str(error)))
        its.page.on("requestfailed", lambda request: its.complaints.append(f"{request.failure}: {request.url}"))
        visits.append(its)
        return its

    yield begin
    for its in visits:
        its.page.context.close()
    # A page that is left breaks its requests off.
    complaints = [one for its in visits for one in its.complaints if not re.match("net::ERR_ABORTED", one)]
    assert complaints == []
