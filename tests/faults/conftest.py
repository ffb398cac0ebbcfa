"""Servers that a test may stop, and networks that it may cut."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from dbos import DBOS
from tests.support.pooler import EXECUTABLE
from tests.support.postgres import PostgresAdmin, PostgresServer
from tests.support.proxy import Proxy


@pytest.fixture
def destroyed(request: pytest.FixtureRequest) -> Iterator[None]:
    """Whatever a test launched in this process is destroyed after it, and before its database is dropped."""
    for name in {"database_url", "postgres_url", "sqlite_url", "own_url", "proxy", "pooler"} & set(
        request.fixturenames
    ):
        request.getfixturevalue(name)
    yield
    DBOS.destroy()


@pytest.fixture(scope="package")
def own_server() -> Iterator[PostgresServer]:
    """A server that tests may restart."""
    server = PostgresServer()
    yield server
    server.stop()


@pytest.fixture(scope="package")
def own_admin(own_server: PostgresServer) -> Iterator[PostgresAdmin]:
    """Its administrator."""
    admin = PostgresAdmin(own_server.url)
    yield admin
    admin.close()


@pytest.fixture
def own_url(own_admin: PostgresAdmin) -> str:
    """A fresh database on that server."""
    own_admin.close()  # its connection may not have outlasted the last test
    return own_admin.create_database()


@pytest.fixture
def proxy(postgres_url: str) -> Iterator[Proxy]:
    """A way to the test's database on PostgreSQL through a bad network."""
    proxy = Proxy(postgres_url)
    yield proxy
    proxy.close()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say so where poolers could not be tested."""
    if EXECUTABLE is None:
        terminalreporter.write_line(
            "NOT TESTED: PgBouncer is not installed; install it, or set PGBOUNCER to its path", yellow=True
        )
