"""What the tests of all examples share: the examples run as a new user runs them."""

from __future__ import annotations

import pytest

SETTINGS = ("DBOS__APPVERSION", "DBOS__VMID", "DBOS__APPID", "DBOS_SYSTEM_DATABASE_URL")


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No settings from the environment of the tests."""
    for name in (*SETTINGS, "OPENAI_API_KEY", "OPENAI_BASE_URL", "OPENAI_MODEL"):
        monkeypatch.delenv(name, raising=False)
