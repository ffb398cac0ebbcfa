"""A workflow that sends messages to itself, and receives them: they are there when it looks."""

from __future__ import annotations

from typing import Any

from dbos import DBOS, SetWorkflowID
from dbos.error import DBOSNonExistentWorkflowError
from tests.verify.life import execute, new_message

ID = "root"
RECEIVED = ["DBOS.recv", ""]
EXPECTED = {ID: ["step", *["DBOS.send"] * 4, *RECEIVED * 2, "step", *RECEIVED * 2, "step"]}
COMMITS = 8


@DBOS.step()
def step() -> str:
    return execute()


@DBOS.workflow()
def workflow() -> list[Any]:
    first = step()
    DBOS.send(ID, new_message(1))
    DBOS.send(ID, new_message(2))
    DBOS.send(ID, new_message(3, "topic"), "topic")
    try:
        DBOS.send("nobody", new_message(4))
        unknown = ""
    except DBOSNonExistentWorkflowError as error:
        unknown = type(error).__name__
    # Two without a barrier in between: the second one finds the first message still there.
    received = [DBOS.recv(), DBOS.recv()]
    second = step()
    return [first, unknown, *received, second, DBOS.recv("topic"), DBOS.recv(timeout_seconds=0), step()]


def main() -> list[Any]:
    with SetWorkflowID(ID):
        return workflow()
