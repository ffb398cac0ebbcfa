"""SQLite through the standard library's driver: write-ahead log, every commit synced, patience of our own.

SQLite's busy time-out makes a waiting process sleep longer and longer, and under a busy neighbour it may never get its
turn. Ours is off; a locked file is a transient error, retried soon and with jitter.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from dbos.storage.database import Database, TransactionState
from dbos.storage.gate import Gate

if TYPE_CHECKING:
    from sqlalchemy.engine import Engine
    from sqlalchemy.pool import PoolProxiedConnection

OLDEST_VERSION = (3, 31, 0)

_ANY_OF = re.compile(r"ANY_OF\(:([a-z_]+)\)")
_ROWS_OF = re.compile(r"ROWS_OF\(:([a-z_]+), ([a-z_, ]+)\)")
_TRANSIENT_MESSAGES = ("locked", "busy", "disk i/o error", "disk is full", "unable to open database file")
_PREPARED = "dbos_prepared"

_CHECKPOINT_PAGES = 500
"""How long the log grows (2 MB) until it is copied into the file and written from its start again. Flushing what is
overwritten takes half the time of flushing what makes a file longer."""

_CACHE_KB = 512
"""How much of the file each connection keeps in memory. The system keeps it too, and there may be many connections."""


class SqliteDatabase(Database):
    """A system database in one SQLite file, or in memory."""

    schema_prefix = ""
    locks_rows = False
    clock_expression = "CAST(ROUND((julianday('now') - 2440587.5) * 86400000.0) AS INTEGER)"

    def __init__(self, engine: Engine, *, owns_engine: bool, gate: Gate | None = None) -> None:
        super().__init__(engine, owns_engine=owns_engine, gate=gate)
        self.write_lock = threading.RLock()

    @property
    def location(self) -> str:
        return f"SQLite file {self.engine.url.database or ':memory:'}"

    def is_transient(self, error: BaseException) -> bool:
        import sqlite3

        from sqlalchemy.exc import TimeoutError as PoolTimeoutError

        if isinstance(error, PoolTimeoutError):
            return True
        return isinstance(error, sqlite3.OperationalError) and any(
            message in str(error).lower() for message in _TRANSIENT_MESSAGES
        )

    def is_contended(self, error: BaseException) -> bool:
        return any(word in str(error).lower() for word in ("locked", "busy"))

    def is_lost(self, connection: PoolProxiedConnection) -> bool:
        return False

    def compile(self, statement: str) -> str:
        statement = statement.replace("{schema}", self.schema_prefix).replace("{now}", self.clock_expression)
        statement = _ROWS_OF.sub(_rows_of, statement).replace("SIZE_OF(", "length(")
        return _ANY_OF.sub(r"IN (SELECT value FROM json_each(:\1))", statement)

    def prepare(self, connection: PoolProxiedConnection) -> Callable[[], None] | None:
        if self._owns_engine and _PREPARED in connection.info:
            return None
        driver: Any = connection.driver_connection
        came_with = driver.isolation_level
        driver.isolation_level = None
        busy_timeout_ms = int(driver.execute("PRAGMA busy_timeout").fetchone()[0])
        driver.execute("PRAGMA busy_timeout = 0")
        if _PREPARED not in connection.info:
            # The log is shared by all connections and survives; syncing it at every commit is a connection's choice.
            if driver.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
                driver.execute("PRAGMA journal_mode = WAL").fetchone()
            driver.execute("PRAGMA synchronous = FULL")
            driver.execute(f"PRAGMA cache_size = -{_CACHE_KB}")
            driver.execute(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT_PAGES}")
            connection.info[_PREPARED] = True
        if self._owns_engine:
            return None

        def give_back() -> None:
            driver.execute(f"PRAGMA busy_timeout = {busy_timeout_ms}")
            driver.isolation_level = came_with

        return give_back

    def begin(self, cursor: Any) -> None:
        # A deferred transaction that reads first may fail at its first write in a way that waiting cannot cure.
        cursor.execute("BEGIN IMMEDIATE")

    def begin_lent(self, cursor: Any, isolation_level: str) -> None:
        self.begin(cursor)

    def state_of(self, connection: PoolProxiedConnection) -> TransactionState:
        driver: Any = connection.driver_connection
        return "open" if driver.in_transaction else "none"

    def gave_way(self, error: BaseException) -> bool:
        return self.is_transient(error) and self.is_contended(error)

    def execute(self, cursor: Any, statement: str, parameters: Mapping[str, Any] | None) -> None:
        if parameters is None:
            cursor.execute(self.compiled(statement))
            return
        cursor.execute(
            self.compiled(statement),
            {name: json.dumps(value) if isinstance(value, list) else value for name, value in parameters.items()},
        )


def _rows_of(match: re.Match[str]) -> str:
    name, columns = match.groups()
    values = (f"json_extract(value, '$.{column.split()[0]}') AS {column.split()[0]}" for column in columns.split(", "))
    return f"(SELECT {', '.join(values)} FROM json_each(:{name})) AS {name}"
