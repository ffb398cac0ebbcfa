"""Awaits a workflow of which another process runs the first step."""

from __future__ import annotations

from dbos import DBOS
from tests.verify.life import execute, path


@DBOS.step(name="step")
def step() -> str:
    return execute()


@DBOS.workflow(name="handed_back", max_recovery_attempts=0)
def handed_back() -> list[str]:
    return [step(), step()]


def main() -> list[str]:
    path(".running").touch()
    return DBOS.get_result("handed-back")  # type: ignore[no-any-return]
