"""How the database finds what the engine asks for: by keys and by the index of pending workflows, never by a search
through all of history. Every statement that the storage layer runs is recorded and explained, on a full table."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import pytest

from dbos.model.queues import INTERNAL_QUEUE, QueueRules
from dbos.model.values import RunWrites
from dbos.storage import claims
from dbos.storage.batches import send_message
from dbos.storage.database import Database, Row, Transaction
from dbos.storage.family import read_family
from dbos.storage.leases import register_lease, release_lease
from dbos.storage.management import Forked, cancel, cancel_overdue, delete, fork, resume
from dbos.storage.opening import open_database
from dbos.storage.published import (
    count_messages,
    read_entries,
    read_event_page,
    read_last_offset,
    read_messages,
    read_received,
    read_set_events,
    read_streams,
)
from dbos.storage.queues import Claimant, claim_enqueued, find_waiting
from dbos.storage.stored_values import Source, read_value
from dbos.storage.timeline import (
    read_details,
    read_failed,
    read_first_steps,
    read_last_numbers,
    read_step_span,
    read_timeline,
)
from dbos.storage.waiting import EventQuery, MessageQuery, OutcomeQuery, Query, StreamQuery, find, read_events
from tests.support.effects import entry, event, in_step, message, receiving, sending, setting, writing
from tests.support.storage import SUCCEEDED, VERSION, change, checkpoint, child, commit, lease, run, sql, start

FINISHED, PENDING = 20_000, 50

TABLES = {
    "workflow_status": {"orphan", "row", "guard", "waiting"},
    "operation_outputs": set[str](),
    "notifications": set[str](),
    "workflow_events": {"event"},
    "workflow_events_history": {"newest", "its", "past"},
    "streams": {"entry"},
    "message_keys": set[str](),
}
"""The tables that grow with history, and the other names that statements give them."""

HISTORY = set(TABLES).union(*TABLES.values())

LIVE = {
    "workflow_status_pending",
    "workflow_status_waiting",
    "workflow_status_delayed",
    "workflow_status_running",
    "workflow_status_deduplication",
    "workflow_status_deadline",
    "workflow_status_stopping",
    "message_keys_expiring",
}
"""The indexes that hold nothing but live rows."""

KEYS = {f"{table}_pkey" for table in (*TABLES, "executors", "transaction_outputs")} | {
    "notifications_destination",
    "workflow_status_parent",
    "workflow_status_forked",
}

Recorded = tuple[str, Mapping[str, Any] | Sequence[Any] | None]


@pytest.fixture(
    scope="module", params=["sqlite", "sqlite-analyzed", pytest.param("postgres", marks=pytest.mark.postgres)]
)
def full(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    """A database with a long history and some pending workflows, half of them up for recovery."""
    admin = request.getfixturevalue("postgres_admin") if request.param == "postgres" else None
    url = admin.create_database() if admin else f"sqlite:///{tmp_path_factory.mktemp('plans')}/dbos.sqlite"
    database = open_database(url=url)
    register_lease(database, lease())
    register_lease(database, lease("lease-3"))
    numbers = (
        "generate_series(1, :count) AS numbers (n)"
        if database.locks_rows
        else "(WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < :count) "
        "SELECT n FROM numbers) AS numbers"
    )
    change(
        database,
        "INSERT INTO {schema}workflow_status (workflow_uuid, status, name, inputs, serialization, created_at, "
        "updated_at, application_version, seq, lease_id, owner_xid, recovery_attempts) "
        "SELECT 'w' || n, CASE WHEN n <= :finished THEN 'SUCCESS' ELSE 'PENDING' END, 'work', 'inputs', 'pickle', n, "
        "n, :version, n, CASE WHEN n % 2 = 0 THEN 'lease-1' ELSE 'dead' END, 'token-' || n, 1 FROM " + numbers,
        count=FINISHED + PENDING,
        finished=FINISHED,
        version=VERSION,
    )
    change(
        database,
        "INSERT INTO {schema}operation_outputs (workflow_uuid, function_id, function_name, output, owner_xid) "
        "SELECT 'w' || n, 1, 'step', 'output', 'token-' || n FROM " + numbers,
        count=FINISHED + PENDING,
    )
    for insert in (
        "INSERT INTO {schema}notifications (message_uuid, destination_uuid, topic, message, created_at_epoch_ms, seq) "
        "SELECT 'm' || n, 'w' || (n / 2), 'topic', 'message', n, n",
        "INSERT INTO {schema}workflow_events (workflow_uuid, key, value) SELECT 'w' || n, 'key', 'value'",
        "INSERT INTO {schema}workflow_events_history (workflow_uuid, key, function_id, value) "
        "SELECT 'w' || n, 'key', 1, 'value'",
        'INSERT INTO {schema}streams (workflow_uuid, key, "offset", value) '
        "SELECT 'w' || (n / 100), 'stream', n % 100, 'value'",
        "INSERT INTO {schema}message_keys (destination_uuid, idempotency_key) SELECT 'w' || n, 'key'",
    ):
        change(database, f"{insert} FROM {numbers}", count=FINISHED + PENDING)
    commit(
        database,
        *(start(f"cancelled-{n}", f"token c{n}", lease_id="lease-3") for n in range(20)),
        *(start(f"overdue-{n}", f"token o{n}", deadline_ms=1, lease_id="lease-3") for n in range(20)),
        *(start(f"child-{n}", f"token h{n}", parent_workflow_id="w1", lease_id="lease-3") for n in range(5)),
    )
    change(database, "UPDATE {schema}workflow_status SET status = 'CANCELLED' WHERE workflow_uuid LIKE 'cancelled-%'")
    if request.param != "sqlite":
        for table in (*TABLES, "executors"):
            change(database, "ANALYZE {schema}" + table)
    yield database
    database.close()
    if admin:
        admin.drop_database(url)


@contextmanager
def recorded(monkeypatch: pytest.MonkeyPatch, thread: threading.Thread | None = None) -> Iterator[list[Recorded]]:
    """The statements that transactions run meanwhile, each with its parameters; those of one thread, if it is given."""
    statements: list[Recorded] = []
    with monkeypatch.context() as patch:
        for name in ("rows", "write"):
            patch.setattr(Transaction, name, _recording(statements, getattr(Transaction, name), thread, is_each=False))
        for name in ("row_each", "write_each"):
            patch.setattr(Transaction, name, _recording(statements, getattr(Transaction, name), thread, is_each=True))
        yield statements


def _recording(statements: list[Recorded], method: Any, thread: threading.Thread | None, is_each: bool) -> Any:
    def record(self: Transaction, statement: str, parameters: Any = None) -> Any:
        if thread in (None, threading.current_thread()):
            statements.extend([(statement, row) for row in parameters] if is_each else [(statement, parameters)])
        return method(self, statement, parameters)

    return record


def accesses(database: Database, statement: Recorded) -> list[str]:
    """How the statement reads the tables of history: "by workflow_status_pkey", or "SCAN ..." if it reads them all."""
    text, parameters = statement
    if database.locks_rows:
        (plan,) = database.run("test", lambda t: t.rows("EXPLAIN (FORMAT JSON) " + text, parameters))[0]  # type: ignore[arg-type]
        root = plan if isinstance(plan, list) else json.loads(plan)
        return [_postgres_access(node) for node in _nodes(root[0]["Plan"]) if _is_access(node)]
    explain = "EXPLAIN QUERY PLAN " + text
    if isinstance(parameters, Mapping) or parameters is None:
        rows = database.run("test", lambda t: t.rows(explain, parameters))
    else:
        rows = [row for row in database.run("test", lambda t: t.row_each(explain, [parameters])) if row is not None]
    return [detail for detail in _details(rows) if detail.split()[1] in HISTORY]


def _details(rows: list[Row]) -> list[str]:
    # Older versions of SQLite say "SEARCH TABLE workflow_status AS orphan USING ...".
    details = [str(row[3]).replace(" TABLE ", " ") for row in rows]
    return [detail for detail in details if detail.startswith(("SCAN ", "SEARCH "))]


def _nodes(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield node
    for inner in node.get("Plans", ()):
        yield from _nodes(inner)


def _is_access(node: dict[str, Any]) -> bool:
    return "Index Name" in node or (node.get("Relation Name") in HISTORY and node["Node Type"] == "Seq Scan")


def _postgres_access(node: dict[str, Any]) -> str:
    return f"SEARCH by {node['Index Name']}" if "Index Name" in node else f"SCAN {node['Relation Name']}"


def is_by_key(access: str) -> bool:
    """Whether it costs nothing more when history grows."""
    if any(index in access for index in LIVE):
        return True
    if not access.startswith("SEARCH"):
        return False
    if " by " in access:
        return access.split(" by ")[1] in KEYS
    return (
        "PRIMARY KEY" in access
        or "sqlite_autoindex" in access
        or "(rowid" in access
        or any(key in access for key in KEYS)
        or access.endswith(("status", "row"))
    )


def check(database: Database, statements: list[Recorded]) -> list[str]:
    """All of them go by keys; how they do."""
    all_accesses: list[str] = []
    assert statements, "nothing was recorded"
    for statement in statements:
        how = accesses(database, statement)
        slow = [access for access in how if not is_by_key(access)]
        assert not slow, f"{slow} in:\n{statement[0]}"
        all_accesses += how
    return all_accesses


def test_the_search_for_orphans_and_the_claims_go_by_the_index_of_pending_workflows(
    full: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted: dict[str, Any] = {"application_version": VERSION, "names": ["work", "other"]}
    with recorded(monkeypatch) as statements:
        assert claims.has_orphans(full, **wanted)
        assert claims.find_stranded(full, **wanted, owners=[]) == []
    assert any("workflow_status_pending" in access for access in check(full, statements))
    with recorded(monkeypatch) as statements:
        claimed = claims.claim_orphans(full, nonce="n", lease_id="lease-1", executor_id="e", limit=10, **wanted)
        assert len(claimed) == 10
        claims.read_checkpoints(full, [one.workflow_id for one in claimed])
        claims.release(full, workflow_id=claimed[0].workflow_id, token=claimed[0].token)
        assert claims.count_claims(full, "lease-1") == PENDING // 2 + 9
        assert len(claims.read_claims(full, "lease-1")) == PENDING // 2 + 9
    assert any("workflow_status_pending" in access for access in check(full, statements))


def test_what_runs_write_goes_by_primary_keys(full: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards, checkpoints, outcomes; of one run and of several; and the answers to what stood there already."""
    first = FINISHED + 1
    runs = [f"w{first + number}" for number in range(4)]
    tokens = [
        sql(full, "SELECT owner_xid FROM {schema}workflow_status WHERE workflow_uuid = :id", id=i)[0][0] for i in runs
    ]
    with recorded(monkeypatch) as statements:
        commit(full, run(runs[0], token=tokens[0]))
        commit(full, run(runs[0], checkpoint(2), token=tokens[0]))
        commit(full, run(runs[0], checkpoint(1), checkpoint(3), token=tokens[0]))
        commit(full, run(runs[1], checkpoint(2), token=tokens[1], children=(child(2, "child", lease_id="lease-1"),)))
        commit(full, *(run(i, checkpoint(9), token=t, outcome=SUCCEEDED) for i, t in zip(runs, tokens, strict=True)))
        commit(full, start("new"), start("w1"))
    assert check(full, statements)
    assert not [access for access in check(full, statements) if "pending" in access]


def test_handing_back_goes_by_the_index_of_pending_workflows(full: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    with recorded(monkeypatch) as statements:
        release_lease(full, "lease-1")
    register_lease(full, lease())
    assert any("workflow_status_pending" in access for access in check(full, statements))


def wanted_by(count: int) -> list[Query]:
    """What so many workflows wait for: messages, events, stream entries, ends; some of it is there."""
    ids = [f"w{n * 7 + 1}" for n in range(count)]
    return [
        query
        for i in ids
        for query in (MessageQuery(i, "topic"), EventQuery(i, "key"), StreamQuery(i, "stream", 90), OutcomeQuery(i))
    ]


@pytest.mark.parametrize("count", [1, 10, 300])
def test_what_is_waited_for_is_found_by_keys(full: Database, monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    with recorded(monkeypatch) as statements:
        assert find(full, wanted_by(count))
        read_events(full, "w1")
    assert {"notifications", "workflow_events", "streams", "workflow_status"} <= tables_of(statements)
    check(full, statements)


def tables_of(statements: list[Recorded]) -> set[str]:
    """The tables that the statements name."""
    return {table for table in TABLES for text, _ in statements if re.search(rf"\b{table}\b", text)}


def test_effects_go_by_keys(full: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of one run and of several, and of messages from outside."""

    def everything(number: int) -> RunWrites:
        effects = [sending(1, "w1"), setting(2), writing(3), sending(4, "nobody"), receiving(5, f"given-{number}")]
        published = (in_step(6, entry()), in_step(6, event()))
        return run(f"talking-{number}", *effects, token=f"token t{number}", step_effects=published)

    for number in range(4):
        commit(full, start(f"talking-{number}", f"token t{number}"))
        commit(full, message(f"talking-{number}", message_id=f"given-{number}"))
    with recorded(monkeypatch) as statements:
        for effect in (sending(1, "w1"), setting(2), writing(3), receiving(4, "given-0")):
            commit(full, run("talking-0", effect, token="token t0"))
        commit(full, *(everything(number) for number in (1, 2, 3)))
        commit(full, message("w1"), message("nobody"), message("w2", key="key", lasts=True))
        send_message(full, message("w3"))
    assert set(TABLES) <= tables_of(statements)
    check(full, statements)


def test_what_a_page_shows_of_a_workflow_is_found_by_keys(full: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    # The tests of this module share what is there: it is left as it was.
    change(full, "UPDATE {schema}workflow_status SET forked_from = 'w1' WHERE workflow_uuid = 'w8'")
    with recorded(monkeypatch) as statements:
        assert read_details(full, "w1", max_chars=9) is not None
        assert read_step_span(full, "w1") == (1, 1)
        assert len(read_timeline(full, "w1", 1, 100, max_chars=9)) == 1
        assert read_failed(full, "w1", after=0, limit=9) == []
        assert len(read_first_steps(full, ["w1", "w2"], 10, limit=100, max_chars=9)) == 2
        assert len(read_last_numbers(full, ["w1", "w2"])) == 2
        assert len(read_event_page(full, "w1", limit=10, past_limit=10, max_chars=9)) == 1
        assert len(read_event_page(full, "w1", after="a", limit=10, past_limit=10, max_chars=9)) == 1
        assert len(read_set_events(full, "w1", ["key"], 1, 100, limit=100)) == 1
        assert len(read_messages(full, "w9", limit=10, max_chars=9)) == count_messages(full, "w9", 10) == 2
        assert read_received(full, "w1", limit=10, max_chars=9) == []
        assert len(read_streams(full, "w1", 10)) == 1
        assert read_last_offset(full, "w1", "stream") == 99
        assert len(read_entries(full, "w1", "stream", 0, 9, max_chars=9)) == 10
        assert len(read_family(full, "w1", 200).members) == 7  # type: ignore[union-attr]
        for source in Source:
            read_value(full, source, "w1", key="key", number=1, max_chars=9)
    change(full, "UPDATE {schema}workflow_status SET forked_from = NULL WHERE workflow_uuid = 'w8'")
    assert {"operation_outputs", "notifications", "workflow_events_history", "streams"} <= tables_of(statements)
    check(full, statements)


def test_long_values_are_not_read_to_know_how_long_they_are(full: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    if not full.locks_rows:
        pytest.skip("SQLite keeps no lengths of texts")
    change(
        full,
        "INSERT INTO {schema}operation_outputs (workflow_uuid, function_id, function_name, output) "
        "SELECT 'long', n, 's', "
        "(SELECT string_agg(md5((n * 100000 + i)::text), '') FROM generate_series(1, 10000) AS i) "
        "FROM generate_series(1, 10) AS n",
    )
    with recorded(monkeypatch) as statements:
        assert {step.output for step in read_timeline(full, "long", 1, 10, max_chars=9)} == {(None, 320_000, None)}
    ((statement, parameters),) = statements
    explain = "EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) " + statement
    (plan,) = full.run("test", lambda t: t.rows(explain, parameters))[0]  # type: ignore[arg-type]
    root = (plan if isinstance(plan, list) else json.loads(plan))[0]["Plan"]
    assert root["Shared Hit Blocks"] + root["Shared Read Blocks"] < 40


def test_duties_go_by_the_indexes_of_live_workflows(full: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    with recorded(monkeypatch) as statements:
        duties = claims.read_duties(full, "lease-3")
        assert (duties.has_stopping, duties.delayed_in_ms) == (True, None)
        assert find_waiting(full, [INTERNAL_QUEUE, "queue"], VERSION, ["work", "other"]) == []
        assert len(claims.read_stopping(full, "lease-3")) == 20
        assert len(cancel_overdue(full)) == 20
        assert claims.read_owners(full, ["w1", "w2", "nobody"])
        claims.release_all(full, [(f"overdue-{n}", f"token o{n}") for n in range(20)])
    all_accesses = check(full, statements)
    for index in ("stopping", "delayed", "waiting", "deadline"):
        assert any(f"workflow_status_{index}" in access for access in all_accesses), index


def test_managing_goes_by_keys(full: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    with recorded(monkeypatch) as statements:
        assert resume(full, "cancelled-1")
        assert cancel(full, ["child-0", "w5", "nobody"])
        for new_id, start_step in (("copy", 9), ("copy", 9), ("other copy", 1)):
            options: dict[str, Any] = {"start_step": start_step, "application_version": None, "timeout_ms": None}
            assert fork(full, workflow_id="w7", new_id=new_id, **options) == Forked()
        claimant = Claimant("lease-1", "e", VERSION, ["work", "other"])
        rooms: dict[str | None, int] = {None: 10}
        taken = claim_enqueued(full, QueueRules(INTERNAL_QUEUE), claimant, nonce="n", rooms=rooms).workflows
        assert {one.workflow_id for one in taken} == {"cancelled-1", "copy", "other copy"}
        assert len(delete(full, ["w1"], with_descendants=True)) == 6
        assert delete(full, ["w3", "nobody"], with_descendants=False)
    all_accesses = check(full, statements)
    assert any("workflow_status_waiting" in access for access in all_accesses)
    assert any("workflow_status_parent" in access for access in all_accesses)
