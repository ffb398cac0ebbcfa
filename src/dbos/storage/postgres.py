"""PostgreSQL through psycopg 3, in autocommit: a lone statement is a transaction of one round trip."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dbos.error import DBOSInitializationError
from dbos.storage.database import Database, TransactionState
from dbos.storage.gate import Gate

if TYPE_CHECKING:
    from sqlalchemy.engine import Engine
    from sqlalchemy.pool import PoolProxiedConnection

_PARAMETER = re.compile(r"(?<!:):([a-z_]+)\b")
_ANY_OF = re.compile(r"ANY_OF\(:([a-z_]+)\)")
_NAMES = re.compile(r"\{schema(?:_name|_literal)?\}")
_ROWS_OF = re.compile(r"ROWS_OF\(:([a-z_]+), ([a-z_, ]+)\)")

_TRANSIENT_STATES = frozenset({"40001", "40P01", "55P03", "25006", "25P03", "25P04"})
"""Serialization failure, deadlock, lock not available, read-only (a server in the middle of a fail-over), and the two
time-outs by which the server ends the transaction of a process that was stopped."""


_GAVE_WAY = frozenset({"40001", "40P01", "25P03", "25P04", "57P01", "57P02", "57P03"})
"""Serialization failure, deadlock, and what ends a transaction together with its connection."""

_PROGRAM_LIMIT = "54"
"""The class of errors about what is too large or too complex, also for the next try."""

_SET_TIMEOUTS = "SET idle_in_transaction_session_timeout = '10s'; SET lock_timeout = '3s'"
"""A process that is stopped inside a transaction must not hold its locks for ever, nor others wait for them so long.
Ours are held for milliseconds."""

_SET_LOCAL_TIMEOUTS = "BEGIN; SET LOCAL idle_in_transaction_session_timeout = '10s'; SET LOCAL lock_timeout = '3s'"
"""The same for one transaction: behind a pooler the session may be somebody else's after it."""

_POOLED_STATES = frozenset({"26000", "42P05"})
"""A prepared statement is not there, or there already: the session is not the one that it was."""

_UNLIMITED = "; SET LOCAL idle_in_transaction_session_timeout TO DEFAULT; SET LOCAL lock_timeout TO DEFAULT"
"""What the application does in a transaction of its own may take as long as its server lets it."""


class PostgresDatabase(Database):
    """A system database in one schema of a PostgreSQL database."""

    locks_rows = True
    clock_expression = "(extract(epoch from clock_timestamp()) * 1000)::bigint"

    def __init__(
        self, engine: Engine, *, schema: str, owns_engine: bool, gate: Gate | None = None, is_pooled: bool = False
    ) -> None:
        super().__init__(engine, owns_engine=owns_engine, gate=gate)
        self.schema = schema
        self.schema_prefix = quoted(schema) + "."
        self.is_pooled = is_pooled
        """Whether a pooler (PgBouncer) is in between, so that a session may be another one with each transaction."""

    @property
    def location(self) -> str:
        return f"PostgreSQL at {self.engine.url.render_as_string(hide_password=True)}"

    def is_transient(self, error: BaseException) -> bool:
        import psycopg
        from sqlalchemy.exc import TimeoutError as PoolTimeoutError

        if isinstance(error, psycopg.errors.UniqueViolation) and error.diag.table_name == "streams":
            # An entry that another try, still under way on the server, wrote meanwhile: the next offset is another now.
            return True
        state = error.sqlstate if isinstance(error, psycopg.Error) else None
        if state is not None and (state in _TRANSIENT_STATES or state.startswith(_PROGRAM_LIMIT)):
            return state in _TRANSIENT_STATES
        if state in _POOLED_STATES:
            return True
        # The driver reports a lost connection in both of these ways, and what the server lacks for now in the first.
        return isinstance(error, psycopg.OperationalError | psycopg.InterfaceError | PoolTimeoutError)

    def is_held_up(self, error: BaseException) -> bool:
        import psycopg

        return isinstance(error, psycopg.errors.LockNotAvailable)

    def is_lost(self, connection: PoolProxiedConnection) -> bool:
        driver: Any = connection.driver_connection
        return driver is None or bool(driver.closed)

    def learn_from(self, error: Exception) -> bool:
        import psycopg

        if not isinstance(error, psycopg.Error) or error.sqlstate not in _POOLED_STATES:
            return False
        self.is_pooled = True
        return True

    def compile(self, statement: str) -> str:
        statement = statement.replace("{now}", self.clock_expression).replace("%", "%%")
        statement = _ROWS_OF.sub(r"json_to_recordset(:\1) AS \1 (\2)", statement).replace("SIZE_OF(", "octet_length(")
        statement = _PARAMETER.sub(r"%(\1)s", _ANY_OF.sub(r"= ANY(:\1)", statement))
        # The schema last: it may have any name, also one that looks like a parameter.
        names = {
            "{schema_name}": quoted(self.schema),
            "{schema_literal}": self.schema_prefix.replace("'", "''"),
            "{schema}": self.schema_prefix,
        }
        return _NAMES.sub(lambda name: names[name.group()].replace("%", "%%"), statement)

    def prepare(self, connection: PoolProxiedConnection) -> Callable[[], None] | None:
        driver: Any = connection.driver_connection
        if driver.autocommit:
            return None
        driver.autocommit = True
        came_with = driver.prepare_threshold
        if self.is_pooled:
            driver.prepare_threshold = None
        elif self._owns_engine:
            driver.execute(_SET_TIMEOUTS)
            driver.prepare_threshold = 1
        if self._owns_engine:
            return None

        def give_back() -> None:
            driver.autocommit = False
            driver.prepare_threshold = came_with

        return give_back

    def begin(self, cursor: Any) -> None:
        if self.is_pooled and self._owns_engine:
            cursor.execute(_SET_LOCAL_TIMEOUTS, prepare=False)
        else:
            cursor.execute("BEGIN")

    def begin_lent(self, cursor: Any, isolation_level: str) -> None:
        # Several statements in one message, which cannot be prepared.
        limits = _UNLIMITED if self._owns_engine and not self.is_pooled else ""
        cursor.execute(f"BEGIN ISOLATION LEVEL {isolation_level}{limits}", prepare=False)

    def state_of(self, connection: PoolProxiedConnection) -> TransactionState:
        from psycopg.pq import TransactionStatus

        driver: Any = connection.driver_connection
        status = driver.info.transaction_status
        if status == TransactionStatus.INTRANS:
            return "open"
        return "failed" if status == TransactionStatus.INERROR else "none"

    def gave_way(self, error: BaseException) -> bool:
        import psycopg

        if not isinstance(error, psycopg.Error):
            return False
        if error.sqlstate is not None:
            return error.sqlstate in _GAVE_WAY
        # A lost connection; what the driver itself refuses to do is another class of error.
        return isinstance(error, psycopg.OperationalError)

    def execute(self, cursor: Any, statement: str, parameters: Mapping[str, Any] | None) -> None:
        cursor.execute(self.compiled(statement), parameters or {})


def quoted(name: str) -> str:
    """The name as an SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def create_database_if_missing(engine: Engine) -> None:
    """Create the database that the engine's URL names, if the server has none of that name and lets us.

    Raises:
        psycopg.Error: The server cannot be reached, or refuses.
    """
    import psycopg
    from psycopg import sql

    try:
        with contextlib.closing(engine.raw_connection()):
            return
    except psycopg.OperationalError as error:
        # A refused connection carries no SQLSTATE, only the server's message; "postgres" exists on every server.
        if engine.url.database is None or "does not exist" not in str(error) or "database" not in str(error):
            raise
    _, parameters = engine.dialect.create_connect_args(engine.url.set(database="postgres"))
    with (
        psycopg.connect(**parameters, autocommit=True) as connection,
        contextlib.suppress(psycopg.errors.DuplicateDatabase, psycopg.errors.UniqueViolation),
    ):
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(engine.url.database)))


@dataclass(frozen=True, slots=True)
class Server:
    """What a connection leads to.

    Attributes:
        is_replica: Whether it follows another server, and takes no writes.
        is_read_only: Whether transactions are read-only unless they say otherwise.
        is_pooled: Whether there is a pooler in between.
    """

    is_replica: bool
    is_read_only: bool
    is_pooled: bool


def look_at_server(engine: Engine) -> Server:
    """What the engine's connections lead to.

    Raises:
        psycopg.Error: The server cannot be reached.
    """
    with contextlib.closing(engine.raw_connection()) as connection:
        driver: Any = connection.driver_connection
        # A pooler greets with a number of its own.
        question = "SELECT pg_is_in_recovery(), current_setting('default_transaction_read_only') = 'on', %s"
        question += " <> pg_backend_pid()"
        server = Server(*driver.execute(question, (driver.info.backend_pid,)).fetchone())
        connection.rollback()
        return server


def refuse_read_only(engine: Engine, server: Server) -> None:
    """Make sure that the database lets us write.

    Raises:
        DBOSInitializationError: The server is a read replica, or all transactions are read-only.
    """
    if not server.is_replica and not server.is_read_only:
        return
    where = f"The PostgreSQL database {engine.url.render_as_string(hide_password=True)}"
    if server.is_replica:
        raise DBOSInitializationError(
            f"{where} is on a read replica, and workflows have to be recorded. Give the URL of the primary server, or "
            "those of all, as in postgresql://host1:5432,host2:5432/database?target_session_attrs=read-write"
        )
    raise DBOSInitializationError(
        f"{where} is read-only, and workflows have to be recorded: default_transaction_read_only is on. Turn it off "
        "for this role and database, or give another URL."
    )
