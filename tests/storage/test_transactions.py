"""The choke point: every transaction is committed whole, or leaves nothing."""

from __future__ import annotations

import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
from sqlalchemy import create_engine
from sqlalchemy.pool import StaticPool

from dbos.storage.database import Database, Transaction
from dbos.storage.errors import TransientStorageError
from dbos.storage.gate import Moment
from dbos.storage.leases import read_live_leases, register_lease, renew_lease
from dbos.storage.opening import open_database
from tests.storage.conftest import Opener
from tests.support.gates import CountingGate, FailingGate
from tests.support.postgres import PostgresAdmin
from tests.support.storage import SUCCEEDED, commit, lease, run, sql, start, status

INSERT = """
INSERT INTO {schema}executors (lease_id, executor_id, application_version, state, started_at, renewed_at)
VALUES (:id, 'local', 'version', 'LIVE', {now}, {now})"""


def lease_ids(database: Database) -> set[str]:
    """The live leases."""
    return {one.lease_id for one in read_live_leases(database, own="")}


def insert(database: Database, lease_id: str) -> int:
    """Write something."""
    return database.run("insert", lambda transaction: transaction.write(INSERT, {"id": lease_id}))


@pytest.mark.parametrize("moment", ["begin", "before_commit"])
@pytest.mark.parametrize("error", [ValueError("wrong"), KeyboardInterrupt(), SystemExit()])
def test_a_transaction_that_raises_leaves_nothing_behind(
    open_again: Opener, moment: Moment, error: BaseException
) -> None:
    database = open_again(gate=FailingGate("insert", moment, error))
    with pytest.raises(type(error)):
        insert(database, "lost")
    assert insert(database, "kept") == 1
    assert lease_ids(database) == {"kept"}


def test_an_interrupted_transaction_leaves_nothing_behind() -> None:
    """On a connection that all threads share, too: in memory there is only one."""
    gate = FailingGate("insert", "before_commit", KeyboardInterrupt())
    database = open_database(url="sqlite:///:memory:", gate=gate)
    with pytest.raises(KeyboardInterrupt):
        insert(database, "lost")
    assert insert(database, "kept") == 1
    assert lease_ids(database) == {"kept"}
    database.close()


def test_a_gate_is_passed_three_times(open_again: Opener) -> None:
    gate = CountingGate()
    database = open_again(gate=gate)
    insert(database, "kept")
    assert [gate.count("insert", moment) for moment in ("begin", "before_commit", "after_commit")] == [1, 1, 1]


def test_a_failure_that_may_pass_is_tried_again(open_again: Opener, database: Database) -> None:
    error = psycopg.OperationalError("gone") if database.locks_rows else sqlite3.OperationalError("database is locked")
    gate = FailingGate("insert", "before_commit", error)
    insert(open_again(gate=gate), "kept")
    assert (gate.count("insert", "begin"), "kept" in lease_ids(database)) == (2, True)


def test_a_failure_that_stays_is_raised_at_once(open_again: Opener) -> None:
    gate = CountingGate()
    database = open_again(gate=gate)
    insert(database, "once")
    with pytest.raises(Exception, match=r"(?i)unique"):
        insert(database, "once")
    assert gate.count("insert", "begin") == 2


def test_texts_with_the_signs_of_sql_are_parameters_only(database: Database) -> None:
    """A statement may hold percent signs and casts; a parameter may hold anything."""
    statement = "SELECT :one || ' 100% ' || :two WHERE 'a%b' LIKE 'a%' AND CAST(1 AS TEXT) ANY_OF(:numbers)"
    nasty = "%s %(one)s :two {schema} {now} ' \" \\ ?"
    parameters = {"one": nasty, "two": "end", "numbers": ["1", nasty]}
    rows = database.run("test", lambda transaction: transaction.rows(statement, parameters))
    assert rows == [(f"{nasty} 100% end",)]


def test_the_clock_of_the_database_counts_milliseconds(database: Database) -> None:
    first, second = (sql(database, "SELECT {now}")[0][0] for _ in range(2))
    assert isinstance(first, int)
    assert 1_700_000_000_000 < first <= second < first + 60_000


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:"])
def test_in_memory_all_threads_share_one_database(url: str, threads: ThreadPoolExecutor) -> None:
    database = open_database(url=url)
    register_lease(database, lease())
    together = threading.Barrier(8)

    def work(number: int) -> None:
        together.wait(10)
        for n in range(10):
            commit(database, start(f"w-{number}-{n}"))
            commit(database, run(f"w-{number}-{n}", outcome=SUCCEEDED))
            assert status(database, f"w-{number}-{n}") == "SUCCESS"

    list(threads.map(work, range(8)))
    assert len(sql(database, "SELECT 1 FROM workflow_status WHERE status = 'SUCCESS'")) == 80
    database.close()


def test_a_pool_of_one_connection_serves_many_threads(open_again: Opener, threads: ThreadPoolExecutor) -> None:
    database = open_again(pool_size=1)
    register_lease(database, lease())
    assert all(threads.map(lambda _: renew_lease(database, "lease-1"), range(100)))
    assert read_live_leases(database, own="")[0].renewals == 100


def test_a_busy_file_is_waited_for(sqlite_url: str, threads: ThreadPoolExecutor) -> None:
    """Another process holds the file for a while."""
    gate = CountingGate()
    database = open_database(url=sqlite_url, gate=gate)
    blocker = sqlite3.connect(sqlite_url.removeprefix("sqlite:///"), isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    inserting = threads.submit(insert, database, "patient")
    gate.wait_for("insert", "begin", 3)
    assert not inserting.done()
    blocker.execute("COMMIT")
    assert inserting.result(30) == 1
    blocker.close()
    database.close()


def test_connections_that_were_cut_are_replaced(postgres_url: str, postgres_admin: PostgresAdmin) -> None:
    database = open_database(url=postgres_url)
    insert(database, "before")
    assert postgres_admin.terminate_connections(postgres_url) >= 1
    insert(database, "after")
    assert lease_ids(database) == {"before", "after"}
    database.close()


def test_a_connection_cut_before_the_commit_is_a_failure_that_may_pass(
    postgres_url: str, postgres_admin: PostgresAdmin
) -> None:
    database = open_database(url=postgres_url)

    def insert_and_be_cut() -> None:
        with database.transaction("test") as transaction:
            transaction.write(INSERT, {"id": "lost"})
            postgres_admin.terminate_connections(postgres_url)

    with pytest.raises(TransientStorageError):
        insert_and_be_cut()
    assert lease_ids(database) == set()
    database.close()


def test_an_engine_with_one_shared_connection_is_used_by_one_thread_at_a_time(threads: ThreadPoolExecutor) -> None:
    engine = create_engine("sqlite://", poolclass=StaticPool, connect_args={"check_same_thread": False})
    database = open_database(url=None, engine=engine)

    def count_up(transaction: Transaction) -> int:
        return transaction.write("UPDATE executors SET renewals = (SELECT renewals FROM executors) + 1")

    register_lease(database, lease())
    list(threads.map(lambda _: database.run("test", count_up), range(50)))
    assert read_live_leases(database, own="")[0].renewals == 50
    database.close()
    engine.dispose()
