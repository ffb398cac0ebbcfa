"""One database of the older library for each kind, with an application that was killed in the middle of everything."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.adoption.shop import Shop, open_shop
from tests.support.older import older_python
from tests.support.postgres import PostgresAdmin
from tests.support.processes import Spawner


@pytest.fixture(scope="package", params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def killed_shop(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """The database as the older library left it when its process was killed. Not to be changed: see ``Shop.copy``."""
    python = older_python()
    directory = tmp_path_factory.mktemp("shop")
    admin: PostgresAdmin | None = request.getfixturevalue("postgres_admin") if request.param == "postgres" else None
    spawner = Spawner(directory)
    with open_shop(directory, admin) as shop:
        try:
            older = spawner(shop.program, shop.url, shop.ledger, "older", python=python)
            older.wait_for_line("everything has begun", timeout=60)
            older.kill()
            yield shop
        finally:
            spawner.close()


@pytest.fixture
def shop_copy(killed_shop: Shop, tmp_path: Path) -> Iterator[Shop]:
    """A copy of the database, for one test."""
    with killed_shop.copy(tmp_path) as copy:
        yield copy
    shutil.rmtree(tmp_path, ignore_errors=True)
