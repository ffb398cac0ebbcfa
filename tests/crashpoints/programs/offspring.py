"""A parent that sends messages to a child with an id of its own, at once, and gets an answer."""

from __future__ import annotations

from typing import Any

from dbos import DBOS, SetWorkflowID
from tests.verify.life import execute, new_message

ID = "root"
RECEIVED = ["DBOS.recv", "DBOS.sleep?"]
EXPECTED = {
    ID: ["child", "DBOS.send", "DBOS.send", *RECEIVED, "DBOS.getResult", "step"],
    "child": [*RECEIVED, *RECEIVED, "step", "DBOS.send"],
}
COMMITS = 6


@DBOS.step()
def step() -> str:
    return execute()


@DBOS.workflow()
def child() -> list[Any]:
    result = [DBOS.recv(), DBOS.recv(), step()]
    DBOS.send(ID, new_message(1, "answer"), "answer")
    return result


@DBOS.workflow()
def parent() -> list[Any]:
    with SetWorkflowID("child"):
        handle = DBOS.start_workflow(child)
    DBOS.send("child", new_message(1))
    DBOS.send("child", new_message(2))
    return [DBOS.recv("answer"), handle.get_result(), step()]


def main() -> list[Any]:
    with SetWorkflowID(ID):
        return parent()
