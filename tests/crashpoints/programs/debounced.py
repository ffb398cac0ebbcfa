"""Debounced calls: from outside, in the variant `client` by a client, in the variant `workflow` by a workflow."""

from __future__ import annotations

from typing import Any

from dbos import DBOS, Debouncer, DebouncerClient, EnqueueOptions, Queue, SetWorkflowID
from tests.verify.life import execute, gated_client, variant

ID = "root"
EXPECTED: dict[str, list[str]] = {ID: ["step", "step"]}
if variant() == "workflow":
    EXPECTED = {
        ID: ["step", "DBOS.debounce", "DBOS.debounce", "DBOS.getResult", "DBOS.getResult", "step"],
        "root-2": ["step", "step"],
        "root-3": ["step", "step"],
    }
    OPTIONAL = ["root-3"]
    """Begun if the first call's time is over before the second call, as it may be in a life that was killed."""
COMMITS = {
    "journal": 4 if variant() == "workflow" else 2,
    "debounce": 2 if variant() == "workflow" else 3,
    "release_delayed": 1,
    "claim_enqueued": 1,
}
PERIOD_S = 0.25

queue = Queue("debounced")


@DBOS.step()
def step() -> str:
    return execute()


@DBOS.workflow(name="debounced-workflow")
def workflow(number: int) -> list[str]:
    return [step(), step()]


@DBOS.workflow()
def caller() -> list[Any]:
    first = step()
    debouncer = Debouncer.create(workflow, queue=queue)
    handles = [debouncer.debounce("key", PERIOD_S, number) for number in range(2)]
    return [first, *(handle.get_result() for handle in handles), step()]


def main() -> list[Any]:
    if variant() == "workflow":
        with SetWorkflowID(ID):
            return caller()
    if variant() == "client":
        with gated_client() as client:
            options: EnqueueOptions = {
                "queue_name": queue.name,
                "workflow_name": "debounced-workflow",
                "workflow_id": ID,
                "app_version": "1",
            }
            by_client = DebouncerClient(client, options)
            for number in range(3):
                by_client.debounce("key", PERIOD_S, number)
        result: list[Any] = DBOS.retrieve_workflow(ID).get_result()
        return result
    debouncer = Debouncer.create(workflow, queue=queue)
    handles = []
    for number in range(3):
        with SetWorkflowID(ID):
            handles.append(debouncer.debounce("key", PERIOD_S, number))
    return handles[-1].get_result()
