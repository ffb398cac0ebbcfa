"""The console's list of workflows: filters, pages, what is done to several at once. The overview."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest

from dbos.storage.database import Database
from dbos.storage.opening import open_database
from dbos.storage.reads import WorkflowFilter, read_workflows
from tests.support.console import Browser, Page, console_on
from tests.support.storage import change, commit, start


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    with_tables = open_database(url=database_url)
    yield with_tables
    with_tables.close()


@pytest.fixture
def browser(database: Database, database_url: str) -> Iterator[Browser]:
    """Of a console that may change things."""
    with console_on(database_url, allow_writes=True) as browser:
        yield browser


def fill(database: Database, *ids: str, **others: Any) -> None:
    """Workflows, created in this order, a second after each other."""
    commit(database, *(start(one, None, **{"lease_id": None, "inputs": "secret inputs", **others}) for one in ids))
    change(
        database,
        "UPDATE {schema}workflow_status SET created_at = 1700000000000 + seq * 1000 WHERE created_at > :t",
        t=1700001000000,
    )


def ended(database: Database, status: str, *ids: str) -> None:
    statement = "UPDATE {schema}workflow_status SET status = :status, completed_at = {now} WHERE workflow_uuid = :id"
    for workflow_id in ids:
        assert change(database, statement, status=status, id=workflow_id) == 1


def listed(page: Page) -> list[str]:
    """The ids in the list, by its links: those of children tell of their parents too."""
    rows = re.findall(r'<th scope="row"><a class="id"[^>]*><bdi>(.*?)</bdi>', page.html)
    return [row.replace("&lt;", "<").replace("&gt;", ">").replace("&#39;", "'").replace("&amp;", "&") for row in rows]


def statuses(database: Database) -> dict[str, str]:
    return {row.workflow_id: row.status for row in read_workflows(database, WorkflowFilter())}


async def test_every_filter_of_list_workflows(database: Database, browser: Browser) -> None:
    fill(database, "plain")
    fill(database, "special")
    change(
        database,
        "UPDATE {schema}workflow_status SET status = 'ENQUEUED', name = 'other', queue_name = 'mail', "
        "application_version = 'v2', executor_id = 'there', authenticated_user = 'ada', "
        "parent_workflow_id = 'plain', forked_from = 'gone' WHERE workflow_uuid = 'special'",
    )
    fill(database, "last")
    assert listed(await browser.get("/workflows")) == ["last", "special", "plain"]
    rows = {row.workflow_id: row for row in read_workflows(database, WorkflowFilter())}
    at = rows["special"].created_at // 1000 - 1700000000
    moment = f"2023-11-14T{22 + (800 + at) // 3600:02}:{(800 + at) // 60 % 60:02}:{(800 + at) % 60:02}"
    for name, value in {
        "status": "ENQUEUED",
        "name": "other",
        "queue_name": "mail",
        "app_version": "v2",
        "executor_id": "there",
        "user": "ada",
        "parent_workflow_id": "plain",
        "forked_from": "gone",
        "workflow_id_prefix": "spec",
        "workflow_ids": "special",
        "queues_only": "1",
        "q": "speci",
    }.items():
        page = await browser.get("/workflows", 200, **{name: value})
        assert listed(page) == ["special"], name
        assert page.all("input", name=name)
        assert any(its["value"] == value for its in page.all("input", name=name)), "the form shows it again"
    page = await browser.get("/workflows", start_time=moment, end_time=moment)
    assert listed(page) == ["special"], moment
    assert page.all("input", name="start_time", value=moment)
    assert listed(await browser.get("/workflows", status=["ENQUEUED", "PENDING"], name="work")) == ["last", "plain"]
    nothing = await browser.get("/workflows", name="nothing")
    assert "No workflow meets these conditions" in nothing.text


async def test_filters_that_make_no_sense_are_told_of(browser: Browser) -> None:
    for query, told in (
        ({"status": "DONE"}, "DONE"),
        ({"start_time": "yesterday"}, "yesterday"),
        ({"size": "1000000"}, "size"),
        ({"size": "²"}, "size"),
        ({"name": "a\0b"}, "name"),
        ({"q": "a\0b"}, "search"),
    ):
        page = (
            await browser.get("/workflows", status=400, **{"query": query})
            if False
            else Page((await browser.client.get("/workflows", params=query)).text)
        )
        assert told in page.text, query
        assert page.all("form", role="search"), "the form is there to be corrected"
    for place in ("x", "1", "1.", "9" * 30 + ".1", "-1.5"):
        await browser.get("/workflows", at=place)


async def test_pages(database: Database, browser: Browser) -> None:
    fill(database, *(f"w{number:02}" for number in range(45)))
    seen: list[str] = []
    page = await browser.get("/workflows", size=20, name="work")
    first = listed(page)
    while True:
        seen += listed(page)
        older = page.all("a", rel="next")
        if not older:
            break
        page = await browser.get(older[0]["href"] or "")
    assert seen == [f"w{number:02}" for number in reversed(range(45))]
    for _ in range(2):
        page = await browser.get(page.all("a", rel="prev")[0]["href"] or "")
    assert listed(page) == first
    assert not page.all("a", rel="prev")


async def test_a_list_that_is_held_keeps_its_rows(database: Database, browser: Browser) -> None:
    """As the page asks while somebody has ticked boxes; the state of the rows is up to date nevertheless."""
    fill(database, "a", "b")
    page = await browser.get("/workflows")
    (hold,) = re.findall(r'data-hold="(.*?)"', page.html)
    fill(database, "c")
    ended(database, "SUCCESS", "a")
    held = Page((await browser.client.get("/workflows", headers={"Console-Hold": hold, "HX-Request": "true"})).text)
    assert listed(held) == ["b", "a"]
    assert "1 newer" in held.text
    assert "SUCCESS" in held.text
    assert [its["data-hx-get"] for its in held.all("div", id="live")] == ["/workflows"]
    assert listed(await browser.get("/workflows")) == ["c", "b", "a"]


async def test_inputs_and_outputs_are_not_in_the_list(database: Database, browser: Browser) -> None:
    fill(database, "a")
    for path in ("/", "/workflows"):
        assert "secret inputs" not in (await browser.get(path)).html


# -- what is done to several at once


async def selected(browser: Browser, action: str, *ids: str) -> Page:
    page = await browser.get("/workflows", name="work")
    back = page.all("input", name="back")[0]["value"]
    return await browser.send("/workflows/confirm", page, action=action, id=list(ids), back=back)


async def test_cancelling_several(database: Database, browser: Browser) -> None:
    fill(database, "runs", "waits", "ended", "untouched")
    ended(database, "SUCCESS", "ended")
    page = await selected(browser, "cancel", "runs", "waits", "ended", "never")
    assert "Cancel 4 workflows?" in page.text
    assert "Cancel 2 workflows" in page.text, "two of them have not ended"
    assert statuses(database)["runs"] == "PENDING", "nothing was done yet"
    page = await browser.send(
        "/workflows/apply", page, action="cancel", id=["runs", "waits", "ended", "never"], back="name=work"
    )
    told = "Cancelled: 2 workflows. Left as it is: ended (SUCCESS). Not there (any more): never."
    assert told in page.text
    assert listed(page) == ["untouched", "ended", "waits", "runs"], "back in the list that it came from"
    assert statuses(database) == {"runs": "CANCELLED", "waits": "CANCELLED", "ended": "SUCCESS", "untouched": "PENDING"}
    assert told not in (await browser.get("/workflows")).text, "it is told once"


async def test_resuming_several(database: Database, browser: Browser) -> None:
    fill(database, "cancelled", "given-up", "ended", "runs")
    ended(database, "CANCELLED", "cancelled")
    ended(database, "MAX_RECOVERY_ATTEMPTS_EXCEEDED", "given-up")
    ended(database, "ERROR", "ended")
    ids = ["cancelled", "given-up", "ended", "runs"]
    page = await selected(browser, "resume", *ids)
    assert "Resume 2 workflows" in page.text
    page = await browser.send("/workflows/apply", page, action="resume", id=ids)
    assert "Resumed: 2 workflows. Left as they are: ended (ERROR), runs (PENDING)." in page.text
    assert statuses(database) == {"cancelled": "ENQUEUED", "given-up": "ENQUEUED", "ended": "ERROR", "runs": "PENDING"}


@pytest.mark.parametrize("with_children", [False, True])
async def test_deleting_several(database: Database, browser: Browser, with_children: bool) -> None:
    fill(database, "parent", "other")
    fill(database, "child", parent_workflow_id="parent")
    page = await selected(browser, "delete", "parent", "other", "gone")
    assert "cannot be undone" in page.text
    assert page.all("input", name="with_children")
    fields: dict[str, Any] = {"with_children": "1"} if with_children else {}
    page = await browser.send("/workflows/apply", page, action="delete", id=["parent", "other", "gone"], **fields)
    others = ", and 1 that they had started" if with_children else ""
    assert f"Deleted: 2 workflows{others}. Not there (any more): gone." in page.text
    assert [*statuses(database)] == ([] if with_children else ["child"])


async def test_all_that_match_are_selected(
    database: Database, browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not only those on the page; at most so many as can be selected."""
    monkeypatch.setattr("dbos.edges.console.workflows.MAX_SELECTED", 30)
    fill(database, *(f"w{number:02}" for number in range(40)), "other")
    page = await browser.get("/workflows", q="w1", size=20)
    confirmed = await browser.send("/workflows/confirm", page, action="cancel", all="1", back="q=w1&size=20")
    assert "Cancel 10 workflows?" in confirmed.text
    assert "There are more" not in confirmed.text
    ids = [its["value"] or "" for its in confirmed.all("input", name="id")]
    assert ids == [f"w{number}" for number in range(19, 9, -1)]
    page = await browser.send("/workflows/apply", confirmed, action="cancel", id=ids, back="q=w1&size=20")
    assert "Cancelled: 10 workflows." in page.text
    confirmed = await browser.send("/workflows/confirm", page, action="delete", all="1", back="")
    assert "Delete 30 workflows?" in confirmed.text
    assert "There are more" in confirmed.text
    await browser.send("/workflows/confirm", page, 400, action="delete", all="1", back="status=nonsense")
    await browser.send("/workflows/confirm", page, 400, action="delete", all="1", back="q=nothing")


async def test_selections_that_make_no_sense(database: Database, browser: Browser) -> None:
    fill(database, "a")
    page = await browser.get("/workflows")
    for fields, told in (
        ({"action": "explode", "id": "a"}, "no such action"),
        ({"action": "cancel", "id": [str(number) for number in range(501)]}, "at most 500"),
        ({"action": "cancel", "id": [str(number) for number in range(5_000)]}, "no form"),
    ):
        for path in ("/workflows/confirm", "/workflows/apply"):
            assert told in (await browser.send(path, page, 400, **fields)).text
    assert "No workflow was selected" in (await browser.send("/workflows/confirm", page, 400, action="cancel")).text
    assert "Cancelled: 0 workflows" in (await browser.send("/workflows/apply", page, action="cancel")).text
    for workflow_id in ("\0", "\ud800", "x" * 5_000):
        answer = await browser.client.post(
            "/workflows/apply",
            content=f"csrf_token={page.token}&action=cancel&id=".encode()
            + workflow_id.encode("utf-8", "surrogatepass"),
            headers={"Content-Type": "application/x-www-form-urlencoded"},
        )
        assert answer.status_code in (200, 400), workflow_id
    assert statuses(database) == {"a": "PENDING"}


# -- the overview


async def test_the_overview_tells_what_needs_somebody(database: Database, browser: Browser) -> None:
    assert "There are no workflows yet" in (await browser.get("/")).text
    fill(database, "stranded", "failed", "fine")
    ended(database, "ERROR", "failed")
    ended(database, "SUCCESS", "fine")
    change(database, "UPDATE {schema}workflow_status SET updated_at = 5")
    page = await browser.get("/")
    assert "No executor of its version" in page.text
    assert "1 running" in page.text
    assert listed(page)[:1] == ["failed"], "what failed lately comes before what is new"


async def test_the_overview_looks_at_no_more_than_it_can(
    database: Database, browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dbos.edges.console.overview.MAX_EXAMINED", 1)
    fill(database, "a", "b")
    assert "dbos doctor" in (await browser.get("/")).text
