"""A workflow that is started from outside, and its handle awaited."""

from __future__ import annotations

from dbos import DBOS, SetWorkflowID
from tests.verify.life import execute

ID = "root"
EXPECTED = {ID: ["step", "step"]}
COMMITS = 3


@DBOS.step()
def step() -> str:
    return execute()


@DBOS.workflow()
def workflow() -> list[str]:
    return [step(), step()]


def main() -> list[str]:
    with SetWorkflowID(ID):
        handle = DBOS.start_workflow(workflow)
    return handle.get_result()
