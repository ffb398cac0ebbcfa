"""Pages of workflows, and counts of them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from dbos.storage.database import Database
from dbos.storage.opening import open_database
from dbos.storage.overview import Page, Place, count_workflows, read_page
from dbos.storage.reads import WorkflowFilter
from tests.support.storage import change, commit, start

EVERYTHING = WorkflowFilter()


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    with_tables = open_database(url=database_url)
    yield with_tables
    with_tables.close()


def fill(database: Database, *ids: str) -> None:
    """Workflows, created in this order, some of them in one millisecond."""
    commit(
        database,
        *(start(workflow_id, None, lease_id=None, status="ENQUEUED") for workflow_id in ids),
    )
    change(database, "UPDATE {schema}workflow_status SET created_at = 1700000000000 + seq / 3, updated_at = 1")


def ids(page: Page) -> list[str]:
    return [row.workflow_id for row in page.rows]


def test_each_workflow_is_on_one_page(database: Database) -> None:
    names = [f"w{number:02}" for number in range(23)]
    fill(database, *names)
    seen: list[str] = []
    starts: list[Place | None] = [None]
    while True:
        page = read_page(database, EVERYTHING, size=5, start=starts[-1])
        seen += ids(page)
        if page.older is None:
            break
        starts.append(page.older)
    assert seen == names[::-1]
    assert len(starts) == 5
    for number in range(4, 1, -1):
        page = read_page(database, EVERYTHING, size=5, start=starts[number])
        assert (page.newer, page.newer_count) == (starts[number - 1], 5)
    second = read_page(database, EVERYTHING, size=5, start=starts[1])
    assert (second.newer, second.newer_count) == (None, 5), "the page before is the first, with what will be newer"
    assert read_page(database, EVERYTHING, size=5).newer_count == 0


def test_a_page_stays_while_there_are_newer_ones(database: Database) -> None:
    fill(database, "a", "b")
    first = read_page(database, EVERYTHING, size=5)
    fill(database, "c")
    again = read_page(database, EVERYTHING, size=5, start=first.rows[0].place)
    assert (ids(again), again.newer_count) == (["b", "a"], 1)
    change(database, "DELETE FROM {schema}workflow_status WHERE workflow_uuid = 'b'")
    assert ids(read_page(database, EVERYTHING, size=5, start=first.rows[0].place)) == ["a"]


def test_text_is_taken_literally(database: Database) -> None:
    fill(database, "100%_a", "100_b", "%", "work-1")
    assert ids(read_page(database, EVERYTHING, size=9, text="100%")) == ["100%_a"]
    assert ids(read_page(database, EVERYTHING, size=9, text="%")) == ["%"]
    assert ids(read_page(database, EVERYTHING, size=9, text="wor")) == ["work-1", "%", "100_b", "100%_a"], "their name"
    assert ids(read_page(database, EVERYTHING, size=9, text="work-")) == ["work-1"]
    wanted = WorkflowFilter(queue_names=["other"])
    assert ids(read_page(database, wanted, size=9, text="%")) == [], "the other conditions hold too"


def test_counting_stops_at_the_bound(database: Database) -> None:
    fill(database, *"abcdefg")
    change(database, "UPDATE {schema}workflow_status SET status = 'PENDING' WHERE workflow_uuid IN ('a', 'b')")
    change(database, "UPDATE {schema}workflow_status SET delay_until_epoch_ms = 1 WHERE workflow_uuid = 'c'")
    change(database, "UPDATE {schema}workflow_status SET status = 'ERROR', created_at = 5 WHERE workflow_uuid = 'd'")
    counts = count_workflows(database, bound=100, since_ms=10**12)
    assert counts == (2, 3, 1, {"PENDING": 2, "ENQUEUED": 4}), "what is older is not among the newest"
    counts = count_workflows(database, bound=2, since_ms=10**13)
    assert (counts.running, counts.waiting, counts.delayed, sum(counts.newest.values())) == (2, 2, 1, 2)
