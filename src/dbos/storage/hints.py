"""Hints: how processes tell each other that something may have arrived, so that nobody has to ask all the time.

A hint promises nothing: it may come for nothing, twice, or not at all, as whoever waits also looks by itself now and
then. On PostgreSQL hints are notifications, sent after the commit that they tell of and in a transaction of their own,
as a notification inside a commit holds up all other commits; whatever is published while one is on its way goes out
together with the next. On SQLite a counter in the file tells that some connection has written something.
"""

from __future__ import annotations

import contextlib
import logging
import selectors
import socket
import threading
from collections.abc import Callable, Iterable, Sequence
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Protocol

from dbos.storage.database import Database
from dbos.storage.postgres import PostgresDatabase

if TYPE_CHECKING:
    from sqlalchemy.pool import PoolProxiedConnection

_logger = logging.getLogger("dbos")

EVERYTHING = "*"
"""The hint that anything may have happened."""

DUTIES = "duties"
"""The hint that executors have something to attend to: a workflow was enqueued."""

STOPPING = "stopping"
"""The hint that a workflow was cancelled or deleted, maybe while it runs."""

SCHEDULES = "schedules"
"""The hint that schedules were made, changed or deleted."""

ASKING = "?"
"""Before a hint, it asks whoever it concerns to send the hint: workflows end all the time, and few are awaited."""

_MAX_KEYS = 500
"""How many hints one notification carries: it may be 8000 bytes long."""
_MAX_NOTIFICATIONS = 10
"""How many notifications go out at once; more hints than these hold become ``EVERYTHING``."""
_FIRST_RETRY_S = 0.1
_LONGEST_RETRY_S = 5.0
_STOP_S = 0.5


class Hints(Protocol):
    """The way hints take between processes."""

    is_live: bool
    """Whether the hints of other processes arrive here at the moment."""
    peek_interval_s: float | None
    """How often ``peek`` is to be asked, where it tells anything."""

    def start(self, receive: Callable[[Sequence[str]], None]) -> None:
        """Pass on the hints that arrive from other processes from now on."""
        ...

    def publish(self, hints: Iterable[str]) -> None:
        """Tell other processes, soon."""
        ...

    def peek(self) -> bool:
        """Whether anything was written to the database since the last call; costs next to nothing."""
        ...

    def stop(self) -> None: ...


def open_hints(database: Database, *, uses_notifications: bool = True) -> Hints:
    """The way for hints that the database offers."""
    if not isinstance(database, PostgresDatabase):
        return FileHints(database)
    if database.is_pooled:
        # Who listens there listens on a session that may be another one's in the next moment.
        _logger.info("There is a pooler before %s: waits are polled", database.location)
        return NoHints()
    return PostgresHints(database) if uses_notifications else NoHints()


class NoHints:
    """No way: whoever waits finds out by looking."""

    is_live: bool = False
    peek_interval_s: float | None = None

    def start(self, receive: Callable[[Sequence[str]], None]) -> None:
        pass

    def publish(self, hints: Iterable[str]) -> None:
        pass

    def peek(self) -> bool:
        return False

    def stop(self) -> None:
        pass


class FileHints(NoHints):
    """SQLite: ``PRAGMA data_version`` changes when another connection, of whatever process, has committed."""

    is_live = True

    def __init__(self, database: Database) -> None:
        # What is in memory is seen by this process only, and its own writes need no hints.
        self.peek_interval_s = None if database.has_one_connection else 0.002
        self._database = database
        self._connection: PoolProxiedConnection | None = None
        self._version: object = None

    def peek(self) -> bool:
        try:
            if self._connection is None:
                self._connection = self._database.detached_connection()
            version = self._connection.cursor().execute("PRAGMA data_version").fetchone()
        except Exception as error:
            if self.is_live:
                _logger.warning("The database file cannot be watched, waits are polled: %s", error)
            self.is_live = False
            self.stop()
            return True
        self.is_live = True
        was, self._version = self._version, version
        return bool(was != version)

    def stop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(Exception):
                connection.close()


class PostgresHints:
    """PostgreSQL: one connection that listens and notifies, in a thread of its own."""

    peek_interval_s: float | None = None

    def __init__(self, database: Database) -> None:
        self._database = database
        self._channel = "dbos_" + blake2b(database.schema_prefix.encode(), digest_size=6).hexdigest()
        self._lock = threading.Lock()
        self._outgoing: dict[str, None] = {}
        self._stopping = threading.Event()
        self._bell, self._ringer = socket.socketpair()
        self._bell.setblocking(False)
        self._ringer.setblocking(False)
        self._thread: threading.Thread | None = None
        self.is_live = False

    def start(self, receive: Callable[[Sequence[str]], None]) -> None:
        self._thread = threading.Thread(target=self._serve, args=(receive,), name="dbos-hints", daemon=True)
        self._thread.start()

    def publish(self, hints: Iterable[str]) -> None:
        new = dict.fromkeys(hints)
        if not new:
            return
        with self._lock:
            was_idle = not self._outgoing
            self._outgoing.update(new)
            if len(self._outgoing) > _MAX_KEYS * _MAX_NOTIFICATIONS:
                self._outgoing = {EVERYTHING: None}
        if was_idle:
            self._ring()

    def peek(self) -> bool:
        return False

    def stop(self) -> None:
        self._stopping.set()
        self._ring()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(_STOP_S)

    def _ring(self) -> None:
        # A full buffer is ringing already.
        with contextlib.suppress(OSError):
            self._ringer.send(b"!")

    def _serve(self, receive: Callable[[Sequence[str]], None]) -> None:
        delay_s, has_warned = _FIRST_RETRY_S, False
        with selectors.DefaultSelector() as selector, self._bell, self._ringer:
            selector.register(self._bell, selectors.EVENT_READ)
            while True:
                try:
                    with contextlib.closing(self._database.detached_connection()) as connection:
                        driver: Any = connection.dbapi_connection
                        # Hints promise nothing, so their commits need not be flushed, which would hold up others.
                        driver.execute("SET synchronous_commit = off")
                        driver.execute(f"LISTEN {self._channel}")
                        self.is_live, has_warned, delay_s = True, False, _FIRST_RETRY_S
                        # What happened before this, nobody told us.
                        receive([EVERYTHING])
                        return self._exchange(driver, selector, receive)
                except Exception as error:
                    if self._stopping.is_set():
                        return None
                    _logger.log(
                        logging.DEBUG if has_warned else logging.WARNING,
                        "There is no connection for notifications, waits are polled until there is one: %s",
                        error,
                    )
                self.is_live, has_warned = False, True
                with self._lock:
                    # What was on its way is lost, and what comes now is not told one by one.
                    self._outgoing = {EVERYTHING: None}
                self._stopping.wait(delay_s)
                delay_s = min(delay_s * 2, _LONGEST_RETRY_S)

    def _exchange(
        self, driver: Any, selector: selectors.BaseSelector, receive: Callable[[Sequence[str]], None]
    ) -> None:
        """Send what is published and pass on what arrives, until stopped."""
        own_pid = driver.info.backend_pid
        arrived: list[str] = []

        def note(pid: int, payload: str) -> None:
            if pid != own_pid:
                arrived.extend(payload.split(","))

        def note_in_passing(notify: Any) -> None:
            note(notify.pid, notify.payload)

        driver.add_notify_handler(note_in_passing)
        key = selector.register(driver.fileno(), selectors.EVENT_READ)
        try:
            while True:
                is_last = self._stopping.is_set()
                for payload in self._take_payloads():
                    driver.execute("SELECT pg_notify(%s, %s)", (self._channel, payload))
                if is_last:
                    return
                driver.pgconn.consume_input()
                while (notify := driver.pgconn.notifies()) is not None:
                    note(notify.be_pid, notify.extra.decode())
                if arrived:
                    receive(arrived.copy())
                    arrived.clear()
                else:
                    selector.select()
                    with contextlib.suppress(BlockingIOError):
                        self._bell.recv(4096)
        finally:
            selector.unregister(key.fileobj)

    def _take_payloads(self) -> list[str]:
        with self._lock:
            hints, self._outgoing = list(self._outgoing), {}
        return [",".join(hints[start : start + _MAX_KEYS]) for start in range(0, len(hints), _MAX_KEYS)]
