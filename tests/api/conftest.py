"""Fixtures for the tests of the public API."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from dbos import DBOS
from tests.support.apps import App


@pytest.fixture
def app(database_url: str) -> Iterator[App]:
    """An application, launched on a fresh database of each kind."""
    application = App(database_url)
    application.launch()
    yield application
    DBOS.destroy()


@pytest.fixture
def sqlite_app(sqlite_url: str) -> Iterator[App]:
    """An application, launched on SQLite, for what does not depend on the database."""
    application = App(sqlite_url)
    application.launch()
    yield application
    DBOS.destroy()


@pytest.fixture
def unlaunched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Nothing configured, in an empty working directory; whatever the test launches is destroyed."""
    DBOS.destroy()
    directory = tmp_path / "cwd"
    directory.mkdir()
    monkeypatch.chdir(directory)
    for name in ("DBOS__APPVERSION", "DBOS__VMID", "DBOS__APPID", "DBOS_SYSTEM_DATABASE_URL"):
        monkeypatch.delenv(name, raising=False)
    yield directory
    DBOS.destroy()
