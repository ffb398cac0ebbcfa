"""The database goes away while workflows run, and comes back: all of them finish, each step having run once."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import closing

import pytest
from sqlalchemy import make_url

from dbos import DBOS, SetWorkflowID, WorkflowHandle
from tests.support.postgres import PostgresAdmin
from tests.support.processes import Spawner
from tests.verify.rows import decode, read_rows

pytestmark = pytest.mark.usefixtures("destroyed")

WORKFLOWS, STEPS = 10, 20


class Busy:
    """Workflows, half of them coroutines, that take steps; each step counts its executions."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.executions: Counter[tuple[str, int]] = Counter()
        self._lock = threading.Lock()
        self._progress = threading.Condition(self._lock)

        def count() -> str:
            assert DBOS.workflow_id is not None
            assert DBOS.step_id is not None
            with self._progress:
                self.executions[DBOS.workflow_id, DBOS.step_id] += 1
                self._progress.notify_all()
            return f"{DBOS.workflow_id}/{DBOS.step_id}"

        @DBOS.step(name="step")
        def step() -> str:
            return count()

        @DBOS.step(name="async_step")
        async def async_step() -> str:
            return count()

        @DBOS.workflow(name="busy")
        def busy() -> list[str]:
            return [step() for _ in range(STEPS)]

        @DBOS.workflow(name="busy_async")
        async def busy_async() -> list[str]:
            return [await async_step() for _ in range(STEPS // 2)] + await asyncio.gather(
                *(async_step() for _ in range(STEPS - STEPS // 2))
            )

        self._functions = (busy, busy_async)

    def start(self) -> list[WorkflowHandle[list[str]]]:
        handles: list[WorkflowHandle[list[str]]] = []
        for number in range(WORKFLOWS):
            with SetWorkflowID(f"busy-{number}"):
                function: Callable[[], list[str]] = self._functions[number % 2]  # type: ignore[assignment]
                handles.append(DBOS.start_workflow(function))
        return handles

    def launch(self) -> None:
        DBOS(config={"name": "app", "system_database_url": self.url, "application_version": "1"})
        DBOS.launch()

    def wait_for(self, executions: int) -> None:
        """Wait until so many steps were executed."""
        with self._progress:
            assert self._progress.wait_for(lambda: self.executions.total() >= executions, timeout=30)

    def check(self) -> None:
        rows = read_rows(self.url)
        expected = {(f"busy-{w}", s): f"busy-{w}/{s}" for w in range(WORKFLOWS) for s in range(1, STEPS + 1)}
        assert {row["status"] for row in rows.workflows.values()} == {"SUCCESS"}
        assert {key: decode(row["output"]) for key, row in rows.steps.items()} == expected
        assert self.executions == Counter(dict.fromkeys(expected, 1)), "each step ran once"


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
    assert [handle.get_result() for handle in handles]
    assert cuts > 0, "no connection was cut, so nothing was proved"
    busy.check()


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
    assert [len(handle.get_result()) for handle in handles] == [STEPS] * WORKFLOWS
    busy.check()


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
    assert [len(handle.get_result()) for handle in handles] == [STEPS] * WORKFLOWS
    busy.check()


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
