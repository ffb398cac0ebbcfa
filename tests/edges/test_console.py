"""The console: its pages, wherever it is served."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.routing import Mount

from dbos import DBOS
from dbos.console import console_app
from dbos.edges.console.rendering import templates
from tests.support.admin import AdminApp, admin_client
from tests.support.apps import PATIENCE_S, App, Roadblock
from tests.support.console import PATHS, Page, browse


async def test_every_page_can_be_shown(application: App) -> None:
    application.launch()
    browser = browse(console_app(application.url))
    for path in PATHS:
        page = await browser.get(path)
        assert page.all("html", lang="en")
        assert len(page.all("h1")) == len(page.all("main")) == len(page.all("nav", **{"aria-label": "Main"})) == 1
        assert len(page.all("a", **{"aria-current": "page"})) == 1


@pytest.mark.parametrize(("make", "prefix"), [(FastAPI, "/dbos"), (Starlette, "/a/b c")])
async def test_it_can_be_mounted_anywhere(application: App, make: type[Starlette], prefix: str) -> None:
    """It shows the DBOS of the process; every link stays below the mount."""
    app = make()
    app.mount(prefix, console_app())
    browser = browse(app)
    assert "launch" in (await browser.get(f"{prefix}/", expect=503)).text
    application.launch()
    for path in PATHS:
        page = await browser.get(prefix + path)
        quoted = prefix.replace(" ", "%20")
        assert all(link.startswith((f"{quoted}/", "#")) for link in page.links), page.links
        for its in page.all("script") + page.all("link"):
            address = its.get("src") or its["href"] or ""
            assert address.startswith(f"{quoted}/static/")
            assert (await browser.client.get(address)).status_code == 200
    assert (await browser.get(f"{prefix}/nothing", expect=404)).links


async def test_a_mount_in_a_mount(application: App) -> None:
    application.launch()
    inner = FastAPI()
    inner.mount("/console", console_app())
    page = await browse(Starlette(routes=[Mount("/inner", inner)])).get("/inner/console/")
    assert "/inner/console/workflows" in page.links


def test_the_admin_server_serves_it_read_only(application: App) -> None:
    app = AdminApp(application.url)
    app.launch()
    with admin_client(follow_redirects=True) as client:
        page = Page(client.get("/console").text)
        assert "read-only" in page.text
        assert "/console/workflows" in page.links
    DBOS.destroy()
    app.launch(admin_console_writes=True)
    with admin_client() as client:
        assert "read and write" in Page(client.get("/console/").text).text


def test_the_token_of_the_admin_server_is_a_password_for_pages_only(sqlite_url: str) -> None:
    token = "a-token-of-the-tests-0123456789"
    AdminApp(sqlite_url).launch(admin_token=token)
    try:
        with admin_client(follow_redirects=True) as client:
            assert "Basic" in client.get("/console/").headers["www-authenticate"]
            assert client.get("/console/", auth=("me", token)).status_code == 200
            assert client.get("/console", headers={"Authorization": f"Bearer {token}"}).status_code == 200
            for path in ("/workflows/x", "/openapi.json", "/consoles", "/"):
                answer = client.get(path, auth=("me", token))
                assert (answer.status_code, answer.headers["www-authenticate"]) == (401, 'Bearer realm="dbos"'), path
    finally:
        DBOS.destroy()


async def test_others_are_answered_while_a_page_is_made(application: App, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also by a program whose loop the console shares."""
    application.launch()
    browser = browse(console_app(application.url))
    roadblock = Roadblock()
    made = templates().filters["moment"]

    def moment(*arguments: Any, **options: Any) -> Any:
        roadblock.stop()
        return made(*arguments, **options)

    monkeypatch.setitem(templates().filters, "moment", moment)
    slow = asyncio.create_task(browser.get("/executors"))
    assert await asyncio.to_thread(roadblock.reached.wait, PATIENCE_S)
    await browser.get("/queues")
    assert not slow.done()
    roadblock.open()
    await slow
