"""The table of transactions: made where there is none, used as it is where an older library made it."""

from __future__ import annotations

import threading

import pytest
from sqlalchemy import create_engine, make_url, text

from dbos.model.values import Checkpoint, RecordedStep, RunAnswer
from dbos.storage.database import Database
from dbos.storage.leases import register_lease
from dbos.storage.migrations import prepare_for_transactions
from dbos.storage.opening import is_same_database, open_application_database
from dbos.storage.transactions import AlreadyRecorded, NotOwned, Recorded, TransactionStore
from tests.storage.conftest import Opener
from tests.support.gates import CountingGate
from tests.support.storage import checkpoint, commit_start, lease, set_owner, set_status, sql, start, step_ids
from tests.verify.rows import query

OLDER = """
CREATE TABLE {schema}transaction_outputs (
    workflow_uuid TEXT NOT NULL,
    function_id INTEGER NOT NULL,
    output TEXT,
    error TEXT,
    txn_id TEXT,
    txn_snapshot TEXT NOT NULL,
    executor_id TEXT,
    function_name TEXT NOT NULL DEFAULT '',
    created_at BIGINT NOT NULL,
    PRIMARY KEY (workflow_uuid, function_id)
)"""
"""As version 2.13 makes it."""

ONE: Checkpoint = checkpoint(1)


def record(store: TransactionStore, workflow_id: str = "w", token: str = "token-1", one: Checkpoint = ONE) -> object:
    """What comes of recording a transaction that does nothing."""
    with store.begin("SERIALIZABLE") as transaction:
        return transaction.record(workflow_id, token, one)


@pytest.fixture
def store(database: Database) -> TransactionStore:
    """In the system database, with one workflow."""
    commit_start(database, start("w"))
    return TransactionStore(database, has_guard=True)


def test_a_database_of_its_own_gets_one_table(database_url: str) -> None:
    for _ in range(2):
        database = open_application_database(url=database_url, schema="dbos", pool_size=2)
        store = TransactionStore(database, has_guard=False)
        store.delete_all()
        assert record(store) == Recorded(None)
        database.close()
    if database_url.startswith("sqlite"):
        assert query(database_url, "SELECT name FROM sqlite_master WHERE type = 'table'") == [("transaction_outputs",)]
    else:
        tables = query(database_url, "SELECT tablename FROM pg_tables WHERE schemaname = 'dbos'")
        assert tables == [("transaction_outputs",)]


def test_a_second_opening_only_looks(database_url: str) -> None:
    open_application_database(url=database_url, schema="dbos", pool_size=2).close()
    gate = CountingGate()
    open_application_database(url=database_url, schema="dbos", pool_size=2, gate=gate).close()
    assert gate.counts("begin") == {"read_version": 1}


def test_a_table_of_an_older_library_is_read_and_written(database_url: str) -> None:
    if not database_url.startswith("sqlite"):
        query(database_url, "CREATE SCHEMA dbos")
    query(database_url, OLDER)
    query(
        database_url,
        "INSERT INTO {schema}transaction_outputs (workflow_uuid, function_id, output, txn_snapshot, function_name, "
        "created_at) VALUES ('old', 1, 'the output', '', 'before', 1)",
    )
    database = open_application_database(url=database_url, schema="dbos", pool_size=2)
    prepare_for_transactions(database)
    store = TransactionStore(database, has_guard=False)
    assert store.read(["old"]) == {
        "old": {1: RecordedStep(1, "before", "the output", None, None, None, is_checkpoint=False)}
    }
    assert record(store, "old") == AlreadyRecorded()
    assert record(store, "new") == Recorded(None)
    assert store.look("new", 1) == RecordedStep(1, "step-1", "the output", None, "pickle", None, is_checkpoint=False)
    assert store.look("new", 2) is None
    store.delete(["old"])
    assert set(store.read(["old", "new"])) == {"new"}
    database.close()


def test_a_record_and_its_checkpoint_are_committed_together(database: Database, store: TransactionStore) -> None:
    assert record(store) == Recorded(RunAnswer("token-1", "PENDING"))
    assert (step_ids(database, "w"), set(store.read(["w"])["w"])) == ([1], {1})
    assert record(store) == AlreadyRecorded()
    set_status(database, "w", "CANCELLED")
    assert record(store, one=checkpoint(2)) == Recorded(RunAnswer("token-1", "CANCELLED")), "the one in flight counts"


def test_the_guard_lets_the_owner_only(database: Database, store: TransactionStore) -> None:
    set_owner(database, "w", "token-2", "lease-1")
    assert record(store) == NotOwned(RunAnswer("token-2", "PENDING"))
    assert record(store, "unknown") == NotOwned(RunAnswer(None, None))
    set_owner(database, "w", "token-1", "lease-1")
    set_status(database, "w", "SUCCESS")
    assert record(store) == NotOwned(RunAnswer("token-1", "SUCCESS")), "a task that its workflow left behind"
    assert (step_ids(database, "w"), store.read(["w"])) == ([], {})


def test_the_statements_of_a_fenced_run_are_rolled_back(database: Database, store: TransactionStore) -> None:
    sql_text = text("CREATE TABLE mine (id INTEGER)")
    with store.begin("READ COMMITTED") as transaction:
        transaction.run(lambda session: session.execute(sql_text))
        assert isinstance(transaction.record("w", "token-0", ONE), NotOwned)
    with store.begin("READ COMMITTED") as transaction:
        transaction.run(lambda session: session.execute(sql_text))
        assert isinstance(transaction.record("w", "token-1", ONE), Recorded)
    assert sql(database, "SELECT * FROM mine") == []


def test_a_take_over_waits_for_the_record_in_flight_and_sees_it(open_again: Opener, postgres_url: str) -> None:
    """Or the record is refused: whoever comes first locks the workflow's row."""
    database = open_again(url=postgres_url)
    register_lease(database, lease())
    commit_start(database, start("w"))
    store = TransactionStore(database, has_guard=True)
    taken = threading.Event()
    seen: list[list[int]] = []

    def take_over() -> None:
        set_owner(database, "w", "token-2", "lease-1")
        seen.append(step_ids(database, "w"))
        taken.set()

    with store.begin("SERIALIZABLE") as transaction:
        assert isinstance(transaction.record("w", "token-1", ONE), Recorded)
        thread = threading.Thread(target=take_over)
        thread.start()
        waiting = (
            "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
        )
        while not sql(database, waiting)[0][0]:
            assert not taken.is_set(), "it took the workflow over in the middle of a transaction"
    thread.join(30)
    assert seen == [[1]]


def test_a_transaction_waits_for_no_one_who_checkpoints(database: Database, store: TransactionStore) -> None:
    """While the application's code runs, the workflow's row is not locked: the journal can write for it."""
    if not database.locks_rows:
        return
    with store.begin("SERIALIZABLE") as transaction:
        transaction.run(lambda session: session.execute(text("SELECT 1")))
        set_status(database, "w", "PENDING")


@pytest.mark.parametrize(
    ("one", "other", "is_same"),
    [
        ("sqlite:///a.sqlite", "sqlite+pysqlite:///./a.sqlite?check_same_thread=false", True),
        ("sqlite:///a.sqlite", "sqlite:///b.sqlite", False),
        ("sqlite://", "sqlite:///:memory:", True),
        ("postgresql+psycopg://u:p@h/d", "postgres://u:other@h:5432/d", True),
        ("postgresql+psycopg://u:p@h/d", "postgresql://v:p@h/d", False),
        ("postgresql+psycopg://u:p@h/d", "postgresql://u:p@h/e", False),
        ("postgresql+psycopg://u:p@h/d", "postgresql://u:p@h:5433/d", False),
        ("postgresql+psycopg://u@/d?host=/run", "postgresql://u@/d?host=/run", True),
        ("postgresql+psycopg://u@/d?host=/run", "sqlite:///d", False),
    ],
)
def test_urls_of_the_same_database(one: str, other: str, is_same: bool) -> None:
    engine = create_engine(make_url(one))
    assert is_same_database(engine, other) is is_same
