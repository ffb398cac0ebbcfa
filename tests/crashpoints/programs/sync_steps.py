"""A workflow of five steps, called directly."""

from __future__ import annotations

from dbos import DBOS, SetWorkflowID
from tests.verify.life import execute

ID = "root"
EXPECTED = {ID: ["step"] * 5}
COMMITS = 6


@DBOS.step()
def step() -> str:
    return execute()


@DBOS.workflow()
def workflow() -> list[str]:
    return [step() for _ in range(5)]


def main() -> list[str]:
    with SetWorkflowID(ID):
        return workflow()
