"""Waits that nothing ends: for a message, for an event, and a sleep."""

from __future__ import annotations

from typing import Any

from dbos import DBOS, SetWorkflowID
from tests.verify.life import execute

ID = "root"
EXPECTED = {ID: ["step", "DBOS.recv", "DBOS.sleep", "step", "DBOS.getEvent", "DBOS.sleep", "DBOS.sleep", "step"]}
COMMITS = 5
WAIT_S = 0.07


@DBOS.step()
def step() -> str:
    return execute()


@DBOS.workflow()
def workflow() -> list[Any]:
    first = [step(), DBOS.recv("never", WAIT_S), step(), DBOS.get_event("nobody", "never", WAIT_S)]
    DBOS.sleep(WAIT_S)
    return [*first, step()]


def main() -> list[Any]:
    with SetWorkflowID(ID):
        return workflow()
