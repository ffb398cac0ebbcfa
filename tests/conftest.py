"""Fixtures for the whole suite: databases and child processes.

PostgreSQL is a private server that starts when the first test asks for it; set TEST_POSTGRES_URL to use a server of
your own instead (its user must be allowed to create databases).
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from dbos.runtime.registry import QUEUES, SCHEDULES
from tests.support.chromium import NO_CHROMIUM, find_chromium
from tests.support.guide import guide_path
from tests.support.postgres import PostgresAdmin, PostgresServer
from tests.support.processes import Spawner
from tests.verify import replay

pytest_plugins = ["pytester"]


def pytest_configure() -> None:
    """A shell ignores Ctrl-C for what it runs in the background, and children inherit that; tests send it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


# Any free port: what tests run side by side listens at no port of its own choice.
os.environ.setdefault("DBOS__ADMIN_PORT", "0")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what needs PostgreSQL, so that `-m "not postgres"` runs without it."""
    for item in items:
        if {"postgres_url", "postgres_admin"} & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.postgres)
    if replay.IS_ON:
        replay.skip_what_cannot(items)


@pytest.fixture(scope="session", autouse=replay.IS_ON)
def replay_always() -> Iterator[replay.Dropper]:
    """With REPLAY=always every run is dropped and replayed after each checkpoint."""
    with pytest.MonkeyPatch.context() as patch:
        dropper = replay.Dropper()
        dropper.install(patch)
        yield dropper
    assert dropper.drops > 0, "no run was ever dropped, so nothing was proved"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say so where the programming guide, or the console in a browser, could not be tested."""
    if find_chromium() is None:
        terminalreporter.write_line(NO_CHROMIUM, yellow=True)
    if not guide_path().exists():
        terminalreporter.write_line(
            f"NOT TESTED: the programming guide is not there ({guide_path()}); set DBOS_GUIDE to its path", yellow=True
        )


@pytest.fixture(autouse=True)
def forget_queues() -> Iterator[None]:
    """Queues that a test declares are forgotten after it: its next run may declare them again."""
    before = dict(QUEUES._rules)  # pyright: ignore[reportPrivateUsage]
    yield
    QUEUES._rules = before  # pyright: ignore[reportPrivateUsage]


@pytest.fixture
def no_other_queues(forget_queues: None) -> None:
    """Queues that other test modules declare when they are imported are not there: they would be looked into, too."""
    QUEUES.clear()


@pytest.fixture(autouse=True)
def forget_schedules() -> Iterator[None]:
    """Schedules that a test declares before a launch are forgotten after it."""
    yield
    SCHEDULES.clear()


@pytest.fixture(scope="session")
def postgres_admin() -> Iterator[PostgresAdmin]:
    """The PostgreSQL server of this session, as its administrator."""
    with ExitStack() as stack:
        url = os.environ.get("TEST_POSTGRES_URL")
        if not url:
            server = PostgresServer()
            stack.callback(server.stop)
            url = server.url
        admin = PostgresAdmin(url)
        stack.callback(admin.close)
        yield admin


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    """The URL of a fresh SQLite database; its file does not exist yet."""
    return f"sqlite:///{tmp_path / 'dbos.sqlite'}"


@pytest.fixture
def postgres_url(postgres_admin: PostgresAdmin) -> Iterator[str]:
    """The URL of a fresh, empty PostgreSQL database, dropped after the test."""
    url = postgres_admin.create_database()
    yield url
    postgres_admin.drop_database(url)


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def database_url(request: pytest.FixtureRequest) -> str:
    """The URL of a fresh, empty database; the test runs once for each kind of database."""
    url: str = request.getfixturevalue(f"{request.param}_url")
    return url


@pytest.fixture
def spawn(tmp_path: Path) -> Iterator[Spawner]:
    """Starts Python programs as child processes; whatever is left of them is killed after the test."""
    spawner = Spawner(tmp_path)
    yield spawner
    spawner.close()
