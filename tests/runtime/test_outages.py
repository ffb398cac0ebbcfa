"""The database goes away while workflows run, and comes back: all of them finish, each step having run once."""

from __future__ import annotations

import sqlite3
import threading
from contextlib import closing

import pytest
from sqlalchemy import make_url

from dbos import DBOS, WorkflowHandle
from tests.support.busy import STEPS, Busy
from tests.support.postgres import PostgresAdmin
from tests.support.processes import Spawner

pytestmark = pytest.mark.usefixtures("destroyed")

WORKFLOWS = 10


@pytest.mark.postgres
def test_workflows_finish_while_connections_are_cut_again_and_again(
    postgres_admin: PostgresAdmin, postgres_url: str
) -> None:
    busy = Busy(postgres_url)
    busy.launch()
    handles = busy.start()
    cuts = 0
    for executions in range(20, WORKFLOWS * STEPS - 20, 20):
        busy.wait_for(executions)
        cuts += postgres_admin.terminate_connections(postgres_url)
    busy.finish(handles)
    assert cuts > 0, "no connection was cut, so nothing was proved"


@pytest.mark.postgres
def test_workflows_outlast_an_outage(postgres_admin: PostgresAdmin, postgres_url: str) -> None:
    """They wait while the database refuses connections, also those that are started meanwhile."""
    busy = Busy(postgres_url)
    busy.launch()
    with postgres_admin.outage(postgres_url):
        handles: list[WorkflowHandle[list[str]]] = []
        starter = threading.Thread(target=lambda: handles.extend(busy.start()), daemon=True)
        starter.start()
        starter.join(0.3)
        assert starter.is_alive(), "a start is not acknowledged before it is durable"
        assert not busy.executions, "no step runs before its workflow's start is durable"
    starter.join(30)
    busy.finish(handles)


def test_workflows_outlast_a_lock_on_the_sqlite_file(sqlite_url: str, spawn: Spawner) -> None:
    """Another process writes for a while, and nobody else can."""
    busy = Busy(sqlite_url)
    busy.launch()
    locker = spawn(
        """
        import sqlite3, sys
        connection = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=30)
        for _ in range(3):
            connection.execute("BEGIN IMMEDIATE")
            print("locked", flush=True)
            sys.stdin.readline()
            connection.execute("COMMIT")
            print("unlocked", flush=True)
            sys.stdin.readline()
        """,
        str(make_url(sqlite_url).database),
    )
    locker.wait_for_line("^locked")
    handles: list[WorkflowHandle[list[str]]] = []
    starter = threading.Thread(target=lambda: handles.extend(busy.start()), daemon=True)
    starter.start()
    starter.join(0.3)
    assert starter.is_alive(), "a start is not acknowledged before it is durable"
    for time in (1, 2, 3):
        locker.write_line()
        locker.wait_for_line("^unlocked", count=time)
        busy.wait_for(time * 20)
        locker.write_line()
        if time < 3:
            locker.wait_for_line("^locked", count=time + 1)
    locker.succeed()
    starter.join(30)
    busy.finish(handles)


def test_reader_of_the_sqlite_file_holds_up_nobody(sqlite_url: str) -> None:
    """An open read transaction of somebody else (a backup, a console) delays no commit."""
    busy = Busy(sqlite_url)
    busy.launch()
    with closing(sqlite3.connect(str(make_url(sqlite_url).database), isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM workflow_status").fetchall()
        assert [len(handle.get_result()) for handle in busy.start()] == [STEPS] * WORKFLOWS
        assert reader.execute("SELECT count(*) FROM workflow_status").fetchone() == (0,), "its snapshot stands"
    busy.check()


@pytest.mark.postgres
@pytest.mark.timeout(60)
def test_destroy_does_not_wait_for_a_database_that_is_away(postgres_admin: PostgresAdmin, postgres_url: str) -> None:
    """Its lease is buried by the others anyway, as its process has ended."""
    Busy(postgres_url).launch()
    with postgres_admin.outage(postgres_url):
        stopping = threading.Thread(target=DBOS.destroy, daemon=True)
        stopping.start()
        stopping.join(15)
        is_over = not stopping.is_alive()
    stopping.join()
    assert is_over
