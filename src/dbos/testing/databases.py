"""The database of a test session: made once, emptied before each test, and gone at the end."""

from __future__ import annotations

import os
import secrets
import shutil
import tempfile
from pathlib import Path

from dbos.error import DBOSInitializationError
from dbos.storage.database import Database
from dbos.storage.leases import read_live_leases, release_lease
from dbos.storage.migrations import drop_schema, empty
from dbos.storage.opening import open_database, parse_url
from dbos.storage.postgres import PostgresDatabase
from dbos.storage.reads import WorkflowFilter, read_workflows

_IN_MEMORY = "/dev/shm"
"""Where files are in memory, on Linux: a commit costs nothing there."""


class SessionDatabase:
    """A system database of its own for tests, which are free to empty it.

    On PostgreSQL it is a schema of a new name, ``dbos_test_…``, in the database of the URL; no other schema is touched.
    On SQLite it is a new file.

    Args:
        url: ``postgresql://…``. Default: a temporary SQLite file, in memory where the system has a place for that.

    Attributes:
        url: Its URL.
        schema: Its schema; on SQLite without meaning.

    Raises:
        DBOSInitializationError: It cannot be used, or the URL names an SQLite file that exists.
    """

    def __init__(self, url: str | None = None) -> None:
        self._directory: Path | None = None
        self.schema = f"dbos_test_{secrets.token_hex(4)}"
        if url is None:
            self._directory = Path(tempfile.mkdtemp(prefix="dbos-test-", dir=_memory()))
            url = f"sqlite:///{self._directory / 'dbos.sqlite'}"
        else:
            _refuse_file_in_use(url)
        self.url = url
        self._database: Database | None = None

    def empty(self) -> None:
        """Delete all that the library has recorded; nothing may be launched on it."""
        empty(self.opened)

    @property
    def opened(self) -> Database:
        """A way to it beside the application's; opened when it is first used."""
        if self._database is None:
            self._database = open_database(url=self.url, schema=self.schema, pool_size=2)
        return self._database

    def workflow_ids(self) -> list[str]:
        """The ids of all workflows in it."""
        return [row.workflow_id for row in read_workflows(self.opened, WorkflowFilter())]

    def bury_all(self) -> None:
        """Say that all executors are dead that were launched on it, so that their workflows are up for recovery."""
        for lease in read_live_leases(self.opened, ""):
            release_lease(self.opened, lease.lease_id)

    def close(self) -> None:
        """Remove it."""
        database, self._database = self._database, None
        if database is not None:
            if isinstance(database, PostgresDatabase):
                drop_schema(database)
            database.close()
        if self._directory is not None:
            shutil.rmtree(self._directory, ignore_errors=True)


def _memory() -> str | None:
    return _IN_MEMORY if os.access(_IN_MEMORY, os.W_OK | os.X_OK) else None


def _refuse_file_in_use(url: str) -> None:
    parsed = parse_url(url)
    if parsed.get_backend_name() == "sqlite" and parsed.database and Path(parsed.database).exists():
        raise DBOSInitializationError(
            f"The SQLite file {parsed.database!r} exists already. Tests empty their database, so they use new files "
            "only: name another one, or remove it."
        )
