"""A workflow that times out while it waits, with a child that has its deadline, and one that has none."""

from __future__ import annotations

from typing import Any

from dbos import DBOS, SetWorkflowID, SetWorkflowTimeout
from tests.verify.life import execute, see

ID = "root"
EXPECTED = {
    ID: ["step", "waiting_child", "detached_child", "DBOS.recv", "DBOS.sleep", "step"],
    "child": ["step", "DBOS.sleep", "step"],
    "detached": ["step", "step"],
}
STATUSES = {ID: ["CANCELLED"], "child": ["CANCELLED"]}
OPTIONAL = ["child", "detached"]
"""A parent that is not recovered before its deadline does not start them."""
NEVER = [(ID, 6), ("child", 3)]
DETACHED = ["detached"]
COMMITS = {"journal": 4, "cancel_overdue": 1}
GUARDS = ["cancelled"]
TIMEOUT_S = 0.7


@DBOS.step()
def step() -> str:
    return execute()


@DBOS.workflow()
def waiting_child() -> None:
    step()
    DBOS.sleep(3600)
    step()


@DBOS.workflow()
def detached_child() -> list[str]:
    return [step(), step()]


@DBOS.workflow()
def parent() -> None:
    step()
    with SetWorkflowID("child"):
        DBOS.start_workflow(waiting_child)
    with SetWorkflowID("detached"), SetWorkflowTimeout(None):
        DBOS.start_workflow(detached_child)
    DBOS.recv("never", 3600)
    step()


def main() -> Any:
    with SetWorkflowID(ID), SetWorkflowTimeout(TIMEOUT_S):
        handle = DBOS.start_workflow(parent)
    try:
        return handle.get_result()
    finally:
        for workflow_id in OPTIONAL:
            if DBOS.get_workflow_status(workflow_id) is not None:
                see(DBOS.retrieve_workflow(workflow_id))
