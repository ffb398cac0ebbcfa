"""The console's pages of one workflow: what they show, what they let people do, and what they let nobody do."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import create_engine
from sqlalchemy import text as sql

from dbos import DBOS, DBOSClient, SetWorkflowID
from dbos.console import console_app
from tests.support.apps import App, Roadblock, eventually, status_of, steps_of
from tests.support.console import Page, browse
from tests.verify.rows import query

JSON = {"as": "json"}
HOSTILE_ID = "a/../b?c=1&d#e%2F\u202e<script>alert('ü')</script> \" "
HOSTILE = "<script>alert('&amp;')</script>\u202e\"'"


@DBOS.step()
def page_step(value: Any) -> Any:
    return value


@DBOS.step(retries_allowed=True, max_attempts=3, interval_seconds=0)
def page_flaky() -> None:
    raise ConnectionError("no answer")


@DBOS.workflow()
def page_child(number: int) -> int:
    return int(page_step(number))


@DBOS.workflow()
def page_parent() -> dict[str, int]:
    with SetWorkflowID("grandchild"):
        return {"number": page_child(page_step(7))}


@DBOS.workflow()
def page_all(value: Any) -> Any:
    """Does everything that leaves a trace."""
    page_step(value)
    with SetWorkflowID("child"):
        handle = DBOS.start_workflow(page_parent)
    DBOS.set_event("progress", 1)
    DBOS.set_event("progress", {"percent": 100})
    DBOS.write_stream("log", value)
    DBOS.close_stream("log")
    DBOS.sleep(0.01)
    received = DBOS.recv("topic", timeout_seconds=60)
    with contextlib.suppress(Exception):
        page_flaky()
    return [received, handle.get_result()]


@DBOS.workflow()
def page_fails() -> None:
    raise ValueError("boom <b>")


@DBOS.workflow()
def page_receives() -> Any:
    page_step("before")
    return DBOS.recv("answer", timeout_seconds=3600)


@DBOS.workflow()
def page_sleeps() -> None:
    DBOS.sleep(3600)


@DBOS.workflow()
def page_streams(count: int) -> None:
    for number in range(count):
        DBOS.write_stream("numbers", number)
        DBOS.set_event(f"key {number:03}", number)


class Visitor:
    """A browser for tests that block."""

    def __init__(self, url: str, **options: Any) -> None:
        self._browser = browse(console_app(url, **options))

    def get(self, path: str, status: int = 200, **query: Any) -> Page:
        return asyncio.run(self._browser.get(path, status, **query))

    def send(self, path: str, page: Page, status: int = 200, **fields: Any) -> Page:
        return asyncio.run(self._browser.send(path, page, status, **fields))

    def answer(self, path: str, **query: Any) -> httpx.Response:
        """The answer itself, whatever it is."""
        return asyncio.run(self._browser.client.get(path, params=query or None))


@pytest.fixture
def browser(application: App) -> Visitor:
    """Of a console beside a launched application, that may change something."""
    application.launch()
    return Visitor(application.url, allow_writes=True)


def start(workflow_id: str, function: Callable[..., Any], *args: Any) -> Any:
    with SetWorkflowID(workflow_id):
        return DBOS.start_workflow(function, *args)


def run(workflow_id: str, function: Callable[..., Any], *args: Any) -> None:
    with contextlib.suppress(ValueError):
        start(workflow_id, function, *args).get_result()


def run_all(workflow_id: str, value: Any) -> None:
    """Run the workflow that does everything, and leave a message that it does not receive."""
    handle = start(workflow_id, page_all, value)
    DBOS.send(workflow_id, {"hello": value}, "topic")
    handle.get_result()
    DBOS.send(workflow_id, value)


def show(browser: Visitor, workflow_id: str, **query: Any) -> Page:
    return browser.get("/workflow", id=workflow_id, **query)


# -- what it shows


def test_page_tells_what_a_workflow_is_and_did(browser: Visitor) -> None:
    run_all("w", "the value")
    page = show(browser, "w")
    assert "page_all SUCCESS w" in page.text
    for words in (
        '"args": [ "the value" ]',
        "page_step the value",
        "wait for a result",
        "set an event progress",
        "write to a stream",
        "close a stream",
        "sleep",
        'receive a message {"hello": "the value"}',
        "failed 3 times",
        'ConnectionError("no answer")',
        "set 2 times",
        '{"percent": 100}',
        "no topic",
        "Version test",
        "Executor local",
    ):
        assert words in page.text, words
    # Each wait is one row, though two steps are recorded.
    assert [entry["id"] for entry in page.all("li") if "id" in entry] == [
        f"step-{n}" for n in (1, 2, 3, 4, 5, 6, 7, 8, 10, 11)
    ]
    # The child's steps, and the grandchild's, lie within.
    assert "page_parent SUCCESS" in page.text
    assert "steps of child" in page.text
    assert "steps of grandchild" in page.text


def test_links_lead_to_pages_and_values_whatever_they_hold(browser: Visitor) -> None:
    run_all(HOSTILE_ID, HOSTILE)
    page = show(browser, HOSTILE_ID)
    assert HOSTILE_ID in page.all("input", name="id")[0]["value"]  # type: ignore[operator]
    assert HOSTILE in page.text
    for path in {link for link in page.links if "id=" in link}:
        answer = browser.answer(path)
        assert answer.status_code == 200, path
        if answer.headers["content-type"].startswith("text/html"):
            linked = Page(answer.text)
            assert not [its for its in linked.all("script") if not (its.get("src") or "").startswith("/static/")]
            assert "<script>alert" not in answer.text


def test_nothing_is_inline(browser: Visitor) -> None:
    """The policy of the pages forbids it, so it would not work."""
    run_all("w", HOSTILE)
    pages = [show(browser, "w"), browser.get("/graph", id="w")]
    pages += [browser.get("/workflow/stream", id="w", key="log"), browser.get("/workflow/events", id="w")]
    for page in pages:
        assert not page.all("style")
        for tag, attributes in page.tags:
            assert not [name for name in attributes if name == "style" or name.startswith("on")], tag


def test_waits_tell_until_when(browser: Visitor) -> None:
    start("receives", page_receives)
    start("sleeps", page_sleeps)
    eventually(lambda: len(steps_of("receives")) == 2 and len(steps_of("sleeps")) == 1, "both wait")
    receives, sleeps = show(browser, "receives"), show(browser, "sleeps")
    assert "Now: waiting for a message or an event" in receives.text
    assert "wait for a message or an event until 2" in receives.text
    assert "Now: sleeping" in sleeps.text
    assert "sleep until 2" in sleeps.text
    for page in (receives, sleeps):
        assert "Executor local (process" in page.text
        assert "alive" in page.text
        assert page.all("div", id="live")[0]["data-hx-get"]
        assert len(page.all("rect", **{"class": "wait open"})) == 1
    DBOS.send("receives", "here", "answer")
    eventually(lambda: status_of("receives") == "SUCCESS", "it has received")
    ended = show(browser, "receives")
    assert "receive a message here" in ended.text
    assert "Now:" not in ended.text
    assert "data-hx-get" not in ended.all("div", id="live")[0]


def test_what_runs_is_a_row_that_is_open(browser: Visitor) -> None:
    block = Roadblock()

    @DBOS.workflow(name="page_stands")
    def stands() -> None:
        page_step(1)
        DBOS.run_step({"name": "standing"}, block.stop)

    handle = start("w", stands)
    block.wait_until_reached()
    try:
        page = show(browser, "w")
        assert "Now: running code" in page.text
        assert len(page.all("rect", **{"class": "now open"})) == 1
    finally:
        block.open()
    handle.get_result()
    page = show(browser, "w")
    assert "standing" in page.text
    assert not page.all("rect", **{"class": "now open"})


def test_workflow_on_a_queue_tells_why_it_waits(browser: Visitor, application: App) -> None:
    with DBOSClient(system_database_url=application.url) as client:
        client.enqueue(
            {
                "queue_name": "page-queue",
                "workflow_name": "page_child",
                "workflow_id": "w",
                "app_version": "gone",
            },
            1,
        )
    page = show(browser, "w")
    assert "page_child ENQUEUED" in page.text
    assert "Now: no executor of its version" in page.text
    assert len(page.all("rect", **{"class": "queue open"})) == 1
    assert "wait on queue page-queue" in page.text
    assert "Queue page-queue" in page.text


def test_errors_are_shown(browser: Visitor) -> None:
    run("w", page_fails)
    page = show(browser, "w")
    assert "page_fails ERROR" in page.text
    assert 'ValueError("boom <b>")' in page.text
    assert "It has no events, no messages, no streams." in page.text


# -- values


class Boobytrap:
    """What writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.write_text, (self.path, "it was unpickled")


def test_nothing_is_unpickled(browser: Visitor, application: App, tmp_path: Path) -> None:
    run_all("w", 1)
    trap = tmp_path / "trap"
    text = base64.b64encode(pickle.dumps(Boobytrap(trap))).decode()
    for statement in (
        "UPDATE {schema}workflow_status SET inputs = :text, output = :text, error = :text",
        "UPDATE {schema}operation_outputs SET output = :text",
        "UPDATE {schema}operation_outputs SET error = :text WHERE function_id = 11",
        "UPDATE {schema}workflow_events SET value = :text",
        "UPDATE {schema}workflow_events_history SET value = :text",
        "UPDATE {schema}streams SET value = :text",
        "UPDATE {schema}notifications SET message = :text",
    ):
        execute(application.url, statement, text=text)
    page = show(browser, "w")
    assert "it was unpickled" in page.text
    assert trap.name in page.text
    for path in {link for link in page.links if "/value?" in link or "/stream?" in link}:
        assert browser.answer(path).status_code == 200
    assert not trap.exists()
    pickle.loads(base64.b64decode(text))
    assert trap.exists(), "the trap works"


def test_values_that_cannot_be_read_are_shown_as_they_are(browser: Visitor, application: App) -> None:
    run("w", page_child, 1)
    for text in ("no base64 \u2028 at all", "gASVBw==", "{", "", "x" * 100_000, "[" * 5000):
        execute(application.url, "UPDATE {schema}workflow_status SET output = :text", text=text)
        of_steps = "UPDATE {schema}operation_outputs SET output = :text, serialization = 'unheard-of'"
        execute(application.url, of_steps, text=text)
        page = show(browser, "w")
        assert "100,000 characters" in page.text if len(text) > 50_000 else text[:4000] in "".join(page.words)
        assert browser.answer("/workflow/value", id="w", what="output").text == text
        assert browser.answer("/workflow/value", id="w", what="output", **JSON).json() == text


STRANGE = (
    "UPDATE {schema}operation_outputs SET started_at_epoch_ms = NULL, completed_at_epoch_ms = NULL",
    "UPDATE {schema}operation_outputs SET started_at_epoch_ms = -1, completed_at_epoch_ms = 9000000000000000000",
    "UPDATE {schema}operation_outputs SET function_name = 'DBOS.sleep', error = 'boom', output = NULL",
    "UPDATE {schema}operation_outputs SET function_name = 'DBOS.recv'",
    "UPDATE {schema}operation_outputs SET function_name = '', child_workflow_id = 'nobody', error = NULL",
    "UPDATE {schema}operation_outputs SET child_workflow_id = workflow_uuid",
    "UPDATE {schema}operation_outputs SET function_id = -function_id",
    "UPDATE {schema}workflow_status SET name = NULL, parent_workflow_id = workflow_uuid, forked_from = workflow_uuid",
    "UPDATE {schema}workflow_status SET status = 'UNHEARD_OF', created_at = 9000000000000000000, completed_at = 1",
    "UPDATE {schema}workflow_status SET status = 'PENDING', inputs = NULL, output = '', authenticated_roles = '['",
    "UPDATE {schema}workflow_status SET status = 'ENQUEUED', queue_name = '', recovery_attempts = NULL",
    "DELETE FROM {schema}workflow_events_history",
)
"""What no program of this library writes, one thing after the other, but others may."""


def test_strange_rows_are_shown(application: App) -> None:
    application.launch()
    run_all("w", 1)
    DBOS.destroy()
    browser = Visitor(application.url)
    for statement in STRANGE:
        query(application.url, statement)
        assert "w" in show(browser, "w").text, statement
        assert browser.get("/graph", id="w").all("h1"), statement


def test_value_that_is_too_long_to_be_read_at_once(browser: Visitor, monkeypatch: pytest.MonkeyPatch) -> None:
    run("w", page_all_children)
    monkeypatch.setattr("dbos.edges.console.value.MAX_CHARS", 3)
    assert "characters, too many to be shown here" in browser.get("/workflow/value", 413, id="w", what="input").text


def test_value_by_itself_is_no_page(browser: Visitor) -> None:
    run_all("w", HOSTILE)
    of_step = {"id": "w", "what": "step-output", "number": 1}
    stored = browser.answer("/workflow/value", **of_step)
    assert stored.headers["content-type"] == "text/plain; charset=utf-8"
    assert pickle.loads(base64.b64decode(stored.text)) == HOSTILE
    kept = browser.answer("/workflow/value", **of_step, **JSON)
    assert kept.headers["content-type"] == "application/json"
    assert kept.headers["content-disposition"] == 'attachment; filename="step-output-1.json"'
    assert kept.json() == HOSTILE
    for answer in (stored, kept):
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "default-src 'none'" in answer.headers["content-security-policy"]
    entry = browser.answer("/workflow/value", id="w", what="stream-entry", key="log", **JSON)
    assert entry.json() == HOSTILE
    event = browser.answer("/workflow/value", id="w", what="event", key="progress", **JSON)
    assert event.json() == {"percent": 100}


MISTAKES: tuple[tuple[str, dict[str, str], int], ...] = (
    ("/workflow", {}, 400),
    ("/workflow", {"id": ""}, 404),
    ("/workflow", {"id": "nobody"}, 404),
    ("/workflow", {"id": "x" * 5000}, 404),
    ("/workflow", {"id": "\x00"}, 404),
    ("/workflow", {"id": "w", "page": "0"}, 400),
    ("/workflow", {"id": "w", "page": "１"}, 400),
    ("/workflow", {"id": "w", "page": "9" * 5000}, 400),
    ("/workflow/value", {"id": "w", "what": "secrets"}, 400),
    ("/workflow/value", {"id": "w", "what": "step-output", "number": "99"}, 404),
    ("/workflow/value", {"id": "w", "what": "event", "key": "\x00"}, 404),
    ("/workflow/value", {"id": "nobody", "what": "input"}, 404),
    ("/workflow/stream", {"id": "nobody", "key": "k"}, 404),
    ("/workflow/stream", {"id": "w", "key": "k", "page": "-1"}, 400),
    ("/workflow/stream", {"id": "w", "key": "\x00"}, 404),
    ("/workflow/events", {"id": "w", "after": "\x00"}, 404),
    ("/graph", {"id": "nobody"}, 404),
    ("/graph", {}, 400),
)


def test_what_is_not_there_is_told(browser: Visitor) -> None:
    run("w", page_child, 1)
    for path, params, status in MISTAKES:
        assert browser.get(path, status=status, **params).all("h1"), (path, params)


# -- much of everything


def execute(url: str, statement: str, **parameters: Any) -> None:
    """Run a statement with bound parameters."""
    engine = create_engine(url.replace("postgresql://", "postgresql+psycopg://"))
    prefix = "dbos." if engine.dialect.name == "postgresql" else ""
    with engine.begin() as connection:
        connection.execute(sql(statement.replace("{schema}", prefix)), parameters)
    engine.dispose()


def numbers(url: str, count: int) -> str:
    if url.startswith("postgres"):
        return f"generate_series(1, {count}) AS numbers (n)"
    return (
        f"(WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < {count}) "
        "SELECT n FROM numbers) AS numbers"
    )


def test_thousands_of_steps_are_shown_in_pages(browser: Visitor, application: App) -> None:
    run("w", page_child, 1)
    query(application.url, "DELETE FROM {schema}operation_outputs")
    names = "CASE WHEN n % 100 = 0 THEN 'DBOS.recv' WHEN n % 100 = 1 AND n > 1 THEN 'DBOS.sleep' ELSE 'step' END"
    query(
        application.url,
        "INSERT INTO {schema}operation_outputs (workflow_uuid, function_id, function_name, output, "
        f"started_at_epoch_ms, completed_at_epoch_ms) SELECT 'w', n, {names}, 'the output', 1700000000000 + n, "
        "1700000000001 + n FROM " + numbers(application.url, 5000),
    )
    page, seen = show(browser, "w"), []
    for number in (1, 2, 3):
        assert f"page {number} of 50" in page.text
        seen += [entry["id"] for entry in page.all("li") if "id" in entry]
        page = browser.get(page.all("a", rel="next")[0]["href"] or "")
    # What follows a recv says until when it waits, also on the next page.
    assert seen == [f"step-{n}" for n in range(1, 301) if n % 100 != 1 or n == 1]
    page = show(browser, "w", page=50)
    assert page.all("li")[-1]["id"] == "step-5000"
    assert not page.all("a", rel="next")
    query(application.url, "UPDATE {schema}operation_outputs SET error = 'boom' WHERE function_id IN (7, 4321)")
    page = show(browser, "w")
    assert "Failed: 4321 7" in page.text
    (failed,) = (link for link in page.links if link.endswith("#step-4321"))
    page = browser.get(failed)
    assert "page 44 of 50" in page.text
    assert len(page.all("details", **{"class": "recorded", "open": None})) == 1  # type: ignore[arg-type]
    assert "page 50 of 50" in (show(browser, "w", page=2**31 - 1)).text


def test_events_and_streams_are_shown_in_pages(browser: Visitor) -> None:
    run("w", page_streams, 120)
    page = show(browser, "w")
    assert "key 000" in page.text
    assert "key 049" in page.text
    assert "key 050" not in page.text
    (more,) = (link for link in page.links if "/events?" in link)
    page = browser.get(more)
    assert "key 050" in page.text
    page = browser.get(page.all("a", rel="next")[0]["href"] or "")
    assert "key 119" in page.text
    assert not page.all("a", rel="next")
    stream = browser.get("/workflow/stream", id="w", key="numbers")
    assert [row.get("scope") for row in stream.all("th", scope="row")] == ["row"] * 100
    stream = browser.get(stream.all("a", rel="next")[0]["href"] or "")
    assert len(stream.all("th", scope="row")) == 20
    assert "page 2 of 2" in stream.text
    assert not stream.all("a", rel="next")


# -- the family


def test_graph_shows_the_family_drawn_and_as_a_list(browser: Visitor) -> None:
    run_all("w/1", "x")
    forked = DBOS.fork_workflow("w/1", 3)
    for workflow_id in ("w/1", "child", "grandchild", forked.workflow_id):
        page = browser.get("/graph", id=workflow_id)
        links = [link for link in page.links if link.startswith("/workflow?id=")]
        for member in ("w/1", "child", "grandchild", forked.workflow_id):
            # In the heading the one that was asked for, too.
            assert len([link for link in links if link.endswith(f"id={member.replace('/', '%2F')}")]) >= 2
        assert len(page.all("path")) == 3
        assert len(page.all("path", **{"class": "edge fork"})) == 1
        assert len(page.all("li", **{"aria-current": "true"})) == 1
        # Nobody gets there by the keyboard: the list has the same links.
        assert page.all("svg")[0]["aria-hidden"] == "true"
        assert all(link["tabindex"] == "-1" for link in page.all("a") if link.get("class", "").startswith("node"))  # type: ignore[union-attr]
    DBOS.cancel_workflow(forked.workflow_id)


def test_deep_families_are_shown(browser: Visitor, application: App) -> None:
    run("w", page_child, 1)
    query(
        application.url,
        "INSERT INTO {schema}workflow_status (workflow_uuid, status, name, created_at, updated_at, parent_workflow_id) "
        "SELECT 'w' || n, 'SUCCESS', 'work', 1, 1, 'w' || (n - 1) FROM " + numbers(application.url, 300),
    )
    page = browser.get("/graph", id="w1")
    # The list has one more for each generation, and one for what is not shown.
    assert (len(page.all("rect")), len(page.all("ul"))) == (200, 201)
    assert "1 more child" in page.text


def test_large_families_are_cut(browser: Visitor, application: App) -> None:
    run("w", page_child, 1)
    query(
        application.url,
        "INSERT INTO {schema}workflow_status (workflow_uuid, status, name, created_at, updated_at, parent_workflow_id) "
        "SELECT 'child ' || n, 'SUCCESS', 'work', 1, 1, 'w' FROM " + numbers(application.url, 1234),
    )
    page = browser.get("/graph", id="w")
    assert "200 workflows are shown; 1,035 children and forks of theirs are not." in page.text
    assert "1,035 more children" in page.text
    assert len(page.all("rect")) == 200


# -- what can be done


def test_cancel_and_resume(browser: Visitor) -> None:
    handle = start("w/1 ", page_receives)
    eventually(lambda: len(steps_of("w/1 ")) == 2, "it waits")
    page = show(browser, "w/1 ")
    page = browser.send("/workflow/cancel", page, id="w/1 ")
    assert "It was cancelled." in page.text
    assert "page_receives CANCELLED" in page.text
    assert status_of("w/1 ") == "CANCELLED"
    page = browser.send("/workflow/cancel", page, id="w/1 ")
    assert "Nothing was done: it has ended already (CANCELLED)." in page.text
    page = browser.send("/workflow/resume", page, id="w/1 ")
    assert "It runs on after its last recorded step" in page.text
    DBOS.send("w/1 ", "answer", "answer")
    assert DBOS.retrieve_workflow(handle.workflow_id).get_result() == "answer"
    page = browser.send("/workflow/resume", page, id="w/1 ")
    assert "Nothing was done: it has ended (SUCCESS)." in page.text


def test_fork_from_a_step(browser: Visitor) -> None:
    run("w", page_parent)
    assert show(browser, "w").all("input", name="step")[0]["value"] == "1"
    page = show(browser, "w", step=2)
    assert page.all("input", name="step")[0]["value"] == "2"
    page = browser.send("/workflow/fork", page, id="w", step="2", new_id="copy/1", version="test")
    assert "This is the fork of w from step 2 on." in page.text
    assert "Forked from w" in page.text
    assert DBOS.retrieve_workflow("copy/1").get_result() == {"number": 7}
    for fields, status in (
        ({"new_id": "copy/1", "id": "grandchild"}, 409),
        ({"new_id": "x" * 2000}, 400),
        ({"step": "0"}, 400),
        ({"step": "one"}, 400),
        ({"version": "x" * 5000}, 400),
        ({"id": "nobody"}, 404),
    ):
        browser.send("/workflow/fork", page, status, **{"id": "w", "step": "1", **fields})
    assert len(DBOS.list_workflows(forked_from=["w"])) == 1


def test_delete_asks_whether_somebody_is_sure(browser: Visitor) -> None:
    run("w", page_parent)
    page = show(browser, "w")
    assert "say that you are sure" in (browser.send("/workflow/delete", page, 400, id="w")).text
    assert status_of("w") == "SUCCESS"
    page = browser.send("/workflow/delete", page, id="w", sure="yes")
    assert "w was deleted." in page.text
    assert status_of("w") is None
    assert status_of("grandchild") == "SUCCESS"
    assert "(no longer there)" in (show(browser, "grandchild")).text
    run("v", page_all_children)
    page = show(browser, "v")
    browser.send("/workflow/delete", page, id="v", sure="yes", descendants="yes")
    assert status_of("v-1") is None
    browser.send("/workflow/delete", page, 404, id="v", sure="yes")


@DBOS.workflow()
def page_all_children() -> None:
    page_child(1)


ACTIONS = ("cancel", "resume", "fork", "delete")


def test_nothing_is_done_that_does_not_come_from_a_page(browser: Visitor, application: App) -> None:
    start("w", page_receives)
    read_only = Visitor(application.url)
    page = show(read_only, "w")
    assert not page.all("form")
    own = show(browser, "w")
    assert len(own.all("form")) == 3
    for action in ACTIONS:
        fields = {"id": "w", "step": "1", "new_id": "new", "sure": "yes"}
        assert "read-only" in (read_only.send(f"/workflow/{action}", own, 403, **fields)).text
        browser.send(f"/workflow/{action}", Page(""), 403, **fields)
        assert browser.answer(f"/workflow/{action}", **fields).status_code == 405
    assert (status_of("w"), status_of("new")) == ("PENDING", None)
