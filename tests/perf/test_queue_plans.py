"""What queues cost with a backlog of 100 000 workflows: what is claimed or found, not what waits.

Statements are recorded and run again where the database counts what it reads; see `test_listing_plans`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import pytest

from dbos.model.queues import INTERNAL_QUEUE, QueueRules, RateLimit
from dbos.model.values import Place
from dbos.storage.claims import read_duties
from dbos.storage.database import Database
from dbos.storage.debouncing import Caller, Debounced, Round, debounce
from dbos.storage.leases import register_lease
from dbos.storage.opening import open_database
from dbos.storage.queues import (
    Claimant,
    claim_enqueued,
    find_partitions,
    find_queues,
    find_unknown_functions,
    find_waiting,
    note_starts,
    put_back,
    release_delayed,
)
from dbos.storage.versions import COUNTED, Waiting, find_other_versions
from tests.perf.test_query_plans import Recorded, recorded
from tests.support.storage import VERSION, change, checkpoint, commit, lease, start

BACKLOG = 100_000
OTHERS = 20_000
LIMIT = 100

STEPS = 60_000
"""Steps of SQLite's virtual machine that a statement may take; it takes five and more to pass over a row."""

ROWS = 8_000
"""Rows that a statement of Postgres may read; what runs on a queue is counted."""

FILL = """
INSERT INTO {schema}workflow_status (workflow_uuid, status, name, created_at, updated_at, application_version, inputs,
    serialization, queue_name, queue_partition_key, priority, seq, owner_xid, lease_id, recovery_attempts)
SELECT :queue || (CAST(:first AS INTEGER) + n), :status, 'work', 1700000000000 + n, 1700000000000 + n,
    CAST(:version AS TEXT), 'inputs', 'pickle', :queue,
    CASE WHEN CAST(:partitions AS INTEGER) > 0 THEN 'p' || (n % CAST(:partitions AS INTEGER)) END, 0,
    CAST(:first AS INTEGER) + n,
    CASE WHEN :status = 'PENDING' THEN 'token ' || (CAST(:first AS INTEGER) + n) END,
    CASE WHEN :status = 'PENDING' THEN 'dead' END, 0
FROM """


class Filler:
    """Fills the database by SQL."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._first = 0

    def fill(self, queue: str, count: int, version: str | None = VERSION, partitions: int = 0, **others: Any) -> None:
        """So many rows of one queue, behind those that are there."""
        numbers = (
            f"generate_series(1, {count}) AS numbers (n)"
            if self._database.locks_rows
            else f"(WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < {count}) "
            "SELECT n FROM numbers) AS numbers"
        )
        wanted: dict[str, Any] = {"status": "ENQUEUED", "queue": queue, "version": version, "partitions": partitions}
        change(self._database, FILL + numbers, first=self._first, **wanted | others)
        self._first += count


@pytest.fixture(
    scope="module", params=["sqlite", "sqlite-analyzed", pytest.param("postgres", marks=pytest.mark.postgres)]
)
def full(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    """A database with a backlog on each of several queues, and a history."""
    admin = request.getfixturevalue("postgres_admin") if request.param == "postgres" else None
    url = admin.create_database() if admin else f"sqlite:///{tmp_path_factory.mktemp('plans')}/dbos.sqlite"
    database = open_database(url=url)
    register_lease(database, lease())
    filler = Filler(database)
    filler.fill("mixed", OTHERS, "another version")
    filler.fill("mixed", BACKLOG - OTHERS)
    filler.fill("any", OTHERS, None)
    filler.fill("partitioned", BACKLOG // 4, partitions=50)
    filler.fill("running", OTHERS // 10, status="PENDING")
    change(database, "UPDATE {schema}workflow_status SET lease_id = 'lease-1' WHERE queue_name = 'running'")
    filler.fill("running", LIMIT)
    filler.fill("left", LIMIT, status="PENDING")
    filler.fill("history", OTHERS, status="SUCCESS")
    filler.fill("delayed", OTHERS)
    change(
        database,
        "UPDATE {schema}workflow_status SET queue_name = :queue, delayed_queue_name = 'delayed', "
        "deduplication_id = workflow_uuid, delay_limit_epoch_ms = {now} + 8000000, "
        "delay_until_epoch_ms = CASE WHEN created_at <= 1700000000002 THEN 1 ELSE {now} + 7000000 END "
        "WHERE queue_name = 'delayed'",
        queue=INTERNAL_QUEUE,
    )
    numbers = "(SELECT seq AS n FROM {schema}workflow_status WHERE queue_name = 'history') AS numbers"
    change(
        database,
        "INSERT INTO {schema}queue_starts (token, workflow_uuid, queue_name, partition_key, period_ms, claimed_at, "
        "started_at) SELECT 'start ' || n, 'history' || n, 'queue ' || (n % 1000), '', 1, 1, 1 FROM " + numbers,
    )
    if request.param != "sqlite":
        for table in ("workflow_status", "executors", "queue_starts", "operation_outputs"):
            change(database, "ANALYZE {schema}" + table)
    yield database
    database.close()
    if admin:
        admin.drop_database(url)


def cost(database: Database, statement: Recorded) -> tuple[int, int]:
    """What the statement costs, and what it may. It is undone."""
    text, parameters = statement
    with closing(database.engine.raw_connection()) as connection:
        database.prepare(connection)
        cursor = connection.cursor()
        cursor.execute("BEGIN")
        try:
            if database.locks_rows:
                database.execute(cursor, "EXPLAIN (ANALYZE, FORMAT JSON) " + text, parameters)  # type: ignore[arg-type]
                (plan,) = cursor.fetchall()[0]
                root: list[dict[str, Any]] = json.loads(plan) if isinstance(plan, str) else plan
                nodes = list(_nodes(root[0]["Plan"]))
                scanned = [n for n in nodes if n["Node Type"] == "Seq Scan" and n.get("Relation Name") in _GROWING]
                assert not scanned, f"a sequential scan in:\n{text}"
                return sum(map(_rows_read, nodes)), ROWS
            steps = 0

            def count() -> int:
                nonlocal steps
                steps += 100
                return 0

            driver: Any = connection.driver_connection
            driver.set_progress_handler(count, 100)
            try:
                if isinstance(parameters, (list, tuple)):
                    cursor.execute(database.compiled(text), parameters)
                else:
                    database.execute(cursor, text, parameters)  # type: ignore[arg-type]
                cursor.fetchall()
            finally:
                driver.set_progress_handler(None, 0)
            return steps, STEPS
        finally:
            cursor.execute("ROLLBACK")


_GROWING = {"workflow_status", "queue_starts"}


def _nodes(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield node
    for inner in node.get("Plans", ()):
        yield from _nodes(inner)


def _rows_read(node: dict[str, Any]) -> int:
    if "Relation Name" not in node and "Index Name" not in node:
        return 0
    removed = sum(int(node.get(f"Rows Removed by {cause}", 0)) for cause in ("Filter", "Index Recheck"))
    return (int(node["Actual Rows"]) + removed) * int(node["Actual Loops"])


def check(full: Database, monkeypatch: pytest.MonkeyPatch, work: Callable[[], Any]) -> Any:
    """Do the work; none of its statements reads the backlog. Returns what the work returned."""
    with recorded(monkeypatch) as statements:
        result = work()
    assert statements, "nothing was recorded"
    for statement in statements:
        if statement[0].lstrip().startswith("INSERT"):
            # It cannot be run again, and finds what is there by unique keys.
            continue
        spent, allowed = cost(full, statement)
        assert spent <= allowed, f"{spent} of {allowed} in:\n{statement[0]}\n{statement[1]}"
    return result


def claimant(**others: Any) -> Claimant:
    fields: dict[str, Any] = {
        "lease_id": "lease-1",
        "executor_id": "e",
        "application_version": VERSION,
        "names": ["work", "other"],
        "owners": ["Class\x1f", "Class\x1fone"],
    }
    return Claimant(**fields | others)


QUEUES: dict[str, tuple[QueueRules, dict[str | None, int]]] = {
    "plain": (QueueRules("mixed"), {None: LIMIT}),
    "shared": (QueueRules("mixed", concurrency=1000, rate=RateLimit(1000, 3_600_000)), {None: LIMIT}),
    "of any version": (QueueRules("any"), {None: LIMIT}),
    "a queue of many that run": (QueueRules("running", concurrency=3000), {None: 10}),
    "partitions": (QueueRules("partitioned", is_partitioned=True, concurrency=9), {"p7": 5, "p3": 5, None: 5}),
    "empty": (QueueRules("nothing"), {None: LIMIT}),
}


@pytest.mark.parametrize("name", QUEUES)
def test_a_claim_does_not_read_the_backlog(full: Database, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    rules, rooms = QUEUES[name]

    def claim(nonce: str) -> int:
        return len(claim_enqueued(full, rules, claimant(), nonce=nonce, rooms=rooms).workflows)

    claimed = check(full, monkeypatch, lambda: claim(f"first {name}"))
    assert claimed == {"partitions": 10, "empty": 0, "a queue of many that run": 10}.get(name, LIMIT)
    check(full, monkeypatch, lambda: claim(f"second {name}"))


@pytest.mark.parametrize("rate", [None, RateLimit(1000, 3_600_000)])
def test_a_claim_tried_again_does_not_read_the_backlog(
    full: Database, monkeypatch: pytest.MonkeyPatch, rate: RateLimit | None
) -> None:
    """It asks what it has claimed already."""
    from dbos.storage.errors import TransientStorageError
    from tests.support.gates import FailingGate

    gate = FailingGate("claim_enqueued", "after_commit", TransientStorageError("lost"))
    monkeypatch.setattr(full, "_gate", gate)
    rules = QueueRules("any", rate=rate)
    claimed = check(
        full,
        monkeypatch,
        lambda: claim_enqueued(full, rules, claimant(), nonce=f"again {rate}", rooms={None: 5}).workflows,
    )
    assert len(claimed) == 5
    assert check(full, monkeypatch, lambda: note_starts(full, [one.token for one in claimed])) is None


def test_looks_for_work_do_not_read_the_backlog(full: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    queues = ["mixed", "any", "partitioned", "nothing", "history", INTERNAL_QUEUE]
    partitioned = QueueRules("partitioned", is_partitioned=True)
    waiting = check(full, monkeypatch, lambda: find_waiting(full, queues, VERSION, ["work", "other"]))
    assert set(waiting) >= {"mixed", "any", "partitioned"}
    assert check(full, monkeypatch, lambda: find_queues(full)) == ["any", "mixed", "partitioned", "running"]
    unknown = check(full, monkeypatch, lambda: find_unknown_functions(full, queues, claimant(names=["other"])))
    assert set(unknown) == {(name, "work", None, None) for name in ("mixed", "any", "partitioned")}
    assert check(full, monkeypatch, lambda: len(find_partitions(full, partitioned))) == 50
    limited = QueueRules("partitioned", is_partitioned=True, concurrency=1)
    assert check(full, monkeypatch, lambda: len(find_partitions(full, limited))) >= 48


def test_looking_for_other_versions_does_not_read_the_backlog(full: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """What waits for them is counted to a bound; nobody has to be told exactly."""
    (found,) = check(full, monkeypatch, lambda: find_other_versions(full, VERSION))
    assert found == Waiting("another version", enqueued=COUNTED, is_at_least=True)


def test_putting_back_reads_only_what_was_left(full: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    assert check(full, monkeypatch, lambda: put_back(full, "another version")) == {}
    assert check(full, monkeypatch, lambda: set(put_back(full, VERSION).values())) == {"left"}
    assert check(full, monkeypatch, lambda: put_back(full, VERSION)) == {}


def test_delays_and_duties_do_not_read_the_backlog(full: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    duties = check(full, monkeypatch, lambda: read_duties(full, "lease-1"))
    assert duties.delayed_in_ms is not None
    assert check(full, monkeypatch, lambda: release_delayed(full)) == 2
    assert check(full, monkeypatch, lambda: release_delayed(full)) == 0


def test_debouncing_does_not_read_the_backlog(full: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """The call that begins a round, one that puts it off, and one of a workflow."""
    commit(full, start("calling", "token-c"))
    nobody: dict[str, Any] = {"token": None, "lease_id": None, "status": "ENQUEUED", "executor_id": None}
    caller = Caller("calling", "token-c", checkpoint(1, None, serialization=None))
    for number, its_caller in enumerate((None, None, caller, caller)):
        place = Place(INTERNAL_QUEUE, deduplication_id="work-key")
        call = Round(start(f"call-{number}", **nobody, place=place), 3_600_000, None, "queue", None)
        answer = check(full, monkeypatch, lambda: debounce(full, call, its_caller))  # noqa: B023
        assert answer == Debounced("call-0")


def test_enqueueing_does_not_read_the_backlog(full: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    nobody: dict[str, Any] = {"token": None, "lease_id": None, "status": "ENQUEUED", "executor_id": None}
    place = Place("mixed", deduplication_id="one", priority=5)
    check(full, monkeypatch, lambda: commit(full, start("new", **nobody, place=place)))
    check(full, monkeypatch, lambda: commit(full, start("newer", **nobody, place=place), start("new", **nobody)))
