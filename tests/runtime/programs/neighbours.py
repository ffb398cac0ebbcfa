"""The first life runs a workflow until it is told to go on; the others run one of their own each, and end."""

from __future__ import annotations

from dbos import DBOS, SetWorkflowID
from tests.verify.life import execute, number, path


@DBOS.step()
def wait_for_word() -> str:
    value = execute()
    if number() == 1:
        path(".running").touch()
        path(".fifo").read_text()  # returns when somebody has written into it
    return value


@DBOS.step()
def after() -> str:
    return execute()


@DBOS.workflow()
def workflow() -> list[str]:
    return [wait_for_word(), after()]


def main() -> list[str]:
    with SetWorkflowID(f"life-{number()}"):
        return workflow()
