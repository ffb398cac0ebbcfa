"""What the console's pages cost on a long history and a long backlog: what they show, and the counting of what waits.

The statements that a page runs are recorded, and run again where the database counts what it reads; see
`test_listing_plans`. `benchmarks/console.py` measures the times.
"""

from __future__ import annotations

import pytest
from starlette.testclient import TestClient

from dbos.console import console_app
from dbos.runtime.executor import Executor
from tests.perf.test_listing_plans import HISTORY, cost
from tests.perf.test_listing_plans import executor as executor  # a fixture
from tests.perf.test_query_plans import recorded
from tests.support.storage import change

BACKLOG = 4_000

STEPS_TO_COUNT_ONE = 10
"""Steps of SQLite's virtual machine, if it is counted in an index; to read its row as well takes some more."""

FILL = """
INSERT INTO {schema}workflow_status (workflow_uuid, status, name, created_at, updated_at, application_version, inputs,
    queue_name, priority, seq)
SELECT 'deep' || row_number() OVER (ORDER BY created_at, seq), 'ENQUEUED', 'work', created_at + 1000000, updated_at,
    'test', inputs, 'deep', seq % 3, seq + :first
FROM {schema}workflow_status WHERE workflow_uuid IN (SELECT workflow_uuid FROM {schema}workflow_status
    WHERE status = 'SUCCESS' ORDER BY created_at LIMIT :count)"""

SHOWING = (
    "/workflows",
    "/workflows?size=20&start=1700000010000.10000",
    "/workflows?status=ERROR",
    "/workflows?status=ENQUEUED",
    "/workflows?status=ENQUEUED&status=PENDING&status=CANCELLED",
    "/workflows?queue_name=queue",
    "/workflows?queue_name=deep&status=ENQUEUED",
    "/workflows?forked_from=w1",
    "/workflows?parent_workflow_id=w1",
    "/workflows?workflow_ids=w7",
    "/workflow?id=w9",
    "/graph?id=w9",
    "/schedules",
)
COUNTING = ("/", "/queues", "/executors", "/workflow?id=deep7")
"""The pages that tell how many wait."""


@pytest.fixture(scope="module")
def crowded(executor: Executor) -> Executor:
    """Of an application with a long history, and a backlog on one queue."""
    change(executor.database, FILL, count=BACKLOG, first=10 * HISTORY)
    if executor.database.locks_rows:
        change(executor.database, "ANALYZE {schema}workflow_status")
    return executor


@pytest.mark.parametrize("path", SHOWING + COUNTING)
def test_a_page_reads_what_it_shows(crowded: Executor, monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    client = TestClient(console_app())
    client.get(path)
    with recorded(monkeypatch) as statements:
        answer = client.get(path)
    assert answer.status_code == 200, answer.text
    looks = [one for one in statements if one[0].lstrip().startswith(("SELECT", "WITH"))]
    assert looks, "nothing was recorded"
    more = BACKLOG * (2 if crowded.database.locks_rows else STEPS_TO_COUNT_ONE) if path in COUNTING else 0
    for statement in looks:
        spent, allowed = cost(crowded.database, statement)
        assert spent <= allowed + more, f"{spent} of {allowed + more} in:\n{statement[0]}\n{statement[1]}"
