"""A workflow that enqueues several children at once on a queue that runs two at a time, and waits for all."""

from __future__ import annotations

from typing import Any

from dbos import DBOS, Queue, SetWorkflowID
from tests.verify.life import execute

ID = "root"
CHILDREN = 4
EXPECTED = {
    ID: ["step", *["child"] * CHILDREN, *["DBOS.getResult"] * CHILDREN, "step"],
    **{f"root-{number}": ["step", "step"] for number in range(2, 2 + CHILDREN)},
}
COMMITS = {"journal": 6, "claim_enqueued": 2}

queue = Queue("enqueued", concurrency=2)


@DBOS.step()
def step() -> str:
    return execute()


@DBOS.workflow()
def child() -> list[str]:
    return [step(), step()]


@DBOS.workflow()
def workflow() -> list[Any]:
    first = step()
    handles = [queue.enqueue(child) for _ in range(CHILDREN)]
    return [first, [handle.get_result() for handle in handles], step()]


def main() -> list[Any]:
    with SetWorkflowID(ID):
        return workflow()
