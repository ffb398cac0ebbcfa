"""Fixtures to import into a `conftest.py`."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.processes import Spawner
from tests.verify.crash import Nurseries


@pytest.fixture(scope="session")
def nurseries(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nurseries]:
    """Runs lives of programs; shared by all tests of a directory."""
    spawner = Spawner(tmp_path_factory.mktemp("nurseries"))
    yield Nurseries(spawner)
    spawner.close()
