"""A workflow that cancels itself, and is resumed by whoever waits for it, while its first run is not quite over."""

from __future__ import annotations

from typing import Any

from dbos import DBOS, SetWorkflowID
from dbos.error import DBOSAwaitedWorkflowCancelledError
from tests.verify.exchange import OUTSIDE
from tests.verify.life import execute, new_message, note

ID = "root"
EXPECTED = {ID: ["step", "DBOS.cancelWorkflow", "step", "DBOS.recv", "DBOS.sleep?", "step"]}
COMMITS = {"journal": 4, "cancel": 1, "resume": 1, "claim_enqueued": 1}
RESUMES = True


@DBOS.step()
def step() -> str:
    return execute()


@DBOS.workflow()
def workflow() -> list[Any]:
    first = step()
    DBOS.cancel_workflow(ID)
    return [first, step(), DBOS.recv(), step()]


def main() -> list[Any]:
    with SetWorkflowID(ID):
        handle = DBOS.start_workflow(workflow)
    with SetWorkflowID("key"):
        DBOS.send(ID, new_message(1, sender=OUTSIDE))
    note("sent", number=1)
    while True:
        try:
            return handle.get_result()
        except DBOSAwaitedWorkflowCancelledError:
            handle = DBOS.resume_workflow(ID)
