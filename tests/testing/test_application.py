"""The application under test: restarts, crashes, and a database that is emptied and harms no other."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from sqlalchemy import text

from dbos import DBOS, SetWorkflowID
from dbos.error import DBOSException, DBOSInitializationError
from dbos.storage.opening import open_database
from dbos.storage.reads import WorkflowFilter, read_workflows
from dbos.testing import App, CrashTest, SessionDatabase
from tests.support.apps import Roadblock, status_of, steps_of


def test_crash_leaves_what_was_durable_and_nothing_else(app: App) -> None:
    roadblock = Roadblock()
    runs: list[str] = []

    @DBOS.step()
    def first() -> None:
        runs.append("first")

    @DBOS.step()
    def second() -> str:
        runs.append("second")
        roadblock.stop()
        return "done"

    @DBOS.workflow()
    def two_steps() -> str:
        first()
        return second()

    with SetWorkflowID("crashed"):
        DBOS.start_workflow(two_steps)
    roadblock.wait_until_reached()
    app.crash()
    roadblock.open()
    app.launch()
    assert DBOS.retrieve_workflow("crashed").get_result() == "done"
    assert runs == ["first", "second", "second"]
    assert len(steps_of("crashed")) == 2


def test_crash_records_nothing_of_what_goes_on(app: App) -> None:
    roadblock = Roadblock()

    @DBOS.workflow()
    async def one_step() -> None:
        await DBOS.run_step_async({"name": "step"}, roadblock.stop_async)

    with SetWorkflowID("never-ends"):
        DBOS.start_workflow(one_step)
    roadblock.wait_until_reached()
    app.crash()
    with pytest.raises(DBOSException, match="not launched"):
        _ = app.executor
    app.launch()
    assert status_of("never-ends") == "PENDING"
    roadblock.open()
    DBOS.retrieve_workflow("never-ends").get_result()


def test_reset_empties_and_keeps_the_functions(app: App) -> None:
    @DBOS.workflow()
    def work() -> str:
        DBOS.set_event("key", "value")
        return "done"

    with SetWorkflowID("one"):
        assert work() == "done"
    app.reset()
    assert DBOS.list_workflows() == []
    assert DBOS.get_event("one", "key", timeout_seconds=0) is None
    with SetWorkflowID("one"):
        assert work() == "done"


def test_application_database_of_its_own_survives_crashes_and_forgets_what_tests_did(
    session_database: SessionDatabase, tmp_path: Path
) -> None:
    ran: list[str] = []

    @DBOS.transaction()
    def store() -> str:
        ran.append("store")
        DBOS.sql_session.execute(text("INSERT INTO stock (item) VALUES ('lamp')"))
        return "stored"

    @DBOS.workflow()
    def work() -> str:
        return store()

    url = f"sqlite:///{tmp_path / 'shop.sqlite'}"
    with sqlite3.connect(tmp_path / "shop.sqlite") as stock:
        stock.execute("CREATE TABLE stock (item TEXT)")
    application = App(session_database, {"application_database_url": url})
    application.launch()
    try:
        # The transaction is committed in one database before its checkpoint is in the other.
        test = CrashTest(application, workflow_id="one")
        assert test.assert_survives(work) == "stored"
        assert test.crashes >= 3
        assert ran == ["store"]
        application.reset()
        with SetWorkflowID("one"):
            assert work() == "stored"
        assert ran == ["store", "store"]
    finally:
        application.destroy()
    assert stock.execute("SELECT * FROM stock").fetchall() == [("lamp",), ("lamp",)]
    stock.close()


def test_second_application_is_refused(app: App, session_database: SessionDatabase) -> None:
    with pytest.raises(DBOSException, match="launched already"):
        App(session_database).launch()


@pytest.mark.parametrize("field", ["system_database_url", "dbos_system_schema"])
def test_configured_database_is_refused(session_database: SessionDatabase, field: str) -> None:
    with pytest.raises(DBOSException, match=f"dbos_config names {field}"):
        App(session_database, {field: "anything"})


def test_existing_file_is_refused(sqlite_url: str) -> None:
    open_database(url=sqlite_url).close()
    with pytest.raises(DBOSInitializationError, match="exists already"):
        SessionDatabase(sqlite_url)


def test_tests_touch_no_other_schema(postgres_url: str) -> None:
    @DBOS.workflow()
    def work() -> None:
        pass

    DBOS(config={"name": "production", "system_database_url": postgres_url, "run_admin_server": False})
    DBOS.launch()
    with SetWorkflowID("precious"):
        work()
    DBOS.destroy()

    database = SessionDatabase(postgres_url)
    application = App(database)
    application.launch()
    assert DBOS.list_workflows() == []
    application.reset()
    application.destroy()
    database.close()

    production = open_database(url=postgres_url)
    try:
        assert [row.workflow_id for row in read_workflows(production, WorkflowFilter())] == ["precious"]
        schemas = "SELECT nspname FROM pg_namespace WHERE nspname LIKE 'dbos_test%'"
        assert production.run("read", lambda transaction: transaction.rows(schemas), "read") == []
    finally:
        production.close()
