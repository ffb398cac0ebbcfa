"""The processes that run the programs are shared by all crash-point tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.verify.crash import Nurseries, Runner, run_all_k
from tests.verify.fixtures import nurseries

__all__ = ["nurseries"]


@pytest.fixture
def run_scenario(nurseries: Nurseries, tmp_path: Path, request: pytest.FixtureRequest) -> Runner:
    return lambda scenario: run_all_k(nurseries, scenario, tmp_path, request.node.nodeid)


@pytest.fixture
def k_url(tmp_path: Path, database_url: str) -> str:
    """As `database_url`, but for SQLite each k has a file of its own. (On PostgreSQL it has a schema.)"""
    return f"sqlite:///{tmp_path}/k{{k}}.sqlite" if database_url.startswith("sqlite") else database_url
