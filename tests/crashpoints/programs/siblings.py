"""A workflow that waits for messages, and another one that sends them when it waits."""

from __future__ import annotations

from typing import Any

from dbos import DBOS, SetWorkflowID
from tests.verify.life import execute, new_message, wait_until_waiting

ID = "root"
EXPECTED = {
    ID: ["step", "DBOS.recv", "DBOS.sleep", "DBOS.recv", "DBOS.sleep", "step"],
    "sender": ["when_waiting", "DBOS.send", "when_waiting", "DBOS.send"],
}
COMMITS = 7


@DBOS.step()
def step() -> str:
    return execute()


@DBOS.step()
def when_waiting(step: int) -> str:
    wait_until_waiting(ID, step)
    return execute()


@DBOS.workflow()
def receiver() -> list[Any]:
    return [step(), DBOS.recv("a"), DBOS.recv("b"), step()]


@DBOS.workflow()
def sender() -> list[str]:
    first = when_waiting(3)
    DBOS.send(ID, new_message(1, "a"), "a")
    second = when_waiting(5)
    DBOS.send(ID, new_message(2, "b"), "b")
    return [first, second]


def main() -> list[Any]:
    with SetWorkflowID(ID):
        receiving = DBOS.start_workflow(receiver)
    with SetWorkflowID("sender"):
        sending = DBOS.start_workflow(sender)
    result = receiving.get_result()
    sending.get_result()
    return result
