"""Messages from outside of workflows and from a step without any key: sent once, if they are sent in one life."""

from __future__ import annotations

from typing import Any

from dbos import DBOS, SetWorkflowID
from tests.verify.exchange import OUTSIDE
from tests.verify.life import execute, gated_client, new_message, note

ID = "root"
RECEIVED = ["DBOS.recv", "DBOS.sleep?"]
EXPECTED = {ID: ["sending", *RECEIVED * 3, "DBOS.recv", "", "sending"]}
UNORDERED = True
COMMITS = {"journal": 5, "send": 1}


@DBOS.step()
def sending(number: int) -> str:
    DBOS.send(ID, new_message(number, "a", sender=OUTSIDE), "a")
    note("sent", number=number)
    return execute()


@DBOS.workflow()
def receiver() -> list[Any]:
    return [sending(1), *(DBOS.recv("a") for _ in range(3)), DBOS.recv("nothing", 0), sending(4)]


def main() -> list[Any]:
    with SetWorkflowID(ID):
        handle = DBOS.start_workflow(receiver)
    DBOS.send(ID, new_message(2, "a", sender=OUTSIDE), "a")
    with gated_client() as client:
        client.send(ID, new_message(3, "a", sender=OUTSIDE), "a")
    note("sent", number=2)
    note("sent", number=3)
    return handle.get_result()
