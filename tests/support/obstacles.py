"""Transactions that hold each other up."""

from __future__ import annotations

from dbos.storage.database import Database
from tests.support.gates import CountingGate
from tests.support.storage import sql
from tests.support.waiting import wait_until

_BLOCKED = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"


def is_held_up(reader: Database, gate: CountingGate, operation: str) -> bool:
    """Whether the operation, whose transactions pass the gate, is held up by another transaction.

    On PostgreSQL a connection then waits for a lock, which the server tells; on SQLite the file is locked, so that the
    transaction is begun again.
    """
    return bool(sql(reader, _BLOCKED)) if reader.locks_rows else gate.count(operation, "begin") >= 2


def wait_for_obstacle(reader: Database, gate: CountingGate, operation: str) -> None:
    """Wait until the operation is held up."""
    wait_until(lambda: is_held_up(reader, gate, operation), f"{operation} is held up")
