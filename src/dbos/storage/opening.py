"""Opens a system database by URL or with the application's engine, and says in plain words why it cannot."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any

from dbos.error import DBOSInitializationError
from dbos.model.limits import check_key
from dbos.storage.database import Database
from dbos.storage.errors import TransientStorageError
from dbos.storage.gate import Gate
from dbos.storage.migrations import check_schema, migrate, prepare_for_transactions
from dbos.storage.urls import read_url

if TYPE_CHECKING:
    from sqlalchemy.engine import URL, Engine

CONNECT_TIMEOUT_S = 10
POOL_TIMEOUT_S = 30.0
_MAX_SCHEMA_BYTES = 63

_PATIENCE = {
    "connect_timeout": CONNECT_TIMEOUT_S,
    # A host that vanished answers nothing: by default the system would notice after a quarter of an hour where it has
    # sent something, and after two hours where it waits for an answer.
    "tcp_user_timeout": 20_000,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 2,
}
"""When a connection to PostgreSQL is given up; what the URL says wins. Sockets of the same machine need none of it."""


def open_database(
    *,
    url: str | None,
    engine: Engine | None = None,
    schema: str = "dbos",
    pool_size: int = 20,
    gate: Gate | None = None,
) -> Database:
    """Open the system database, create what is missing of it, and bring its schema up to date.

    Args:
        url: A SQLAlchemy URL of PostgreSQL (driver psycopg 3, also when none is named) or SQLite.
        engine: Used instead of the URL if given; it stays the caller's, and is not disposed.
        schema: The PostgreSQL schema of the tables.
        pool_size: The largest number of connections, where the engine is made here.
        gate: See ``dbos.storage.gate``.

    Raises:
        DBOSInitializationError: It cannot be used; the message says why and what to do.
    """
    return _open_and_check(migrate, url, engine, schema, pool_size, gate)


def open_existing_database(
    *, url: str | None, engine: Engine | None = None, schema: str = "dbos", pool_size: int = 20
) -> Database:
    """Open a system database that an application has made. (Arguments and errors as for ``open_database``.)"""
    if url is not None and engine is None:
        _refuse_missing_file(parse_url(url))
    return _open_and_check(check_schema, url, engine, schema, pool_size, None)


def open_application_database(*, url: str, schema: str, pool_size: int, gate: Gate | None = None) -> Database:
    """Open the database in which transactions run, where it is not the system database.

    (Arguments and errors as for ``open_database``.)
    """
    return _open_and_check(prepare_for_transactions, url, None, schema, pool_size, gate)


def is_same_database(engine: Engine, url: str) -> bool:
    """Whether the URL leads to the engine's database, in the same way."""
    one, other = engine.url, parse_url(url)
    if one.get_backend_name() != other.get_backend_name():
        return False
    if other.get_backend_name() == "sqlite":
        paths = [each.database or ":memory:" for each in (one, other)]
        return len({path if path == ":memory:" else os.path.realpath(path) for path in paths}) == 1
    return _place(one) == _place(other)


def _place(url: URL) -> tuple[object, ...]:
    return url.username, url.host or url.query.get("host"), url.port or 5432, url.database


def _refuse_missing_file(url: URL) -> None:
    path = url.database
    is_file = url.get_backend_name() == "sqlite" and path not in (None, "", ":memory:")
    if is_file and "uri" not in url.query and not os.path.exists(str(path)):
        raise DBOSInitializationError(
            f"There is no SQLite file {path!r}. The application makes it when it is launched for the first time."
        )


def _open_and_check(
    check: Callable[[Database], None],
    url: str | None,
    engine: Engine | None,
    schema: str,
    pool_size: int,
    gate: Gate | None,
) -> Database:
    owns_engine = engine is None
    if engine is None:
        if url is None:
            raise DBOSInitializationError("Neither a database URL nor an engine is given.")
        engine = _make_engine(parse_url(url), pool_size)
    database: Database | None = None
    try:
        database = _open(engine, schema, owns_engine, gate, may_create=check is not check_schema)
        check(database)
    except BaseException as error:
        if database is not None:
            database.close()
        elif owns_engine:
            engine.dispose()
        if isinstance(error, DBOSInitializationError) or not isinstance(error, Exception):
            raise
        raise _explain(error, engine) from None
    return database


@contextlib.contextmanager
def explained(engine: Engine) -> Generator[None, None, None]:
    """Let errors of the database come out as ones that say what to do.

    Raises:
        DBOSInitializationError: The block has raised an error of the driver's or of the pool's.
    """
    try:
        yield
    except Exception as error:
        cause = error.__cause__ if isinstance(error, TransientStorageError) and error.__cause__ else error
        package = type(cause).__module__.partition(".")[0]
        if package not in ("psycopg", "psycopg_pool", "sqlite3", "sqlalchemy"):
            raise
        if getattr(cause, "sqlstate", None) is None:
            raise _explain(error, engine) from None
        # The server has answered.
        url = engine.url.render_as_string(hide_password=True)
        raise DBOSInitializationError(f"The PostgreSQL database {url} refuses: {str(cause).strip()}") from None


def _open(engine: Engine, schema: str, owns_engine: bool, gate: Gate | None, *, may_create: bool) -> Database:
    backend, driver = engine.url.get_backend_name(), engine.dialect.driver
    if backend == "sqlite" and driver == "pysqlite":
        from dbos.storage.sqlite import OLDEST_VERSION, SqliteDatabase

        if sqlite3.sqlite_version_info < OLDEST_VERSION:
            oldest = ".".join(map(str, OLDEST_VERSION))
            raise DBOSInitializationError(
                f"SQLite {sqlite3.sqlite_version} is too old: DBOS needs {oldest} or later. Use a newer Python, or "
                "PostgreSQL."
            )
        _try_connection(engine)
        return SqliteDatabase(engine, owns_engine=owns_engine, gate=gate)
    if backend == "postgresql" and driver == "psycopg":
        from dbos.storage.postgres import (
            PostgresDatabase,
            create_database_if_missing,
            look_at_server,
            refuse_read_only,
        )

        _check_schema_name(schema)
        if may_create:
            create_database_if_missing(engine)
        # What cannot be reached fails here, at once, not after the patience that one gets which could be before.
        server = look_at_server(engine)
        if may_create:
            refuse_read_only(engine, server)
        return PostgresDatabase(engine, schema=schema, owns_engine=owns_engine, gate=gate, is_pooled=server.is_pooled)
    raise DBOSInitializationError(
        f"The system database engine uses {backend}+{driver}. DBOS works with postgresql+psycopg (psycopg 3) and "
        "with sqlite (the standard library's driver)."
    )


def _check_schema_name(schema: str) -> None:
    try:
        # PostgreSQL cuts longer ones off, so that different names may mean one schema.
        check_key(schema, "The name of a schema", _MAX_SCHEMA_BYTES)
    except (TypeError, ValueError) as error:
        raise DBOSInitializationError(str(error)) from None


def _try_connection(engine: Engine) -> None:
    """Let a file that cannot be opened fail at once, not after the patience that one gets which could be before."""
    try:
        with contextlib.closing(engine.raw_connection()) as connection:
            connection.cursor().execute("SELECT 1 FROM sqlite_master LIMIT 1")
    except sqlite3.OperationalError as error:
        # Another process may be making it just now.
        if "locked" not in str(error):
            raise


def parse_url(url: str) -> URL:
    """The URL of a database that can be used, with its driver.

    Raises:
        DBOSInitializationError: It is none.
    """
    from sqlalchemy.exc import ArgumentError

    try:
        parsed = read_url(url)
    except (ArgumentError, ValueError) as error:
        raise DBOSInitializationError(
            "The database URL cannot be parsed. It looks like postgresql://user:password@host:5432/database or "
            "sqlite:///path/to/file.sqlite; special characters in the password must be percent-encoded."
        ) from error
    if parsed.drivername in ("postgres", "postgresql"):
        return parsed.set(drivername="postgresql+psycopg")
    if parsed.drivername in ("postgresql+psycopg", "sqlite", "sqlite+pysqlite"):
        return parsed
    raise DBOSInitializationError(
        f"The database URL begins with {parsed.drivername}://. DBOS works with postgresql:// (psycopg 3) and sqlite://."
    )


def _make_engine(url: URL, pool_size: int) -> Engine:
    from sqlalchemy import create_engine
    from sqlalchemy.pool import QueuePool, StaticPool

    # Transactions end before their connection goes back, so that the pool has nothing to reset.
    options: dict[str, Any] = {"pool_reset_on_return": None}
    if url.get_backend_name() == "sqlite":
        options["connect_args"] = {"timeout": 0, "check_same_thread": False}
        if url.database in (None, "", ":memory:"):
            return create_engine(url, poolclass=StaticPool, **options)
    else:
        options["connect_args"] = {name: value for name, value in _PATIENCE.items() if name not in url.query}
    return create_engine(
        url, poolclass=QueuePool, pool_size=pool_size, max_overflow=0, pool_timeout=POOL_TIMEOUT_S, **options
    )


def _explain(error: Exception, engine: Engine) -> DBOSInitializationError:
    url = engine.url.render_as_string(hide_password=True)
    cause = error.__cause__ if isinstance(error, TransientStorageError) and error.__cause__ else error
    text = str(cause).strip() or type(cause).__name__
    if engine.url.get_backend_name() == "sqlite":
        path = engine.url.database
        remedies = (
            ("not a database", "The file is something else, or damaged. Move it away or give another path."),
            ("malformed", "The file is damaged. Restore it from a backup, or move it away."),
            ("readonly", "The process may not write to the file. Give it the right to, or give another path."),
            ("read-only", "The process may not write to the file. Give it the right to, or give another path."),
            ("unable to open", "Its directory must exist, and the process must be allowed to write there."),
            ("locked", "Another process holds it locked. Stop that process, or give another path."),
        )
        remedy = next((advice for sign, advice in remedies if sign in text.lower()), "Check the path and its rights.")
        return DBOSInitializationError(f"The SQLite database {path!r} cannot be used: {text}. {remedy}")
    return DBOSInitializationError(
        f"The PostgreSQL database {url} cannot be used: {text}\nCheck that the server runs and can be reached, and the "
        f"user, password and database name. (Each try to connect waits for {CONNECT_TIMEOUT_S} s at most, unless the "
        "URL says connect_timeout.)"
    )


def open_unchecked_database(*, url: str, schema: str = "dbos") -> Database:
    """Open a database whatever is in it, and make nothing. (Arguments and errors as for ``open_database``.)

    An SQLite file that is not there is a database in memory instead.
    """
    parsed = parse_url(url)
    if parsed.get_backend_name() == "sqlite" and not os.path.exists(parsed.database or ""):
        url = "sqlite://"
    return _open_and_check(_accept, url, None, schema, 1, None)


def _accept(database: Database) -> None:
    """Whatever is in it."""
