"""A workflow that writes to streams, also from a step, and closes one, while somebody reads it."""

from __future__ import annotations

from typing import Any

from dbos import DBOS, SetWorkflowID
from tests.verify.life import execute, note

ID = "root"
EXPECTED = {
    ID: [
        *["step", "DBOS.writeStream", "DBOS.writeStream", "writing", "DBOS.writeStream", "DBOS.closeStream"],
        *["step", "DBOS.writeStream", "step"],
    ]
}
COMMITS = 6


@DBOS.step()
def step() -> str:
    return execute()


@DBOS.step()
def writing() -> str:
    value = execute()
    DBOS.write_stream("s", value)
    note("written", workflow=ID, key="s", value=value)
    return value


@DBOS.workflow()
def workflow() -> list[Any]:
    first = step()
    DBOS.write_stream("s", first)
    DBOS.write_stream("s", "and more")
    second = writing()
    DBOS.write_stream("s", second)
    DBOS.close_stream("s")
    third = step()
    DBOS.write_stream("left open", third)
    return [first, second, third, step()]


def main() -> list[Any]:
    with SetWorkflowID(ID):
        handle = DBOS.start_workflow(workflow)
    note("read", workflow=ID, key="s", values=list(DBOS.read_stream(ID, "s")))
    note("read", workflow=ID, key="left open", values=list(DBOS.read_stream(ID, "left open")))
    return handle.get_result()
