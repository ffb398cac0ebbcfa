"""The plugin for pytest: fixtures for programs that use ``dbos``; see docs/testing.md.

It is a module of its own, outside of the package, and imports nothing of that before a test asks for a fixture: every
run of pytest imports it wherever the library is installed.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from dbos.testing import App, SessionDatabase, VirtualClock


@pytest.fixture(scope="session")
def dbos_database_url() -> str | None:
    """Where tests may make a database of their own; override it, or set DBOS_TEST_DATABASE_URL.

    ``postgresql://…`` names a database in which a schema is made for the session; ``None`` stands for a temporary
    SQLite file.
    """
    return os.environ.get("DBOS_TEST_DATABASE_URL") or None


@pytest.fixture(scope="session")
def dbos_database(dbos_database_url: str | None) -> Iterator[SessionDatabase]:
    """The database of the session, and of this process if there are several."""
    from dbos.testing import SessionDatabase

    database = SessionDatabase(dbos_database_url)
    yield database
    database.close()


@pytest.fixture
def dbos_config() -> Mapping[str, Any]:
    """What ``dbos_app`` configures beside the database: fields of ``DBOSConfig``. Override it."""
    return {}


@pytest.fixture
def dbos_app(
    request: pytest.FixtureRequest, dbos_database: SessionDatabase, dbos_config: Mapping[str, Any]
) -> Iterator[App]:
    """The application, launched on an empty database; the functions are those that the test's modules decorate."""
    from dbos.testing import App, VirtualClock

    app = App(dbos_database, dbos_config, VirtualClock() if "dbos_clock" in request.fixturenames else None)
    dbos_database.empty()
    app.launch()
    yield app
    app.destroy()
    app.empty()


@pytest.fixture
def dbos_clock(dbos_app: App) -> VirtualClock:
    """The clock that ``dbos_app`` lives by: it stands still until the test moves it."""
    return dbos_app.clock or dbos_app.freeze()
