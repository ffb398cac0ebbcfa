"""How the database finds what the engine asks for: by keys and by the index of pending workflows, never by a search
through all of history. Every statement that the storage layer runs is recorded and explained, on a full table."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import pytest

from dbos.storage import claims
from dbos.storage.database import Database, Row, Transaction
from dbos.storage.leases import register_lease, release_lease
from dbos.storage.opening import open_database
from tests.support.storage import SUCCEEDED, VERSION, change, checkpoint, child, commit, lease, run, sql, start

FINISHED, PENDING = 20_000, 50

HISTORY = {"workflow_status", "orphan", "row", "guard", "operation_outputs"}
"""The tables that grow with history, by the names that statements give them."""

KEYS = {"workflow_status_pkey", "operation_outputs_pkey", "workflow_status_pending"}

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
    if request.param != "sqlite":
        for table in ("workflow_status", "operation_outputs", "executors"):
            change(database, "ANALYZE {schema}" + table)
    yield database
    database.close()
    if admin:
        admin.drop_database(url)


@contextmanager
def recorded(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Recorded]]:
    """The statements that transactions run meanwhile, each with its parameters."""
    statements: list[Recorded] = []
    with monkeypatch.context() as patch:
        for name in ("rows", "write"):
            patch.setattr(Transaction, name, _recording(statements, getattr(Transaction, name), is_each=False))
        for name in ("row_each", "write_each"):
            patch.setattr(Transaction, name, _recording(statements, getattr(Transaction, name), is_each=True))
        yield statements


def _recording(statements: list[Recorded], method: Any, is_each: bool) -> Any:
    def record(self: Transaction, statement: str, parameters: Any = None) -> Any:
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
    if "workflow_status_pending" in access:
        return True
    if not access.startswith("SEARCH"):
        return False
    if " by " in access:
        return access.split(" by ")[1] in KEYS | {"executors_pkey"}
    return (
        "PRIMARY KEY" in access
        or "sqlite_autoindex" in access
        or "(rowid" in access
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
