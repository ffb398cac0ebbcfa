"""The schema: made once, by whoever comes first, and never downgraded."""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest
from psycopg import sql as composed

from dbos.error import DBOSInitializationError
from dbos.model.queues import INTERNAL_QUEUE, QueueRules, RateLimit
from dbos.storage import migrations
from dbos.storage.claims import claim_orphans, read_checkpoints
from dbos.storage.database import Database, Row
from dbos.storage.leases import register_lease
from dbos.storage.management import Forked, cancel, cancel_overdue, delete, fork, resume
from dbos.storage.migrations import migrate, reset
from dbos.storage.opening import open_database, open_existing_database
from dbos.storage.queues import Claimant, claim_enqueued, release_delayed
from dbos.storage.schema import FRAGMENTS, MIGRATIONS, NEWEST, TABLES, VERSION_TABLE
from tests.storage.conftest import Opener
from tests.support.effects import events, inbox, leftovers, message, sending, setting, stream, writing
from tests.support.gates import CountingGate, FailingGate, PausingGate
from tests.support.listening import connection_count
from tests.support.obstacles import wait_for_obstacle
from tests.support.postgres import PostgresAdmin
from tests.support.processes import Spawner
from tests.support.storage import (
    FAILED,
    SUCCEEDED,
    VERSION,
    change,
    checkpoint,
    child,
    commit,
    commit_run,
    commit_start,
    lease,
    run,
    set_status,
    sql,
    start,
    status,
    step_ids,
)
from tests.support.waiting import wait_until

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


# -- from one version of the schema to the next


@pytest.fixture
def open_at(open_again: Opener, monkeypatch: pytest.MonkeyPatch) -> Callable[[int], Database]:
    """Opens the test's database as a library does that knows the first migrations only."""

    def open_(newest: int) -> Database:
        with monkeypatch.context() as patch:
            patch.setattr(migrations, "MIGRATIONS", MIGRATIONS[:newest])
            patch.setattr(migrations, "NEWEST", newest)
            return open_again()

    return open_


def give_data(database: Database) -> None:
    """What an application leaves behind that was stopped: workflows in all states, messages, events, streams."""
    register_lease(database, lease())
    deadlines = {"overdue": 1, "cancelled": 2**42}
    names = ("finished", "failed", "pending", "cancelled", "overdue")
    commit(database, *(start(name, f"token {name}", deadline_ms=deadlines.get(name)) for name in names))
    for name, outcome in (("finished", SUCCEEDED), ("failed", FAILED), ("pending", None)):
        writes = [checkpoint(1, "one"), setting(2), writing(3), sending(4, "pending"), checkpoint(5, "five")]
        commit_run(database, run(name, *writes, token=f"token {name}", outcome=outcome))
    set_status(database, "cancelled", "CANCELLED")


ADDED_LATER = {"message_keys", "queue_starts", "transaction_outputs", "adopted_versions", "decorated_schedules"}
"""The tables that the first schema did not have."""


def everything(database: Database) -> dict[str, list[Row]]:
    """All rows of the tables of the first schema, with the columns that it had."""
    columns = {table: ", ".join(first_columns(table)) for table in set(TABLES) - ADDED_LATER - {VERSION_TABLE}}
    return {
        table: sorted(sql(database, f"SELECT {names} FROM {{schema}}{table}"), key=repr)
        for table, names in columns.items()
    }


def first_columns(table: str) -> list[str]:
    """The columns that a table had in the first schema."""
    (statement,) = (
        text for text in MIGRATIONS[0].statements if f"CREATE TABLE IF NOT EXISTS {{schema}}{table} " in text
    )
    return re.findall(r"^    (?!PRIMARY)(\S+) ", statement, re.MULTILINE)


def shape(database: Database) -> set[Row]:
    """The columns and the indexes of all tables."""
    if database.locks_rows:
        schema = database.schema_prefix.strip('."')
        columns = (
            "SELECT table_name, column_name, data_type, is_nullable, column_default FROM information_schema.columns "
            "WHERE table_schema = :schema"
        )
        indexes = "SELECT tablename, indexname, indexdef FROM pg_indexes WHERE schemaname = :schema"
        return {*sql(database, columns, schema=schema), *sql(database, indexes, schema=schema)}
    return set(sql(database, "SELECT type, name, tbl_name, sql FROM sqlite_master"))


def test_a_database_of_the_first_schema_is_brought_up_to_date_with_all_it_holds(
    open_at: Callable[[int], Database], open_again: Opener
) -> None:
    old = open_at(1)
    assert not ADDED_LATER & tables(old)
    give_data(old)
    before = everything(old)
    assert all(before[table] for table in set(before) - {"workflow_schedules"})
    old.close()
    new = open_again()
    assert (everything(new), sql(new, READ_MIGRATED)) == (before, MIGRATED)
    assert tables(new) >= set(TABLES)


def test_what_the_first_schema_held_can_be_talked_with_and_managed(
    open_at: Callable[[int], Database], open_again: Opener
) -> None:
    give_data(open_at(1))
    database = open_again()
    key: dict[str, Any] = {"key": "key", "lasts": True}
    assert commit(database, message("pending", "new", **key), message("pending", "again", **key)).messages == [
        True,
        True,
    ]
    assert inbox(database, "pending") == ["hello", "hello", "hello", "new"]
    assert [one.workflow_id for one in cancel_overdue(database)] == ["overdue"]
    assert resume(database, "cancelled")
    cancelled = cancel(database, ["pending", "finished", "cancelled"])
    assert sorted(one.workflow_id for one in cancelled) == ["cancelled", "pending"]
    answer = fork(
        database, workflow_id="failed", new_id="copy", start_step=4, application_version=None, timeout_ms=None
    )
    assert answer == Forked()
    assert (step_ids(database, "copy"), events(database, "copy"), stream(database, "copy")) == (
        [1, 2, 3],
        {"key": "value"},
        ["entry"],
    )
    delete(database, ["finished", "pending"], with_descendants=False)
    assert (leftovers(database, "finished"), leftovers(database, "pending")) == ({}, {})


def test_a_database_that_was_brought_up_to_date_is_as_a_fresh_one(
    open_at: Callable[[int], Database], open_again: Opener
) -> None:
    """Step by step, from each version."""
    for newest in range(1, NEWEST):
        open_at(newest)
    upgraded = open_again()
    expected = shape(upgraded)
    reset(upgraded)
    assert shape(upgraded) == expected


def test_what_waited_in_the_second_schema_is_started(open_at: Callable[[int], Database], open_again: Opener) -> None:
    """Nothing of it looks delayed, and no start of it was counted."""
    give_data(open_at(2))
    old = open_at(2)
    waits = "status = 'ENQUEUED', queue_name = :queue, owner_xid = NULL, lease_id = NULL"
    statement = f"UPDATE {{schema}}workflow_status SET {waits} WHERE workflow_uuid IN ('pending', 'cancelled')"
    assert change(old, statement, queue=INTERNAL_QUEUE) == 2
    database = open_again()
    rules = QueueRules(INTERNAL_QUEUE, concurrency=2, rate=RateLimit(2, 60_000))
    claimant = Claimant("lease-1", "local", VERSION, ["work"])
    claim = claim_enqueued(database, rules, claimant, nonce="nonce", rooms={None: 10})
    assert [(one.workflow_id, one.is_fresh) for one in claim.workflows] == [("pending", False), ("cancelled", False)]
    assert release_delayed(database) == 0


def test_a_client_refuses_a_database_that_is_not_up_to_date(
    open_at: Callable[[int], Database], database_url: str
) -> None:
    """It says what to do, and changes nothing."""
    old = open_at(1)
    with pytest.raises(DBOSInitializationError, match=f"schema version 1, not {NEWEST}.*Launch the application"):
        open_existing_database(url=database_url)
    assert sql(old, READ_MIGRATED) == MIGRATED[:1]


def test_an_upgrade_that_fails_leaves_the_database_as_it_was(
    open_at: Callable[[int], Database], open_again: Opener
) -> None:
    give_data(open_at(1))
    with pytest.raises(DBOSInitializationError, match="cut"):
        open_again(gate=FailingGate("migrate", "before_commit", ConnectionError("cut")))
    old = open_at(1)
    assert (sql(old, READ_MIGRATED), ADDED_LATER & tables(old)) == (MIGRATED[:1], set())
    assert sql(open_again(), READ_MIGRATED) == MIGRATED


def test_processes_that_upgrade_at_once_all_succeed(
    open_at: Callable[[int], Database], open_again: Opener, threads: ThreadPoolExecutor
) -> None:
    """Here, threads with connections of their own; nobody runs a migration twice."""
    give_data(open_at(1))
    before = everything(open_at(1))
    together = threading.Barrier(6)

    def open_() -> Database:
        together.wait(10)
        return open_again()

    for future in [threads.submit(open_) for _ in range(6)]:
        assert sql(future.result(60), READ_MIGRATED) == MIGRATED
    assert everything(open_again()) == before


def test_an_upgrade_waits_for_the_write_in_flight_of_an_older_process(
    open_at: Callable[[int], Database], open_again: Opener, threads: ThreadPoolExecutor
) -> None:
    """Which is still running while the new version is rolled out."""
    give_data(open_at(1))
    gate, upgrading_gate = PausingGate("journal", "before_commit"), CountingGate()
    writer, reader = open_at(1), open_at(1)
    writer._gate = gate  # pyright: ignore[reportPrivateUsage]
    writes = (start("new"), run("pending", checkpoint(6), token="token pending"))
    recording = threads.submit(commit, writer, *writes)
    gate.wait_until_reached()
    upgrading = threads.submit(open_again, gate=upgrading_gate)
    wait_for_obstacle(reader, upgrading_gate, "migrate")
    gate.go()
    assert recording.result(30).runs[0].token == "token pending"
    new = upgrading.result(30)
    assert (sql(new, READ_MIGRATED), step_ids(new, "pending")) == (MIGRATED, [1, 2, 3, 4, 5, 6])
    answer = commit_run(writer, run("pending", checkpoint(7), token="token pending", outcome=SUCCEEDED))
    assert (answer.token, status(new, "pending")) == ("token pending", "SUCCESS"), "it goes on afterwards"


def test_migrations_that_databases_have_seen_are_never_changed() -> None:
    """Add a new one instead: a database that has seen this one does not run it again."""
    seen = repr((MIGRATIONS[0], FRAGMENTS)).encode()
    assert hashlib.sha256(seen).hexdigest() == "742c886e83eef464f46929ba6129741545655d4c12c4bdc9384bb28d8f8b6da6"
    seen = repr(MIGRATIONS[1]).encode()
    assert hashlib.sha256(seen).hexdigest() == "5663df5f678c1722faa2f056c3fea1d139b978d534e885be03ac47ccb195f4ea"


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
    with pytest.raises(DBOSInitializationError):
        open_database(url=postgres_url)
    wait_until(lambda: connection_count(postgres_admin, postgres_url) == 0, "all connections are gone")


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
