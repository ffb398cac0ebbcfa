"""Messages from outside of workflows, each sent again and again under its idempotency key.

The variant `client` sends them by a `DBOSClient`.
"""

from __future__ import annotations

from typing import Any

from dbos import DBOS, SetWorkflowID
from tests.verify.exchange import OUTSIDE
from tests.verify.life import execute, gated_client, new_message, note, variant

ID = "root"
EXPECTED = {ID: ["step", "DBOS.recv", "DBOS.sleep?", "DBOS.recv", "DBOS.sleep?", "step", "DBOS.recv", "", "step"]}
COMMITS = {"journal": 4, "send": 5} if variant() == "client" else {"journal": 7}


@DBOS.step()
def step() -> str:
    return execute()


@DBOS.workflow()
def receiver() -> list[Any]:
    return [step(), DBOS.recv("a"), DBOS.recv("a"), step(), DBOS.recv("a", 0), step()]


def send(number: int) -> None:
    message = new_message(number, "a", sender=OUTSIDE)
    if variant() == "client":
        with gated_client() as client:
            client.send(ID, message, "a", idempotency_key=f"key-{number}")
    else:
        with SetWorkflowID(f"key-{number}"):
            DBOS.send(ID, message, "a")
    note("sent", number=number)


def main() -> list[Any]:
    with SetWorkflowID(ID):
        handle = DBOS.start_workflow(receiver)
    for number in (1, 1, 2, 1):
        send(number)
    result = handle.get_result()
    send(2)
    return result
