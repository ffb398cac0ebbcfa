"""How many workflows of each queue were started of late."""

from __future__ import annotations

from typing import Any

import pytest

from dbos.storage import rates
from dbos.storage.database import Database
from dbos.storage.rates import read_recent_starts
from tests.support.storage import change

MINUTE_MS = 60_000

_INSERT = """
INSERT INTO {schema}workflow_status (workflow_uuid, status, name, created_at, updated_at, queue_name, priority, seq,
    started_at_epoch_ms)
VALUES (:id, :status, 'f', {now} - :created_ago, {now}, :queue, :priority, :seq,
    CASE WHEN CAST(:started_ago AS BIGINT) >= 0 THEN {now} - CAST(:started_ago AS BIGINT) END)"""


class Rows:
    """Inserts workflows; the ages are in seconds."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._count = 0

    def add(
        self, status: str, created: float, started: float | None = None, *, queue: str = "q", priority: int = 0
    ) -> None:
        self._count += 1
        values: dict[str, Any] = {
            "id": f"w{self._count}",
            "status": status,
            "created_ago": round(created * 1000),
            "queue": queue,
            "priority": priority,
            "seq": self._count,
            "started_ago": -1 if started is None else round(started * 1000),
        }
        change(self._database, _INSERT, **values)


@pytest.fixture
def rows(database: Database) -> Rows:
    return Rows(database)


def recent(database: Database, *queues: str) -> dict[str, int]:
    return read_recent_starts(database, queues or ("q",), MINUTE_MS)


def test_started_within_the_period_counts_whether_it_runs_or_has_ended(database: Database, rows: Rows) -> None:
    rows.add("SUCCESS", 4000, 3000)
    rows.add("SUCCESS", 3000, 50)
    rows.add("ERROR", 3000, 40)
    rows.add("PENDING", 2900, 30)
    rows.add("CANCELLED", 2800)
    rows.add("PENDING", 2500, 100)
    rows.add("ENQUEUED", 2000)
    rows.add("SUCCESS", 5, 3, queue="other")
    assert recent(database, "q", "other", "none") == {"q": 3, "other": 1, "none": 0}


def test_what_came_later_and_was_more_urgent_counts(database: Database, rows: Rows) -> None:
    rows.add("ENQUEUED", 2000, priority=9)
    rows.add("SUCCESS", 20, 10, priority=1)
    rows.add("PENDING", 10, 5, priority=1)
    assert recent(database) == {"q": 2}


def test_no_more_is_looked_at_than_is_needed(database: Database, rows: Rows, monkeypatch: pytest.MonkeyPatch) -> None:
    """Here three: the one that is next, and the two before it, of a long history and a long backlog."""
    monkeypatch.setattr(rates, "_READ_RATES", rates._READ_RATES.replace(f"LIMIT {rates.LOOKED_AT}", "LIMIT 3"))
    for age in range(9, 0, -1):
        rows.add("SUCCESS", 1000 + age, 10)
    for age in range(9, 0, -1):
        rows.add("ENQUEUED", 500 + age)
    assert recent(database) == {"q": 2}
