"""What the console keeps off: foreign pages, forged forms, hostile values, wrong tokens, files beside its own."""

from __future__ import annotations

import base64
import logging
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from dbos.console import console_app
from dbos.edges.guards import MAX_BODY_BYTES
from dbos.error import DBOSInitializationError
from dbos.storage.database import Database
from dbos.storage.opening import open_database
from dbos.storage.reads import WorkflowFilter, read_workflows
from dbos.storage.schema import VERSION_TABLE
from tests.support.console import PATHS, Browser, Page, console_on
from tests.support.storage import change, commit, start

TOKEN = "a-token-of-the-tests-0123456789"
SCRIPT = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>"


@pytest.fixture
def database(sqlite_url: str) -> Iterator[Database]:
    """With one workflow; none of this depends on the database."""
    with_tables = open_database(url=sqlite_url)
    commit(with_tables, start("victim", None, lease_id=None))
    yield with_tables
    with_tables.close()


@pytest.fixture
def browser(database: Database, sqlite_url: str) -> Iterator[Browser]:
    """Of a console that may change things."""
    with console_on(sqlite_url, allow_writes=True) as browser:
        yield browser


def status_of(database: Database) -> str | None:
    rows = read_workflows(database, WorkflowFilter(workflow_ids=["victim"]))
    return rows[0].status if rows else None


def basic(password: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"anybody:{password}".encode()).decode()}


# -- what pages hold


async def test_no_page_allows_scripts_but_its_own(browser: Browser) -> None:
    for path in (*PATHS, "/nothing", "/static/console.css", "/workflows?status=X"):
        headers = (await browser.client.get(path)).headers
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "same-origin"
        assert headers["cache-control"] in ("no-store", "no-cache")
    for path in PATHS:
        page = await browser.get(path)
        assert all("src" in its for its in page.all("script")), "no script is inline"
        assert not page.all("style")
        assert not [its for _, its in page.tags if "style" in its or any(name.startswith("on") for name in its)]


async def test_hostile_names_are_shown_as_they_are(database: Database, browser: Browser) -> None:
    """In ids, names, queues, versions, users; in queries; in what is told of them."""
    commit(database, start(SCRIPT, None, lease_id=None, name=SCRIPT, application_version=SCRIPT))
    change(
        database,
        "UPDATE {schema}workflow_status SET status = 'ERROR', queue_name = :it, authenticated_user = :it, "
        "parent_workflow_id = :it, forked_from = :it, config_name = :it WHERE workflow_uuid = :it",
        it=SCRIPT,
    )
    for path in PATHS:
        page = await browser.get(path)
        assert "<script>alert" not in page.html
        assert "<img" not in page.html
    for name in ("q", "name", "status", "user", "at", "size", "back"):
        page = Page((await browser.client.get("/workflows", params={name: SCRIPT})).text)
        assert "<script>alert" not in page.html
        assert "<img" not in page.html
    page = await browser.get("/workflows", name=SCRIPT)
    assert SCRIPT in page.text
    page = await browser.send("/workflows/confirm", page, action="cancel", id=[SCRIPT, SCRIPT + "2"])
    assert "<img" not in page.html
    page = await browser.send("/workflows/apply", page, action="cancel", id=[SCRIPT], back=f"q={SCRIPT}")
    assert "<img" not in page.html
    assert f"{SCRIPT} (ERROR)" in page.text


async def test_nothing_is_unpickled(database: Database, browser: Browser, tmp_path: Path) -> None:
    bomb = base64.b64encode(f"cbuiltins\nopen\n(V{tmp_path}/exploded\nVw\ntR.".encode()).decode()
    change(database, "UPDATE {schema}workflow_status SET inputs = :bomb, output = :bomb, error = :bomb", bomb=bomb)
    for path in (*PATHS, "/workflow?id=victim"):
        await browser.get(path)
    assert not (tmp_path / "exploded").exists()


# -- forms


async def test_a_form_needs_the_token_of_its_browser(database: Database, browser: Browser, sqlite_url: str) -> None:
    page = await browser.get("/workflows")
    with console_on(sqlite_url, allow_writes=True) as stranger:
        foreign = await stranger.get("/workflows")
        assert foreign.token != page.token
    for token in ("", "x", page.token[:-1], page.token.upper(), foreign.token, "ä"):
        for path in ("/workflows/confirm", "/workflows/apply"):
            fields = {"csrf_token": token, "action": "cancel", "id": "victim"}
            answer = await browser.client.post(path, data=fields)
            assert answer.status_code == 403, token
            assert "Nothing was done" in answer.text
    cookies = dict(browser.client.cookies)
    browser.client.cookies.clear()
    assert "Nothing was done" in (await browser.send("/workflows/apply", page, 403, action="cancel", id="victim")).text
    assert status_of(database) == "PENDING"
    browser.client.cookies.update(cookies)
    await browser.send("/workflows/apply", page, action="cancel", id="victim")
    assert status_of(database) == "CANCELLED", "with everything right it is done"


async def test_processes_with_one_secret_take_each_others_forms(database: Database, sqlite_url: str) -> None:
    secret = "what the workers of one application share"
    with (
        console_on(sqlite_url, allow_writes=True, secret=secret) as one,
        console_on(sqlite_url, allow_writes=True, secret=secret) as other,
    ):
        page = await one.get("/workflows")
        other.client.cookies.update(one.client.cookies)
        await other.send("/workflows/apply", page, action="cancel", id="victim")
    assert status_of(database) == "CANCELLED"


async def test_forms_of_pages_of_others_are_refused(database: Database, browser: Browser) -> None:
    """Even with the right cookie and token."""
    page = await browser.get("/workflows")
    fields = {"csrf_token": page.token, "action": "cancel", "id": "victim"}
    for headers in (
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://["},
        {"Origin": "http://console.example:81"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"},
    ):
        assert (await browser.client.post("/workflows/apply", data=fields, headers=headers)).status_code == 403, headers
    assert status_of(database) == "PENDING"
    for headers in (
        {"Origin": "http://console.example"},
        {"Origin": "https://its-name-before-a-proxy.example", "Sec-Fetch-Site": "same-origin"},
    ):
        assert (await browser.client.post("/workflows/apply", data=fields, headers=headers)).status_code == 200, headers
    assert status_of(database) == "CANCELLED"


async def test_links_of_others_lead_to_pages_and_nothing_else_does(browser: Browser) -> None:
    link = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
    assert (await browser.client.get("/workflows", headers=link)).status_code == 200
    for changed in ({"Sec-Fetch-Dest": "iframe"}, {"Sec-Fetch-Mode": "no-cors"}, {"Sec-Fetch-Dest": "script"}):
        assert (await browser.client.get("/workflows", headers={**link, **changed})).status_code == 403, changed


async def test_a_console_that_is_read_only_changes_nothing(database: Database, sqlite_url: str) -> None:
    with console_on(sqlite_url, allow_writes=True) as writer, console_on(sqlite_url) as reader:
        page = await writer.get("/workflows")
        reader.client.cookies.update(writer.client.cookies)
        for path in ("/workflows/confirm", "/workflows/apply"):
            told = await reader.send(path, page, 403, action="cancel", id="victim")
            assert "read-only" in told.text
        shown = await reader.get("/workflows")
        assert not shown.all("form", method="post")
        assert not shown.all("input", name="id")
    assert status_of(database) == "PENDING"


async def test_cookies_are_kept_from_scripts_and_others(browser: Browser) -> None:
    (cookie,) = (await browser.client.get("/workflows")).headers.get_list("set-cookie")
    assert "HttpOnly" in cookie
    assert "SameSite=lax" in cookie
    assert "Secure" not in cookie
    (cookie,) = (await browser.client.get("https://secure.example/workflows")).headers.get_list("set-cookie")
    assert "Secure" in cookie


async def test_only_the_console_itself_says_that_something_was_done(browser: Browser) -> None:
    for forged in ("bm8=.0", "W10=." + "0" * 64, "x", ".", "W10=" * 900):
        browser.client.cookies.set("dbos_console_flash", forged)
        assert not (await browser.get("/")).all("div", role="status")


# -- tokens


async def test_browsers_are_asked_for_the_token(database: Database, sqlite_url: str) -> None:
    with console_on(sqlite_url, token=TOKEN) as browser:
        for path in (*PATHS, "/static/console.css", "/dbos-healthzz"):
            answer = await browser.client.get(path)
            assert answer.status_code == 401
            assert 'Basic realm="dbos"' in answer.headers["www-authenticate"]
            assert "victim" not in answer.text
        for shown in (basic("wrong"), basic(TOKEN + "x"), basic(""), {"Authorization": f"Basic {TOKEN}"}):
            assert (await browser.client.get("/", headers=shown)).status_code == 401, shown
        for shown in (basic(TOKEN), {"Authorization": f"Bearer {TOKEN}"}):
            assert (await browser.client.get("/", headers=shown)).status_code == 200, shown


def test_tokens_that_can_be_guessed_are_refused() -> None:
    for token in ("", "short", "ä" * 20, "a" * 15):
        with pytest.raises(DBOSInitializationError, match="token must be at least 16 printable ASCII"):
            console_app(token=token)
        with pytest.raises(DBOSInitializationError, match="secret must be at least 16 printable ASCII"):
            console_app(secret=token)


# -- what is asked for


@pytest.mark.parametrize(
    "path",
    ["../app.py", "..%2fapp.py", "%2e%2e/app.py", "/etc/passwd", "..\\app.py", "a%00.js", "%", "", "vendor", "x" * 300],
)
async def test_there_are_no_files_but_its_own(browser: Browser, path: str) -> None:
    answer = await browser.client.get(f"/static/{path}")
    assert answer.status_code in (404, 405), answer.text
    assert "import" not in answer.text


async def test_large_bodies_are_refused_before_they_are_read(browser: Browser) -> None:
    read = 0

    async def gibibyte() -> AsyncIterator[bytes]:
        nonlocal read
        for _ in range(1024):
            read += 1024 * 1024
            yield b"x" * (1024 * 1024)

    kind = {"Content-Type": "application/x-www-form-urlencoded"}
    answer = await browser.client.post("/workflows/apply", content=gibibyte(), headers=kind)
    assert answer.status_code == 413
    assert read <= MAX_BODY_BYTES + 2 * 1024 * 1024
    answer = await browser.client.post("/workflows/apply", content=b"", headers={**kind, "Content-Length": str(2**30)})
    assert answer.status_code == 413
    for kind in ({"Content-Type": "application/json"}, {"Content-Type": "multipart/form-data; boundary=x"}):
        assert (await browser.client.post("/workflows/apply", content=b"x", headers=kind)).status_code == 415


async def test_what_is_not_there_is_a_page(browser: Browser) -> None:
    page = await browser.get("/nothing", 404)
    assert "There is no such page" in page.text
    assert page.links
    assert (await browser.client.put("/workflows")).status_code == 405
    assert (await browser.client.get("/workflows/apply")).status_code == 405
    page = await browser.get("/workflow", 404, id="never-started")
    assert "never-started" in page.text


# -- databases that cannot be used


async def test_an_empty_database_is_told_of_until_it_has_tables(sqlite_url: str, tmp_path: Path) -> None:
    with console_on(sqlite_url) as browser:
        for path in PATHS:
            assert "There is no SQLite file" in (await browser.get(path, 503)).text
        (tmp_path / "dbos.sqlite").touch()
        assert "dbos migrate" in (await browser.get("/", 503)).text
        open_database(url=sqlite_url).close()
        await browser.get("/")


async def test_a_database_of_another_version_is_told_of(database: Database, sqlite_url: str) -> None:
    change(database, f"INSERT INTO {{schema}}{VERSION_TABLE} VALUES (9999, 'of the future', 0)")
    with console_on(sqlite_url) as browser:
        page = await browser.get("/workflows", 503)
        assert "9999" in page.text


async def test_a_failure_of_ours_tells_nothing_of_the_server(
    browser: Browser, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*arguments: object, **others: object) -> None:
        raise RuntimeError("a secret of the server")

    monkeypatch.setattr("dbos.edges.console.workflows.read_page", fail)
    with caplog.at_level(logging.ERROR, "dbos"):
        page = await browser.get("/workflows", 500)
    assert "its log says why" in page.text
    assert "secret" not in page.html
    assert "a secret of the server" in caplog.text
