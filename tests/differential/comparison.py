"""Runs operations on SQLite, PostgreSQL and the oracle, and tells the first after which they differ."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from random import Random
from typing import Any

from dbos.storage.database import Database, Transaction
from dbos.storage.gate import Gate
from dbos.storage.opening import open_database
from tests.differential.generator import Generator
from tests.differential.operations import METHODS, ORDERS, Operation, comparable, on_database, on_oracle, verdicts
from tests.verify.oracle import Oracle
from tests.verify.oracle.tables import STEP_COLUMNS, TRANSACTION_COLUMNS, WORKFLOW_COLUMNS, in_order

BEGINNING_MS = 1_700_000_000_000

_CLOCK = "{schema}clock_of_the_test"
_ORDERS = "{schema}" + ORDERS

_COLUMNS = {
    "workflow_status": ", ".join(WORKFLOW_COLUMNS),
    "notifications": "message_uuid, destination_uuid, topic, message, serialization, created_at_epoch_ms",
    "operation_outputs": ", ".join(STEP_COLUMNS),
    "message_keys": "destination_uuid, idempotency_key, expires_at",
    "workflow_events": "workflow_uuid, key, value, serialization",
    "workflow_events_history": "workflow_uuid, key, function_id, value, serialization",
    "streams": 'workflow_uuid, key, "offset", value, serialization, function_id',
    "executors": "lease_id, executor_id, application_version, state, renewals, started_at, renewed_at, hostname, pid, "
    "boot_id, pid_namespace, pid_started, serves",
    "queue_starts": "token, workflow_uuid, queue_name, partition_key, period_ms, claimed_at, started_at",
    "workflow_schedules": "schedule_id, schedule_name, workflow_name, workflow_class_name, schedule, status, context, "
    "serialization, fired_until_epoch_ms",
    "decorated_schedules": "schedule_id, status, fired_until_epoch_ms",
    "transaction_outputs": ", ".join(TRANSACTION_COLUMNS),
    ORDERS: "name",
}
_HAVE_ORDER = ("workflow_status", "notifications")


class Differs(AssertionError):
    """After the last of these operations a database and the oracle differ."""

    def __init__(self, what: str, operations: Sequence[Operation]) -> None:
        super().__init__(what)
        self.operations = list(operations)


class Comparison:
    """The databases and the oracle, side by side. See `databases_with_clocks`."""

    def __init__(self, databases: Sequence[Database]) -> None:
        self._databases = databases
        self.seen: set[str] = set()
        """The verdicts on all answers, of all runs."""

    def run_random(self, seed: int, count: int) -> None:
        """So many random operations on empty tables.

        Raises:
            Differs: With all operations up to the one after which something differs.
        """
        oracle = self._start_anew()
        generator = Generator(Random(seed), oracle)
        done: list[Operation] = []
        for _ in range(count):
            done.append(generator.next())
            self._compare_one(oracle, done)

    def run(self, operations: Sequence[Operation]) -> None:
        """These operations on empty tables. (Errors as for `run_random`.)"""
        oracle = self._start_anew()
        for number in range(len(operations)):
            self._compare_one(oracle, operations[: number + 1])

    def shortened(self, operations: Sequence[Operation]) -> Differs:
        """What is left to differ when all operations are left out that can be."""
        rest, size = list(operations), len(operations) // 2
        while size:
            for first in range(len(rest) - size, -1, -size):
                fewer = [*rest[:first], *rest[first + size :]]
                try:
                    self.run(fewer)
                except Differs as difference:
                    rest = difference.operations
            size //= 2
        try:
            self.run(rest)
        except Differs as difference:
            return difference
        raise AssertionError("the difference went away: an operation does not depend on the tables and the clock alone")

    def _start_anew(self) -> Oracle:
        for database in self._databases:
            empty(database)
        return Oracle(BEGINNING_MS)

    def _compare_one(self, oracle: Oracle, done: Sequence[Operation]) -> None:
        operation = done[-1]
        if operation.name == "tick":
            oracle.now += operation.arguments["ms"]
            for database in self._databases:
                now = {"now": oracle.now}
                database.run("test", lambda t, now=now: t.write(f"UPDATE {_CLOCK} SET now = :now", now))
            return
        assert operation.name in METHODS, f"there is no {operation.name} in storage"
        expected = on_oracle(oracle, operation)
        self.seen |= verdicts(operation, expected)
        expected_answer, expected_content = comparable(operation, expected), oracle.content()
        for database in self._databases:
            where = f"{type(database).__name__} after {operation}"
            try:
                answer = on_database(database, operation)
            except Exception as error:
                raise Differs(f"{where}: {error!r}", done) from error
            if comparable(operation, answer) != expected_answer:
                raise Differs(f"{where}:\n  answers {answer}\n  oracle  {expected}", done)
            its_content = content(database)
            for table, rows in expected_content.items():
                if its_content[table] != rows:
                    raise Differs(f"{where}, table {table}:\n{_difference(its_content[table], rows)}", done)


def _difference(rows: list[Any], expected: list[Any]) -> str:
    lines = [f"  has     {row}" for row in rows if row not in expected]
    lines += [f"  oracle  {row}" for row in expected if row not in rows]
    return "\n".join(lines) or f"  order   {[row[0] for row in rows]}\n  oracle  {[row[0] for row in expected]}"


@contextmanager
def database_with_clock(url: str, gate: Gate | None = None) -> Iterator[Database]:
    """A database whose clock stands still until the test moves it."""
    database = open_database(url=url, gate=gate)
    database.run("test", lambda t: t.write(f"CREATE TABLE IF NOT EXISTS {_CLOCK} (now BIGINT NOT NULL)"))
    database.run("test", lambda t: t.write(f"CREATE TABLE IF NOT EXISTS {_ORDERS} (name TEXT NOT NULL)"))
    database.clock_expression = f"(SELECT now FROM {database.compile(_CLOCK)})"
    database._compiled.clear()
    try:
        yield database
    finally:
        database.close()


def empty(database: Database) -> None:
    """Remove everything, and set the clock to `BEGINNING_MS`."""
    database.run("test", _empty)


def content(database: Database) -> dict[str, list[tuple[Any, ...]]]:
    """All tables, as `Tables.content` of the oracle."""
    return database.run("test", _content, "read")


def _empty(transaction: Transaction) -> None:
    for table in _COLUMNS:
        transaction.write(f"DELETE FROM {{schema}}{table}")
    transaction.write(f"DELETE FROM {_CLOCK}")
    transaction.write(f"INSERT INTO {_CLOCK} VALUES (:now)", {"now": BEGINNING_MS})


def _content(transaction: Transaction) -> dict[str, list[tuple[Any, ...]]]:
    tables: dict[str, list[tuple[Any, ...]]] = {}
    for table, columns in _COLUMNS.items():
        order = " ORDER BY seq" if table in _HAVE_ORDER else ""
        rows = [tuple(row) for row in transaction.rows(f"SELECT {columns} FROM {{schema}}{table}{order}")]
        tables[table] = rows if order else in_order(rows)
    return tables
