"""Fixtures for the tests of the guide."""

from __future__ import annotations

import pytest

from dbos.runtime.classes import Classes
from dbos.runtime.registry import REGISTRY
from tests.api.conftest import app as app
from tests.guide.inventory import guide_program
from tests.support.guide import Program


@pytest.fixture
def program(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Program:
    """The blocks that the test names. The guide reuses names of workflows, so those of other tests are out of sight."""
    monkeypatch.setattr(REGISTRY, "_functions", {})
    monkeypatch.setattr(REGISTRY, "classes", Classes())
    return guide_program(*request.param)
