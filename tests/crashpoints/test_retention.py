"""Deleting what has ended under a kill: each workflow is there as a whole, or gone as a whole."""

from __future__ import annotations

import pytest

from dbos import DBOS
from dbos.runtime.retention import collect_garbage
from dbos.storage.database import Database
from tests.crashpoints.sampling import PROGRAMS
from tests.support.apps import App
from tests.support.processes import Spawner

TABLES = ("operation_outputs", "workflow_events", "workflow_events_history", "streams")


def owners(database: Database, table: str) -> set[str]:
    statement = f"SELECT DISTINCT workflow_uuid FROM {{schema}}{table}"
    return {row[0] for row in database.run("look", lambda transaction: transaction.rows(statement), "read")}


@pytest.mark.parametrize(("moment", "left"), [("begin", 4), ("before_commit", 4), ("after_commit", 2)])
def test_a_kill_leaves_workflows_whole_or_gone(database_url: str, spawn: Spawner, moment: str, left: int) -> None:
    child = spawn(PROGRAMS / "collected.py", database_url, moment)
    assert child.wait() == -9, child.stderr
    app = App(database_url)
    try:
        app.launch()
        executor = DBOS._application.executor  # type: ignore[union-attr]
        assert executor is not None
        there = {workflow.workflow_id for workflow in DBOS.list_workflows()}
        assert there == {f"w-{number}" for number in range(6 - left, 6)}
        assert [owners(executor.database, table) for table in TABLES] == [there] * len(TABLES)
        assert collect_garbage(executor, rows_kept=0) == left
        assert [owners(executor.database, table) for table in TABLES] == [set()] * len(TABLES)
    finally:
        DBOS.destroy()
