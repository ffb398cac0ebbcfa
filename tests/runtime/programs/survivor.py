"""The third life awaits the workflow of the second one; each of the others runs a workflow of its own."""

from __future__ import annotations

from dbos import DBOS, SetWorkflowID
from tests.verify.life import execute, number


@DBOS.step()
def step() -> str:
    return execute()


@DBOS.workflow()
def workflow() -> list[str]:
    return [step(), step()]


def main() -> list[str]:
    if number() == 3:
        return DBOS.get_result("life-2")  # type: ignore[no-any-return]
    with SetWorkflowID(f"life-{number()}"):
        return workflow()
