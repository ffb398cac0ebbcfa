"""A parent that starts two children, calls a third, and awaits the two."""

from __future__ import annotations

from dbos import DBOS, SetWorkflowID
from tests.verify.life import execute

ID = "root"
EXPECTED = {
    ID: ["child", "child", "child", "DBOS.getResult", "step", "DBOS.getResult", "DBOS.getResult"],
    f"{ID}-1": ["step", "step"],
    f"{ID}-2": ["step", "step"],
    f"{ID}-3": ["step", "step"],
}
COMMITS = 6


@DBOS.step()
def step() -> str:
    return execute()


@DBOS.workflow()
def child() -> list[str]:
    return [step(), step()]


@DBOS.workflow()
def parent() -> list[list[str]]:
    first = DBOS.start_workflow(child)
    second = DBOS.start_workflow(child)
    called = child()
    own = step()
    return [first.get_result(), second.get_result(), called, [own]]


def main() -> list[list[str]]:
    with SetWorkflowID(ID):
        return parent()
