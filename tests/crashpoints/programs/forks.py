"""A finished workflow that is forked from outside and by another workflow, with its events and streams."""

from __future__ import annotations

from dbos import DBOS, SetWorkflowID, WorkflowHandle
from tests.verify.life import execute

ID = "root"
STEPS = ["step", "DBOS.setEvent", "step", "DBOS.writeStream", "DBOS.setEvent", "DBOS.writeStream", "step"]
EXPECTED = {
    ID: STEPS,
    "fork": STEPS,
    "forker": ["DBOS.forkWorkflow", "DBOS.getStatus", "DBOS.getResult"],
    "forker-1": STEPS,
}
FORKS = {"fork": (ID, 5), "forker-1": (ID, 3)}
COMMITS = {"journal": 6, "fork": 2, "claim_enqueued": 1}


@DBOS.step()
def step() -> str:
    return execute()


@DBOS.workflow()
def workflow() -> list[str]:
    first = step()
    DBOS.set_event("a", first)
    second = step()
    DBOS.write_stream("s", second)
    DBOS.set_event("a", second)
    DBOS.write_stream("s", first)
    return [first, second, step()]


@DBOS.workflow()
def forker() -> list[str]:
    fork: WorkflowHandle[list[str]] = DBOS.fork_workflow(ID, 3)
    return fork.get_result()


def main() -> list[str]:
    with SetWorkflowID(ID):
        result = workflow()
    with SetWorkflowID("fork"):
        fork = DBOS.fork_workflow(ID, 5)
    with SetWorkflowID("forker"):
        forking = DBOS.start_workflow(forker)
    fork.get_result()
    forking.get_result()
    return result
