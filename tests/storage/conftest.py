"""Open databases for the tests of the storage layer."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any, Protocol

import pytest

from dbos.storage.database import Database
from dbos.storage.leases import register_lease
from dbos.storage.opening import open_database
from tests.support.storage import lease


class Opener(Protocol):
    """Opens the test's database, again and again if asked to; closed after the test."""

    def __call__(self, **options: Any) -> Database: ...


@pytest.fixture
def open_again(database_url: str) -> Iterator[Opener]:
    """Opens the test's database: each time with connections of its own, as another process would."""
    with ExitStack() as stack:

        def open_(**options: Any) -> Database:
            database = open_database(**{"url": database_url} | options)
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
