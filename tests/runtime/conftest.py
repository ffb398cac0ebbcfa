"""Lives of programs, and a database that the tests of a module share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from dbos import DBOS
from tests.verify.fixtures import nurseries

__all__ = ["nurseries"]

PROGRAMS = Path(__file__).parent / "programs"


@pytest.fixture(scope="module", params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def module_url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """As `database_url`, one for all tests of the module."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path_factory.mktemp('shared')}/dbos.sqlite"
        return
    admin = request.getfixturevalue("postgres_admin")
    url = admin.create_database()
    yield url
    admin.drop_database(url)


@pytest.fixture
def destroyed(request: pytest.FixtureRequest) -> Iterator[None]:
    """Whatever a test launched in this process is destroyed after it, and before its database is dropped."""
    for name in {"database_url", "postgres_url", "sqlite_url"} & set(request.fixturenames):
        request.getfixturevalue(name)
    yield
    DBOS.destroy()
