"""An application whose gate and times a test sets, and whose executor it sees."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import pytest

from dbos import DBOS
from dbos.runtime.executor import Executor
from dbos.storage.gate import Gate
from tests.support.apps import App


class Launcher(Protocol):
    """Launches the application on the test's database; destroyed after the test."""

    def __call__(self, *, gate: Gate | None = None, renew_interval_s: float = 3600.0) -> Executor: ...


@pytest.fixture
def launch(database_url: str) -> Iterator[Launcher]:
    """On a database of each kind. Nothing is looked after by the renewal of the lease unless the test says so."""
    yield _launcher(database_url)
    DBOS.destroy()


@pytest.fixture
def launch_sqlite(sqlite_url: str) -> Iterator[Launcher]:
    """On SQLite, for what does not depend on the database."""
    yield _launcher(sqlite_url)
    DBOS.destroy()


@pytest.fixture
def launch_postgres(postgres_url: str) -> Iterator[Launcher]:
    yield _launcher(postgres_url)
    DBOS.destroy()


def _launcher(url: str) -> Launcher:
    def launch(*, gate: Gate | None = None, renew_interval_s: float = 3600.0) -> Executor:
        DBOS(config=App(url).config())
        application = DBOS._application
        assert application is not None
        application.gate = gate
        application.renew_interval_s = renew_interval_s
        DBOS.launch()
        assert application.executor is not None
        return application.executor

    return launch
