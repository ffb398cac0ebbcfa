"""Fixtures for the tests of the adapters."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from dbos import DBOS
from tests.support.admin import AdminApp, admin_client
from tests.support.apps import App
from tests.support.console import close_consoles


@pytest.fixture(autouse=True)
def consoles_are_closed() -> Iterator[None]:
    """What a console has opened does not outlive its test."""
    yield
    close_consoles()


@pytest.fixture
def application(database_url: str) -> Iterator[App]:
    """An application that is not launched yet; whoever launches it, it is destroyed in the end."""
    DBOS.destroy()
    yield App(database_url)
    DBOS.destroy()


@pytest.fixture
def admin_app(database_url: str) -> Iterator[AdminApp]:
    """An application with an admin server, launched on a fresh database of each kind."""
    application = AdminApp(database_url)
    application.launch()
    yield application
    DBOS.destroy()


@pytest.fixture
def admin(admin_app: AdminApp) -> Iterator[httpx.Client]:
    """A client of the admin server."""
    with admin_client() as client:
        yield client
