"""What listings cost on a long history: what they show, not what there is.

The statement that a listing runs is recorded and run again where the database counts what it reads: Postgres the rows
of each scan, SQLite the steps of its virtual machine.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import pytest

from dbos import DBOS
from dbos.api.instance import get_executor
from dbos.runtime.executor import Executor
from dbos.storage.database import Database
from dbos.storage.overview import Place, count_workflows, read_page
from dbos.storage.reads import WorkflowFilter
from tests.perf.test_query_plans import Recorded, recorded
from tests.support.apps import App
from tests.verify.rows import query

HISTORY = 20_000

STEPS_PER_PAGE = 25_000
"""Steps of SQLite's virtual machine that a page of 100 may take. It takes five and more to pass over a row."""

ROWS_PER_PAGE = 5_000
"""Rows that Postgres may read for a page of 100. It may prefer to pass over some rather than to sort what it finds."""

FILL = """
INSERT INTO {schema}workflow_status (workflow_uuid, status, name, created_at, updated_at, application_version, inputs,
    output, queue_name, forked_from, parent_workflow_id, recovery_attempts)
SELECT
    'w' || n,
    CASE WHEN n % 1000 = 1 THEN 'ENQUEUED' WHEN n % 1000 = 2 THEN 'PENDING' WHEN n % 1000 = 3 THEN 'ERROR'
        WHEN n % 1000 = 4 THEN 'CANCELLED' ELSE 'SUCCESS' END,
    'work', 1700000000000 + n, 1700000000000 + n, 'other', 'inputs', 'output',
    CASE WHEN n % 1000 BETWEEN 1 AND 5 THEN 'queue' END,
    CASE WHEN n % 1000 = 6 THEN 'w1' END,
    CASE WHEN n % 1000 = 8 THEN 'w1' END,
    1
FROM """


@pytest.fixture(
    scope="module", params=["sqlite", "sqlite-analyzed", pytest.param("postgres", marks=pytest.mark.postgres)]
)
def executor(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Executor]:
    """Of an application with a long history, of which every thousandth workflow is something special."""
    admin = request.getfixturevalue("postgres_admin") if request.param == "postgres" else None
    app = App(admin.create_database() if admin else f"sqlite:///{tmp_path_factory.mktemp('plans')}/dbos.sqlite")
    app.launch()
    numbers = (
        f"generate_series(1, {HISTORY}) AS numbers (n)"
        if admin
        else f"(WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < {HISTORY}) "
        "SELECT n FROM numbers) AS numbers"
    )
    query(app.url, FILL + numbers)
    if request.param != "sqlite":
        query(app.url, "ANALYZE {schema}workflow_status")
    yield get_executor("The test")
    DBOS.destroy()
    if admin:
        admin.drop_database(app.url)


def statement_of(listing: Callable[[], Any], monkeypatch: pytest.MonkeyPatch) -> Recorded:
    """The one statement that the listing runs on the workflows; what the application does behind it is not counted."""
    with recorded(monkeypatch, threading.current_thread()) as statements:
        listing()
    (statement,) = (one for one in statements if "workflow_status" in one[0])
    return statement


def cost(database: Database, statement: Recorded) -> tuple[int, int]:
    """What the statement costs, and what it may."""
    text, parameters = statement
    assert not isinstance(parameters, (list, tuple))
    with closing(database.engine.raw_connection()) as connection:
        cursor = connection.cursor()
        if database.locks_rows:
            database.execute(cursor, "EXPLAIN (ANALYZE, FORMAT JSON) " + text, parameters)  # type: ignore[arg-type]
            (plan,) = cursor.fetchall()[0]
            root: list[dict[str, Any]] = json.loads(plan) if isinstance(plan, str) else plan
            return sum(map(_rows_read, _nodes(root[0]["Plan"]))), ROWS_PER_PAGE
        steps = 0

        def count() -> int:
            nonlocal steps
            steps += 100
            return 0

        driver: Any = connection.driver_connection
        driver.set_progress_handler(count, 100)
        try:
            database.execute(cursor, text, parameters)  # type: ignore[arg-type]
            cursor.fetchall()
        finally:
            driver.set_progress_handler(None, 0)
        return steps, STEPS_PER_PAGE


def _nodes(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield node
    for inner in node.get("Plans", ()):
        yield from _nodes(inner)


def _rows_read(node: dict[str, Any]) -> int:
    if "Relation Name" not in node:
        return 0
    removed = sum(int(node.get(f"Rows Removed by {cause}", 0)) for cause in ("Filter", "Index Recheck"))
    return (int(node["Actual Rows"]) + removed) * int(node["Actual Loops"])


LISTINGS: dict[str, Callable[[], list[Any]]] = {
    "first page": lambda: DBOS.list_workflows(limit=100),
    "first page without values": lambda: DBOS.list_workflows(limit=100, load_input=False, load_output=False),
    "last page": lambda: DBOS.list_workflows(limit=100, sort_desc=True),
    "ids": lambda: DBOS.list_workflows(workflow_ids=["w10", "w19999", "nobody"]),
    "enqueued": lambda: DBOS.list_workflows(status="ENQUEUED"),
    "pending": lambda: DBOS.list_workflows(status=["PENDING"]),
    "live": lambda: DBOS.list_workflows(status=["ENQUEUED", "PENDING"]),
    "live, first": lambda: DBOS.list_workflows(status=["ENQUEUED", "PENDING"], limit=10),
    "failed": lambda: DBOS.list_workflows(status="ERROR"),
    "failed, newest": lambda: DBOS.list_workflows(status="ERROR", sort_desc=True, limit=10),
    "cancelled or failed": lambda: DBOS.list_workflows(status=["CANCELLED", "ERROR"]),
    "queue": lambda: DBOS.list_workflows(queue_name="queue"),
    "queue, newest": lambda: DBOS.list_workflows(queue_name="queue", sort_desc=True, limit=10),
    "queued": lambda: DBOS.list_queued_workflows(),
    "queued on a queue": lambda: DBOS.list_queued_workflows(queue_name="queue", limit=10),
    "queues only": lambda: DBOS.list_workflows(queues_only=True),
    "forks": lambda: DBOS.list_workflows(forked_from="w1"),
    "children": lambda: DBOS.list_workflows(parent_workflow_id="w1"),
    "times": lambda: DBOS.list_workflows(start_time="2023-11-14T22:13:30Z", end_time="2023-11-14T22:13:30.050Z"),
    "status": lambda: [DBOS.get_workflow_status("w9")],
}


@pytest.mark.parametrize("listing", LISTINGS)
def test_listing_costs_what_it_shows(executor: Executor, listing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    statement = statement_of(LISTINGS[listing], monkeypatch)
    shown = len(LISTINGS[listing]())
    assert 0 < shown <= 100
    spent, allowed = cost(executor.database, statement)
    assert spent <= allowed, f"{statement[0]}\n{statement[1]}"


def test_middle_page_reads_no_further_than_its_end(executor: Executor, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each page costs what lies before it, and no sort of all that there is."""
    costs = [
        cost(executor.database, statement_of(lambda: DBOS.list_workflows(limit=100, offset=offset), monkeypatch))[0]  # noqa: B023
        for offset in (0, HISTORY // 2, HISTORY - 100)
    ]
    first, middle, last = costs
    assert first < middle < 0.7 * last


MIDDLE = Place(1700000000000 + HISTORY // 2, HISTORY // 2)
PAGES: dict[str, tuple[WorkflowFilter, Place | None]] = {
    "first": (WorkflowFilter(), None),
    "middle": (WorkflowFilter(), MIDDLE),
    "last": (WorkflowFilter(), Place(1700000000050, 50)),
    "enqueued": (WorkflowFilter(statuses=["ENQUEUED"]), None),
    "failed, older": (WorkflowFilter(statuses=["ERROR"]), MIDDLE),
    "succeeded, older": (WorkflowFilter(statuses=["SUCCESS"]), MIDDLE),
    "queue, older": (WorkflowFilter(queue_names=["queue"]), MIDDLE),
    "children": (WorkflowFilter(parents=["w1"]), None),
}


@pytest.mark.parametrize("page", PAGES)
def test_page_of_the_console_costs_what_it_shows(
    executor: Executor, page: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever it begins, with finding the page before it, and with one statement for each way to wait."""
    wanted, start = PAGES[page]
    with recorded(monkeypatch, threading.current_thread()) as statements:
        shown = read_page(executor.database, wanted, size=50, start=start)
    assert shown.rows
    spent = [cost(executor.database, one) for one in statements if "workflow_status" in one[0]]
    assert 0 < len(spent) <= (3 if start is None else 2)
    assert all(used <= allowed for used, allowed in spent), statements


def test_counting_costs_what_is_live(executor: Executor, monkeypatch: pytest.MonkeyPatch) -> None:
    with recorded(monkeypatch, threading.current_thread()) as statements:
        count_workflows(executor.database, bound=500, since_ms=10**13)
    spent = [cost(executor.database, one) for one in statements]
    assert all(used <= allowed for used, allowed in spent), statements
