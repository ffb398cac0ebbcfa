"""A workflow of four steps that the second life cancels; in the variant `resumed` it resumes it too."""

from __future__ import annotations

from dbos import DBOS, SetWorkflowID
from tests.verify.life import execute, number, variant

ID = "root"
EXPECTED = {ID: ["step"] * 4}
STATUSES = {ID: ["SUCCESS"] if variant() == "resumed" else ["CANCELLED"]}
RESUMES = True
COMMITS = 5


@DBOS.step()
def step() -> str:
    return execute()


@DBOS.workflow()
def workflow() -> list[str]:
    return [step() for _ in range(4)]


def main() -> list[str]:
    with SetWorkflowID(ID):
        handle = DBOS.start_workflow(workflow)
    if number() == 2:
        DBOS.cancel_workflow(ID)
    if number() == 2 and variant() == "resumed":
        handle = DBOS.resume_workflow(ID)
    return handle.get_result()
