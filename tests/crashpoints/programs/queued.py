"""Workflows that are enqueued from outside, under ids of their own.

The variant `serial` lets one run at a time, `rate` two start in a while, `client` enqueues by a `DBOSClient`.
"""

from __future__ import annotations

from typing import Any

from dbos import DBOS, EnqueueOptions, Queue, SetWorkflowID
from tests.verify.life import execute, gated_client, see, variant

ID = "root"
IDS = [ID, "second", "third", "fourth", "fifth"]
EXPECTED = {workflow_id: ["step", "step"] for workflow_id in IDS}
SERIAL = IDS if variant() == "serial" else []
_CLAIMS = {"serial": 5, "rate": 3}
COMMITS = {
    "journal": 5 if variant() == "client" else 8,
    "start": 5,
    "claim_enqueued": _CLAIMS.get(variant(), 1),
    "note_starts": 1,
}
_LIMITS: dict[str, dict[str, Any]] = {
    "serial": {"concurrency": 1},
    "rate": {"limiter": {"limit": 2, "period": 0.1}},
}

queue = Queue("queued", **_LIMITS.get(variant(), {}))


@DBOS.step()
def step() -> str:
    return execute()


@DBOS.workflow(name="queued-workflow")
def workflow() -> list[str]:
    return [step(), step()]


def main() -> list[str]:
    if variant() == "client":
        with gated_client() as client:
            for workflow_id in IDS:
                options: EnqueueOptions = {
                    "queue_name": queue.name,
                    "workflow_name": "queued-workflow",
                    "workflow_id": workflow_id,
                    "app_version": "1",
                }
                client.enqueue(options)
        handles = [DBOS.retrieve_workflow(workflow_id) for workflow_id in IDS]
    else:
        handles = []
        for workflow_id in IDS:
            with SetWorkflowID(workflow_id):
                handles.append(queue.enqueue(workflow))
    for handle in handles[1:]:
        see(handle)
    result: list[str] = handles[0].get_result()
    return result
