"""Fixtures for the tests of the testing kit: what its plugin gives users, on each kind of database."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

import pytest

from dbos.testing import App, SessionDatabase, VirtualClock

START = datetime(2026, 1, 1)


@pytest.fixture
def session_database(database_url: str) -> Iterator[SessionDatabase]:
    """A database as the plugin makes one for a session."""
    database = SessionDatabase(database_url)
    yield database
    database.close()


@pytest.fixture
def app(session_database: SessionDatabase, no_other_queues: None) -> Iterator[App]:
    """An application under test, launched."""
    application = App(session_database)
    application.launch()
    yield application
    application.destroy()


@pytest.fixture
def sqlite_app(sqlite_url: str, no_other_queues: None) -> Iterator[App]:
    """An application under test on SQLite, for what does not depend on the database."""
    database = SessionDatabase(sqlite_url)
    application = App(database)
    application.launch()
    yield application
    application.destroy()
    database.close()


@pytest.fixture
def clock(app: App) -> VirtualClock:
    """The virtual clock of the application, at the beginning of 2026."""
    return app.freeze(START)
