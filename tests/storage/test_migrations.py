"""The schema: made once, by whoever comes first, and never downgraded."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
from psycopg import sql as composed

from dbos.error import DBOSInitializationError
from dbos.storage.claims import claim_orphans, read_checkpoints
from dbos.storage.database import Database
from dbos.storage.migrations import migrate, reset
from dbos.storage.opening import open_database
from dbos.storage.schema import MIGRATIONS, NEWEST, TABLES, VERSION_TABLE
from tests.storage.conftest import Opener
from tests.support.gates import CountingGate
from tests.support.postgres import PostgresAdmin
from tests.support.processes import Spawner
from tests.support.storage import (
    SUCCEEDED,
    change,
    checkpoint,
    child,
    commit,
    commit_run,
    commit_start,
    run,
    sql,
    start,
    status,
    step_ids,
)

MIGRATED = [(migration.number, migration.name) for migration in MIGRATIONS]
READ_MIGRATED = f"SELECT number, name FROM {{schema}}{VERSION_TABLE} ORDER BY number"


def tables(database: Database) -> set[str]:
    """The names of the tables that exist."""
    if database.locks_rows:
        statement = "SELECT table_name FROM information_schema.tables WHERE table_schema = :schema"
        return {row[0] for row in sql(database, statement, schema=database.schema_prefix.strip('."'))}
    return {row[0] for row in sql(database, "SELECT name FROM sqlite_master WHERE type = 'table'")}


def test_a_fresh_database_gets_all_tables(database: Database) -> None:
    assert tables(database) >= set(TABLES)
    assert sql(database, READ_MIGRATED) == MIGRATED
    assert [number for number, _ in MIGRATED] == list(range(1, NEWEST + 1))


def test_a_second_opening_changes_nothing(open_again: Opener, database: Database) -> None:
    commit_start(database, start("w"))
    gate = CountingGate()
    again = open_again(gate=gate)
    migrate(again)
    assert gate.counts() == {"read_version": 2}, "it only looks"
    assert (sql(again, READ_MIGRATED), status(again, "w")) == (MIGRATED, "PENDING")


def test_threads_that_open_a_fresh_database_at_once_all_succeed(
    open_again: Opener, threads: ThreadPoolExecutor
) -> None:
    together = threading.Barrier(8)

    def open_() -> Database:
        together.wait(10)
        return open_again()

    for future in [threads.submit(open_) for _ in range(8)]:
        assert sql(future.result(60), READ_MIGRATED) == MIGRATED


def test_processes_that_open_a_fresh_database_at_once_all_succeed(database_url: str, spawn: Spawner) -> None:
    children = [
        spawn(
            """
            import sys
            from dbos.storage.opening import open_database
            print("ready")
            input()
            open_database(url=sys.argv[1]).close()
            """,
            database_url,
        )
        for _ in range(4)
    ]
    for one in children:
        one.wait_for_line("ready")
    for one in children:
        one.write_line()
    for one in children:
        one.succeed()
    database = open_database(url=database_url)
    assert sql(database, READ_MIGRATED) == MIGRATED
    database.close()


def test_a_newer_schema_is_refused_and_left_alone(open_again: Opener, database: Database) -> None:
    commit_start(database, start("w"))
    newer = NEWEST + 1
    statement = f"INSERT INTO {{schema}}{VERSION_TABLE} (number, name, applied_at) VALUES (:number, 'to come', 0)"
    change(database, statement, number=newer)
    with pytest.raises(DBOSInitializationError, match=rf"version {newer}.*up to {NEWEST}\b.*newer version") as caught:
        open_again()
    assert "password" not in str(caught.value)
    assert status(database, "w") == "PENDING"


def test_a_refused_opening_leaves_no_connection_behind(postgres_url: str, postgres_admin: PostgresAdmin) -> None:
    database = open_database(url=postgres_url)
    change(database, f"INSERT INTO {{schema}}{VERSION_TABLE} (number, name, applied_at) VALUES (999, 'to come', 0)")
    database.close()
    with pytest.raises(DBOSInitializationError) as caught:
        open_database(url=postgres_url)
    assert postgres_admin.terminate_connections(postgres_url) == 0, caught.value


@pytest.mark.parametrize(
    "schema", ["dbos", "my Schema", 'with "quotes"', "it's", "semi;colon", "percent%s", "größe.x", "select"]
)
def test_a_schema_may_have_any_name(postgres_url: str, schema: str) -> None:
    """Also the numbering of rows, which names a sequence in a literal, works there."""
    database = open_database(url=postgres_url, schema=schema)
    commit(database, start("w1", lease_id=None), start("w2", "token-2", lease_id=None))
    commit_run(database, run("w1", checkpoint(1), children=(child(1, "w1-1", lease_id=None),), outcome=SUCCEEDED))
    assert (status(database, "w1"), status(database, "w1-1"), step_ids(database, "w1")) == ("SUCCESS", "PENDING", [1])
    assert [row[0] for row in sql(database, "SELECT seq FROM {schema}workflow_status ORDER BY seq")] == [1, 2, 3]
    assert (
        claim_orphans(
            database,
            nonce="n",
            lease_id="unknown",
            executor_id="local",
            application_version="version-1",
            names=["work"],
            limit=9,
        )
        == []
    )
    assert list(read_checkpoints(database, ["w1"])) == ["w1"]
    schemas = sql(database, "SELECT table_schema FROM information_schema.tables WHERE table_name = 'workflow_status'")
    assert schemas == [(schema,)]
    reset(database)
    assert status(database, "w1") is None
    database.close()


def test_two_schemas_of_one_database_do_not_see_each_other(postgres_url: str) -> None:
    databases = [open_database(url=postgres_url, schema=schema) for schema in ("one", "One")]
    for database in databases:
        commit_start(database, start("w", lease_id=None))
    reset(databases[0])
    assert [status(database, "w") for database in databases] == [None, "PENDING"]
    for database in databases:
        database.close()


def test_tables_made_ahead_of_time_serve_a_role_that_may_create_nothing(
    postgres_url: str, postgres_admin: PostgresAdmin
) -> None:
    open_database(url=postgres_url).close()
    role = "dbos_test_app"
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        name = composed.Identifier(role)
        for statement in (
            "DROP ROLE IF EXISTS {}",
            "CREATE ROLE {} LOGIN",
            "GRANT USAGE ON SCHEMA dbos TO {}",
            "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA dbos TO {}",
            "GRANT USAGE ON ALL SEQUENCES IN SCHEMA dbos TO {}",
        ):
            connection.execute(composed.SQL(statement).format(name))
        try:
            from sqlalchemy import make_url

            url = make_url(postgres_url).set(username=role).render_as_string(hide_password=False)
            database = open_database(url=url)
            commit_start(database, start("w", lease_id=None))
            assert status(database, "w") == "PENDING"
            database.close()
        finally:
            connection.execute(composed.SQL("DROP OWNED BY {}").format(name))
            connection.execute(composed.SQL("DROP ROLE {}").format(name))


def test_a_reset_forgets_everything_of_the_library_and_nothing_else(database: Database) -> None:
    change(database, "CREATE TABLE mine (id INTEGER)")
    change(database, "INSERT INTO mine VALUES (7)")
    commit(database, start("w1"), start("w2"))
    commit_run(database, run("w1", checkpoint(1)))
    reset(database)
    for table in TABLES:
        expected = len(MIGRATIONS) if table == VERSION_TABLE else 0
        assert len(sql(database, f"SELECT 1 FROM {{schema}}{table}")) == expected, table
    assert sql(database, "SELECT id FROM mine") == [(7,)]
    commit_start(database, start("w3", lease_id=None))
    assert sql(database, "SELECT workflow_uuid, seq FROM {schema}workflow_status") == [("w3", 1)]
