"""A workflow that enqueues children with one deduplication id: one is refused, one comes when the first has ended."""

from __future__ import annotations

from typing import Any

from dbos import DBOS, Queue, SetEnqueueOptions, SetWorkflowID
from dbos.error import DBOSQueueDeduplicatedError
from tests.verify.life import execute, new_message

ID = "root"
EXPECTED = {
    ID: ["step", "waiting", "child", "DBOS.send", "DBOS.getResult", "child", "DBOS.getResult", "step"],
    "root-2": ["DBOS.recv", "DBOS.sleep?", "step"],
    "root-6": ["step"],
}
COMMITS = {"journal": 8, "claim_enqueued": 2}

queue = Queue("deduplicated")


@DBOS.step()
def step() -> str:
    return execute()


@DBOS.workflow()
def waiting() -> list[Any]:
    return [DBOS.recv("go"), step()]


@DBOS.workflow()
def child() -> str:
    return step()


@DBOS.workflow()
def workflow() -> list[Any]:
    first = step()
    with SetEnqueueOptions(deduplication_id="one"):
        holder = queue.enqueue(waiting)
    try:
        with SetEnqueueOptions(deduplication_id="one"):
            queue.enqueue(child)
        refused = "nothing"
    except DBOSQueueDeduplicatedError as error:
        refused = type(error).__name__
    DBOS.send(holder.workflow_id, new_message(1, "go"), "go")
    got = holder.get_result()
    with SetEnqueueOptions(deduplication_id="one"):
        again = queue.enqueue(child)
    return [first, refused, got, again.get_result(), step()]


def main() -> list[Any]:
    with SetWorkflowID(ID):
        return workflow()
