"""Consoles for tests: pages, read as browsers read them, and forms, sent as browsers send them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from html.parser import HTMLParser
from typing import Any

import httpx
from starlette.types import ASGIApp

from dbos.console import console_app
from dbos.edges.console.forms import TOKEN_FIELD
from dbos.edges.console.mounting import ConsoleApp
from tests.support.processes import Spawner

PATHS = ("/", "/workflows", "/queues", "/schedules", "/executors")
"""The pages that need no workflow."""


class Page(HTMLParser):
    """A page as somebody sees it: its words, its links, its forms."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.html = html
        self.words: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self._cells: list[list[list[str]]] = []
        self._is_in_cell = False
        self.feed(html)

    @property
    def text(self) -> str:
        """Its words, with one space between them."""
        return _spaced(self.words)

    @property
    def rows(self) -> list[list[str]]:
        """The words of the cells of its tables' rows."""
        return [[_spaced(words) for words in cells] for cells in self._cells]

    def all(self, tag: str, **attributes: str) -> list[dict[str, str | None]]:
        """The attributes of all elements of this name that have these."""
        return [its for name, its in self.tags if name == tag and attributes.items() <= its.items()]

    @property
    def links(self) -> list[str]:
        return [its["href"] or "" for its in self.all("a")]

    @property
    def token(self) -> str:
        """The token of its forms; empty if it has none."""
        fields = self.all("input", name=TOKEN_FIELD)
        return (fields[0]["value"] or "") if fields else ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag == "tr":
            self._cells.append([])
        elif tag in ("td", "th") and self._cells:
            self._cells[-1].append([])
            self._is_in_cell = True
        elif tag == "br":
            self.handle_data(" ")

    def handle_endtag(self, tag: str) -> None:
        if tag in ("td", "th"):
            self._is_in_cell = False

    def handle_data(self, data: str) -> None:
        self.words.append(data)
        if self._is_in_cell:
            self._cells[-1][-1].append(data)


def _spaced(words: list[str]) -> str:
    return re.sub(r"\s+", " ", "".join(words)).strip()


class Browser:
    """Reads pages and sends forms. It keeps cookies, and follows redirections."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self.client = client

    async def get(self, path: str, expect: int = 200, **query: Any) -> Page:
        """Read a page."""
        answer = await self.client.get(path, params=query or None)
        page = Page(answer.text)
        assert answer.status_code == expect, page.text
        return page

    async def send(self, path: str, page: Page, expect: int = 200, **fields: Any) -> Page:
        """Send a form of the page; returns the page that is shown then."""
        answer = await self.client.post(path, data={TOKEN_FIELD: page.token, **fields})
        page = Page(answer.text)
        assert answer.status_code == expect, page.text
        return page


_OPENED: list[ConsoleApp] = []


def close_consoles() -> None:
    """Close the connections of all consoles that were browsed."""
    while _OPENED:
        _OPENED.pop().close()


def browse(app: ASGIApp, base_url: str = "http://console.example") -> Browser:
    """A browser of the application."""
    if isinstance(app, ConsoleApp):
        _OPENED.append(app)
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    return Browser(httpx.AsyncClient(transport=transport, base_url=base_url, follow_redirects=True, timeout=30))


@contextmanager
def console_on(url: str, **options: Any) -> Iterator[Browser]:
    """A browser of a console of its own on the database."""
    app = console_app(url, **options)
    yield browse(app)
    app.close()


def serve_console(spawner: Spawner, url: str, *options: str) -> str:
    """Have a process of its own serve a console of the database, as `dbos console` does; returns its address."""
    program = "from dbos.edges.cli.main import main; main()"
    return spawner(program, "console", "-s", url, "-p", "0", *options).wait_for_line(r"http://\S+").group()
