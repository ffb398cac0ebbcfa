"""Connections and transactions: everything that touches a database goes through ``Database.transaction``.

SQLAlchemy makes the engine and keeps the pool; the statements run on the driver's own cursors, as building a statement
object for each call would cost more than the call. A statement is written once for both databases:

- parameters are named, ``:name``, and always bound;
- ``{schema}`` is the prefix of a table's name, ``{now}`` the database's clock in epoch milliseconds;
- ``ANY_OF(:names)`` after a column asks whether it is in the list that is bound to ``names``;
- ``ROWS_OF(:names, id text, number integer)`` is a table of that name, of the JSON objects that are bound to ``names``;
- ``SIZE_OF(column)`` is the length of a text: on Postgres in bytes, which it knows without reading the text.
"""

from __future__ import annotations

import abc
import contextlib
import random
import threading
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from dbos.storage.errors import CONTENTION_PAUSE_S, TransientStorageError
from dbos.storage.gate import Gate

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection, Engine
    from sqlalchemy.pool import PoolProxiedConnection

Scope = Literal["transaction", "statement", "read"]
"""What a transaction holds: several statements; one that writes; or only reads, which need no common snapshot."""

TransactionState = Literal["open", "failed", "none"]
"""Whether a connection is in a transaction; a failed one can only be rolled back."""

T = TypeVar("T")
Row = tuple[Any, ...]

_NO_LOCK = contextlib.nullcontext()

_LENT_PAUSE_S = 0.05
"""How long a writer waits for a transaction of the application's to end, before it finds the database locked."""

MAX_RETRY_S = 30.0
"""How long ``run`` tries a transaction again before it gives up."""


class Transaction:
    """An open transaction, or a single statement that is one."""

    __slots__ = ("cursor", "database")

    def __init__(self, database: Database, cursor: Any) -> None:
        self.database = database
        self.cursor = cursor

    @property
    def locks_rows(self) -> bool:
        """See ``Database.locks_rows``."""
        return self.database.locks_rows

    def rows(self, statement: str, parameters: Mapping[str, Any] | None = None) -> list[Row]:
        """Run the statement and return its rows."""
        self.database.execute(self.cursor, statement, parameters)
        return list(self.cursor.fetchall())

    def write(self, statement: str, parameters: Mapping[str, Any] | None = None) -> int:
        """Run the statement and return how many rows it changed."""
        self.database.execute(self.cursor, statement, parameters)
        return int(self.cursor.rowcount)

    def row_each(self, statement: str, parameters: Sequence[Sequence[Any]]) -> list[Row | None]:
        """Run the statement, whose parameters go by position, for each of them; returns each time its first row."""
        statement = self.database.compiled(statement)
        return [self.cursor.execute(statement, row).fetchone() for row in parameters]

    def write_each(self, statement: str, rows: Sequence[Sequence[Any]]) -> list[bool]:
        """Run the statement, whose parameters go by position, for each row; returns which of them changed something."""
        statement = self.database.compiled(statement)
        cursor = self.cursor
        execute = cursor.execute
        changed: list[bool] = []
        for row in rows:
            execute(statement, row)
            changed.append(cursor.rowcount > 0)
        return changed


class LentTransaction:
    """An open transaction in which the application's own statements run, as far as SQLAlchemy makes them.

    Attributes:
        transaction: For statements of ours.
        connection: For those of the application.
        is_rolled_back: Whether it is over without a commit.
    """

    __slots__ = ("_database", "_driver", "connection", "is_rolled_back", "transaction")

    def __init__(
        self, database: Database, driver: PoolProxiedConnection, transaction: Transaction, connection: Connection
    ) -> None:
        self._database = database
        self._driver = driver
        self.transaction = transaction
        self.connection = connection
        self.is_rolled_back = False

    @property
    def state(self) -> TransactionState:
        """What has become of it in the application's hands."""
        if not self._driver.is_valid:
            raise TransientStorageError("The connection was lost.")
        return self._database.state_of(self._driver)

    def roll_back(self) -> None:
        """End it without a commit; the block that it was lent to may go on.

        Raises:
            TransientStorageError: The connection was lost.
        """
        if self.state != "none":
            self._driver.rollback()
        self.is_rolled_back = True


class CommitRefused(Exception):
    """The database refused what the application wrote not before the commit. Its cause is SQLAlchemy's error."""

    def __init__(self, cause: Exception) -> None:
        super().__init__(str(cause))
        self.cause = cause


class Database(abc.ABC):
    """One system database: its engine, its dialect, its transactions.

    Args:
        engine: Where connections come from.
        owns_engine: Whether it was made for this object, and is disposed with it.
        gate: Called at every transaction's begin, before its commit and after it; for tests.
    """

    schema_prefix: str
    clock_expression: str
    locks_rows: bool
    """Whether rows can be locked one by one; if not, a writing transaction excludes all others."""

    def __init__(self, engine: Engine, *, owns_engine: bool, gate: Gate | None = None) -> None:
        self.engine = engine
        self._owns_engine = owns_engine
        self._gate = gate
        self._compiled: dict[str, str] = {}
        self.write_lock: contextlib.AbstractContextManager[object] = _NO_LOCK
        """What the writers of this process queue up at, where the database lets only one write at a time."""
        self._nothing_lent = threading.Event()
        """Set unless a transaction is lent that keeps everybody else in this process from writing."""
        self._nothing_lent.set()
        self._shared_lock: threading.RLock | None = threading.RLock() if _has_one_connection(engine) else None
        self._shared: PoolProxiedConnection | None = None
        # Of those at most in use, the last one is given back to the pool, as somebody may be waiting for it.
        self._spare_up_to = self.pool_size - 1 if owns_engine else 0
        self._spare: list[PoolProxiedConnection] = []
        """A connection of our own that the next transaction uses: the pool's way in and out costs a tenth of it."""

    # -- what the dialects say

    @property
    @abc.abstractmethod
    def location(self) -> str:
        """The database as error messages name it, without its password."""

    @abc.abstractmethod
    def is_transient(self, error: BaseException) -> bool:
        """Whether the same transaction may succeed later."""

    def is_contended(self, error: BaseException) -> bool:
        """Whether a transient error is due to another writer."""
        return False

    def is_held_up(self, error: BaseException) -> bool:
        """Whether a transient error says that somebody kept a lock for too long."""
        return False

    @abc.abstractmethod
    def is_lost(self, connection: PoolProxiedConnection) -> bool:
        """Whether the connection to the server is gone."""

    def learn_from(self, error: Exception) -> bool:
        """Note what an error tells of the database; returns whether other connections than its own are no good now."""
        return False

    @abc.abstractmethod
    def compile(self, statement: str) -> str:
        """The statement in the driver's words."""

    @abc.abstractmethod
    def prepare(self, connection: PoolProxiedConnection) -> Callable[[], None] | None:
        """Make a connection that was checked out ready for use; returns how to give it back as it came."""

    @abc.abstractmethod
    def begin(self, cursor: Any) -> None:
        """Begin a transaction that may write."""

    @abc.abstractmethod
    def begin_lent(self, cursor: Any, isolation_level: str) -> None:
        """Begin a transaction in which the application's statements run, for as long as it likes."""

    @abc.abstractmethod
    def state_of(self, connection: PoolProxiedConnection) -> TransactionState:
        """Whether the connection is in a transaction; asks nobody."""

    @abc.abstractmethod
    def gave_way(self, error: BaseException) -> bool:
        """Whether the database ended a transaction for another's sake, or lost it: run again, it may succeed."""

    @abc.abstractmethod
    def execute(self, cursor: Any, statement: str, parameters: Mapping[str, Any] | None) -> None:
        """Run a statement written as the module's description says."""

    # -- what the layers above use

    @property
    def pool_size(self) -> int:
        """How many connections the pool keeps at most; 1 if it does not tell."""
        from sqlalchemy.pool import QueuePool

        pool = self.engine.pool
        return pool.size() if isinstance(pool, QueuePool) else 1

    @property
    def has_one_connection(self) -> bool:
        """Whether all threads share one connection."""
        return self._shared_lock is not None

    def detached_connection(self) -> PoolProxiedConnection:
        """A connection outside of the pool, ready for use, for the caller to keep and to close.

        Its ``dbapi_connection`` is the driver's.
        """
        connection = self.engine.raw_connection()
        try:
            self.prepare(connection)
            connection.detach()
        except BaseException:
            connection.invalidate()
            connection.close()
            raise
        return connection

    def run(
        self,
        operation: str,
        work: Callable[[Transaction], T],
        scope: Scope = "transaction",
        *,
        patience_s: float = MAX_RETRY_S,
    ) -> T:
        """Run ``work`` in a transaction, again if it fails for now.

        Args:
            operation: What the transaction does, in one word; the gate is told.
            work: Called with the transaction. It must have no effect but on the database.
            scope: See ``Scope``; only a transaction of several statements needs a begin and a commit.
            patience_s: For how long it is tried again.
        """
        delay, gives_up_at = 0.005, time.monotonic() + patience_s
        while True:
            try:
                with self.transaction(operation, scope) as transaction:
                    return work(transaction)
            except TransientStorageError as error:
                if time.monotonic() > gives_up_at:
                    cause = error.__cause__ or error
                    raise cause from None
                time.sleep(min(delay, error.longest_pause_s) * random.uniform(0.5, 1.0))
                delay = min(delay * 2, 0.5)

    @contextlib.contextmanager
    def transaction(self, operation: str, scope: Scope = "transaction") -> Generator[Transaction, None, None]:
        """A transaction, committed at the end of the block, rolled back if it raises.

        Raises:
            TransientStorageError: A failure that may pass, its cause the driver's error. If it happened at the commit,
                the transaction may have been committed or not.
        """
        gate = self._gate
        if gate is not None:
            gate(operation, "begin")
        try:
            with self.write_lock if scope != "read" else _NO_LOCK, self._connection() as connection:
                cursor = connection.cursor()
                if scope != "read" and not self._nothing_lent.is_set():
                    self._nothing_lent.wait(_LENT_PAUSE_S)
                if scope == "read" or (scope == "statement" and gate is None):
                    yield Transaction(self, cursor)
                else:
                    try:
                        self.begin(cursor)
                        yield Transaction(self, cursor)
                        if gate is not None:
                            gate(operation, "before_commit")
                        cursor.execute("COMMIT")
                    except BaseException:
                        with contextlib.suppress(Exception):
                            cursor.execute("ROLLBACK")
                        raise
                cursor.close()
        except Exception as error:
            self._raise_if_transient(operation, error)
            raise
        if gate is not None:
            gate(operation, "after_commit")

    @contextlib.contextmanager
    def lend(self, operation: str, isolation_level: str) -> Generator[LentTransaction, None, None]:
        """A transaction for the application's own statements, committed at the end of the block.

        It is rolled back if the block raises, or says so.

        Args:
            operation: As for ``run``.
            isolation_level: In the words of SQL.

        Raises:
            TransientStorageError: As ``transaction``.
            CommitRefused: What the application wrote was refused when it was committed.
        """
        from sqlalchemy.engine import Connection

        gate = self._gate
        if gate is not None:
            gate(operation, "begin")
        try:
            with contextlib.ExitStack() as stack:
                # The lock is not held for longer, as nobody knows how long the application takes: whoever wants to
                # write meanwhile waits for a moment, finds the database locked, tries again, and may give up.
                with self.write_lock:
                    driver = stack.enter_context(self._connection())
                    cursor = driver.cursor()
                    self.begin_lent(cursor, isolation_level)
                    if not self.locks_rows:
                        stack.callback(self._nothing_lent.set)
                        self._nothing_lent.clear()
                # SQLAlchemy takes it for one that has just begun, and need not know that we have begun it.
                connection = Connection(self.engine, driver)
                outer = connection.begin()
                lent = LentTransaction(self, driver, Transaction(self, cursor), connection)
                try:
                    yield lent
                    if not lent.is_rolled_back:
                        if gate is not None:
                            gate(operation, "before_commit")
                        try:
                            outer.commit()
                        except Exception as error:
                            cause = driver_error(error)
                            raise cause if self.is_transient(cause) else CommitRefused(error) from None
                except BaseException:
                    with contextlib.suppress(Exception):
                        cursor.execute("ROLLBACK")
                    raise
                cursor.close()
        except Exception as error:
            self._raise_if_transient(operation, error)
            raise
        if gate is not None and not lent.is_rolled_back:
            gate(operation, "after_commit")

    def _raise_if_transient(self, operation: str, error: Exception) -> None:
        if not isinstance(error, TransientStorageError) and self.is_transient(error):
            longest_pause_s = CONTENTION_PAUSE_S if self.is_contended(error) else 60.0
            what = f"{operation}: {_first_line(error)}"
            raise TransientStorageError(what, longest_pause_s, is_held_up=self.is_held_up(error)) from error

    def compiled(self, statement: str) -> str:
        """The statement in the driver's words, from the cache."""
        cache = self._compiled
        compiled = cache.get(statement)
        if compiled is None:
            compiled = cache[statement] = self.compile(statement)
        return compiled

    def freeze(self, now_ms: int) -> None:
        """Let ``{now}`` be this time from now on, for statements that begin later. For tests."""
        self.clock_expression = str(now_ms)
        # What is compiled with the former one meanwhile goes into the former cache.
        self._compiled = {}

    def close(self) -> None:
        if self._shared is not None:
            self._shared.close()
            self._shared = None
        if self._owns_engine:
            self._drop_idle_connections()

    @contextlib.contextmanager
    def _connection(self) -> Generator[PoolProxiedConnection, None, None]:
        if self._shared_lock is not None:
            with self._shared_lock:
                if self._shared is None:
                    self._shared = self.engine.raw_connection()
                give_back = self.prepare(self._shared)
                try:
                    yield self._shared
                finally:
                    if give_back is not None:
                        give_back()
            return
        connection, give_back = self._check_out()
        try:
            yield connection
            if give_back is not None:
                give_back()
        except BaseException as error:
            has_learnt = isinstance(error, Exception) and self.learn_from(error)
            if self._owns_engine and (has_learnt or self.is_lost(connection)):
                # The server went away: the pool's other connections are as dead, and each would cost a failed try.
                self._drop_idle_connections()
            # After a failed transaction or an interruption nobody knows what state the connection is in.
            if connection.is_valid:
                connection.invalidate(error if isinstance(error, Exception) else None)
            connection.close()
            raise
        if not self._spare and self._spare_up_to and self._count_in_use() <= self._spare_up_to:
            self._spare.append(connection)
        else:
            connection.close()

    def _count_in_use(self) -> int:
        """How many connections of the pool are in use."""
        pool: Any = self.engine.pool
        return int(pool.checkedout())

    def _drop_idle_connections(self) -> None:
        while self._spare:
            self._spare.pop().close()
        self.engine.dispose()

    def _check_out(self) -> tuple[PoolProxiedConnection, Callable[[], None] | None]:
        try:
            return self._spare.pop(), None
        except IndexError:
            connection = self.engine.raw_connection()
        try:
            return connection, self.prepare(connection)
        except BaseException:
            connection.invalidate()
            connection.close()
            raise


def _has_one_connection(engine: Engine) -> bool:
    """Whether all threads share one connection, or each has an (in-memory) database of its own."""
    from sqlalchemy.pool import SingletonThreadPool, StaticPool

    return isinstance(engine.pool, SingletonThreadPool | StaticPool)


def driver_error(error: BaseException) -> BaseException:
    """The driver's error in SQLAlchemy's; any other error as it is."""
    from sqlalchemy.exc import DBAPIError

    return error.orig if isinstance(error, DBAPIError) and error.orig is not None else error


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else ''}"
