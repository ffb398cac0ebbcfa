"""A workflow of four steps; the second life stays in its second step until it is told to go on."""

from __future__ import annotations

from dbos import DBOS, SetWorkflowID
from tests.verify.life import execute, number, path

ID = "root"
EXPECTED = {ID: ["step"] * 4}
COMMITS = 5


@DBOS.step()
def step() -> str:
    value = execute()
    if number() == 2 and DBOS.step_id == 2:
        path(".standing").touch()
        path(".fifo").read_text()  # returns when somebody has written into it
    return value


@DBOS.workflow()
def workflow() -> list[str]:
    return [step() for _ in range(4)]


def main() -> list[str]:
    with SetWorkflowID(ID):
        return workflow()
