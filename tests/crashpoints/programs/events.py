"""A workflow that publishes events, also from a step, and one that reads them: there, waiting, timed out."""

from __future__ import annotations

from typing import Any

from dbos import DBOS, SetWorkflowID
from tests.verify.life import execute, note, wait_until_waiting

ID = "root"
EXPECTED = {
    ID: ["step", "DBOS.setEvent", "publishing", "DBOS.setEvent", "when_waiting", "DBOS.setEvent"],
    "reader": [
        *["step", "DBOS.getEvent", "DBOS.sleep?", "DBOS.getEvent", "DBOS.sleep"],
        *["DBOS.getEvent", "DBOS.sleep", "step", "DBOS.getEvent", "", "step"],
    ],
}
COMMITS = 7


@DBOS.step()
def step() -> str:
    return execute()


@DBOS.step()
def publishing() -> str:
    value = execute()
    DBOS.set_event("of a step", value)
    return value


@DBOS.step()
def when_waiting() -> str:
    wait_until_waiting("reader", 5)
    return execute()


@DBOS.workflow()
def publisher() -> list[str]:
    first = step()
    DBOS.set_event("a", first)
    second = publishing()
    DBOS.set_event("a", second)
    third = when_waiting()
    DBOS.set_event("waited for", third)
    return [first, second, third]


@DBOS.workflow()
def reader() -> list[Any]:
    first = [step(), DBOS.get_event(ID, "a"), DBOS.get_event(ID, "waited for")]
    return [*first, DBOS.get_event(ID, "never", 0.05), step(), DBOS.get_event("nobody", "a", 0), step()]


def main() -> list[str]:
    with SetWorkflowID(ID):
        publishing = DBOS.start_workflow(publisher)
    with SetWorkflowID("reader"):
        reading = DBOS.start_workflow(reader)
    waited_for = DBOS.get_event(ID, "waited for")
    result = publishing.get_result()
    assert waited_for == result[-1]
    reading.get_result()
    note("events", workflow=ID, values=DBOS.get_all_events(ID))
    return result
