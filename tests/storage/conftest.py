"""Open databases for the tests of the storage layer."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any, Protocol

import pytest

from dbos.storage.database import Database, Transaction
from dbos.storage.leases import register_lease
from dbos.storage.opening import open_database
from dbos.storage.schema import TABLES, VERSION_TABLE
from tests.support.storage import lease


class Opener(Protocol):
    """Opens the test's database, again and again if asked to; closed after the test."""

    def __call__(self, **options: Any) -> Database: ...


@pytest.fixture(scope="module", params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def module_database(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    """A database that the tests of a module share, one after the other."""
    admin = request.getfixturevalue("postgres_admin") if request.param == "postgres" else None
    url = admin.create_database() if admin else f"sqlite:///{tmp_path_factory.mktemp('shared')}/dbos.sqlite"
    database = open_database(url=url)
    yield database
    database.close()
    if admin:
        admin.drop_database(url)


@pytest.fixture
def emptied_url(module_database: Database) -> str:
    """As `database_url`, but the module's database with all rows removed: for modules of many small tests, which
    define `database_url` as this one.
    """

    def remove_all(transaction: Transaction) -> None:
        for table in TABLES:
            if table != VERSION_TABLE:
                transaction.write(f"DELETE FROM {{schema}}{table}")

    module_database.run("test", remove_all)
    return module_database.engine.url.render_as_string(hide_password=False)


@pytest.fixture
def open_again(database_url: str) -> Iterator[Opener]:
    """Opens the test's database: each time with connections of its own, as another process would."""
    with ExitStack() as stack:

        def open_(**options: Any) -> Database:
            all_options: dict[str, Any] = {"url": database_url, **options}
            database = open_database(**all_options)
            stack.callback(database.close)
            return database

        yield open_


@pytest.fixture
def database(open_again: Opener) -> Database:
    """A fresh database with one live lease, `lease-1`."""
    database = open_again()
    register_lease(database, lease())
    return database


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    """Threads for what has to happen beside the test."""
    with ThreadPoolExecutor(max_workers=16) as executor:
        yield executor
