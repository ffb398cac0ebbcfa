"""A workflow that waits for an hour: for a message, for an event, or asleep, which are its variants."""

from __future__ import annotations

from typing import Any

from dbos import DBOS, SetWorkflowID
from tests.verify.life import execute, variant

ID = "root"
WAIT = {"recv": ["DBOS.recv", "DBOS.sleep"], "get_event": ["DBOS.getEvent", "DBOS.sleep"], "sleep": ["DBOS.sleep"]}
EXPECTED = {ID: ["step", *WAIT[variant()], "step"]}
COMMITS = 3
HOUR_S = 3600.0


@DBOS.step()
def step() -> str:
    return execute()


@DBOS.workflow()
def workflow() -> list[Any]:
    result: list[Any] = [step()]
    if variant() == "recv":
        result.append(DBOS.recv("never", HOUR_S))
    elif variant() == "get_event":
        result.append(DBOS.get_event("nobody", "never", HOUR_S))
    else:
        DBOS.sleep(HOUR_S)
    return [*result, step()]


def main() -> list[Any]:
    with SetWorkflowID(ID):
        return workflow()
