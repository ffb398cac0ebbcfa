"""Fixtures for the tests of the adapters."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from dbos import DBOS
from tests.support.apps import App


@pytest.fixture
def application(database_url: str) -> Iterator[App]:
    """An application that is not launched yet; whoever launches it, it is destroyed in the end."""
    DBOS.destroy()
    yield App(database_url)
    DBOS.destroy()
