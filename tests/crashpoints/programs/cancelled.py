"""A child that is cancelled when its last step ends, or just not any more, and everybody who waits for it.

The variants are in which order the cancellation and the outcome are committed: `cancelled`, `succeeded`, or `race`,
where nothing is held up.
"""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from dbos import DBOS, SetWorkflowID
from dbos.error import DBOSAwaitedWorkflowCancelledError
from tests.support.waiting import wait_until
from tests.verify.life import execute, gated_client, see, select, variant

ID = "root"
EXPECTED = {ID: ["child", "DBOS.getResult", "step"], "child": ["step", "last_step"]}
STATUSES = {
    "child": {"cancelled": ["CANCELLED"], "succeeded": ["SUCCESS"], "race": ["CANCELLED", "SUCCESS"]}[variant()]
}
COMMITS = {"journal": 4, "cancel": 1}
GUARDS = ["cancelled"] if variant() == "cancelled" else []

has_last_step_ended = threading.Event()
is_cancelled = threading.Event()
PATIENCE_S = 10.0


@DBOS.step()
def step() -> str:
    return execute()


@DBOS.step()
def last_step() -> str:
    value = execute()
    has_last_step_ended.set()
    return value


@DBOS.workflow()
def child() -> list[str]:
    return [step(), last_step()]


@DBOS.workflow()
def parent() -> list[Any]:
    with SetWorkflowID("child"):
        handle = DBOS.start_workflow(child)
    try:
        result: Any = handle.get_result()
    except DBOSAwaitedWorkflowCancelledError as error:
        result = type(error).__name__
    return [result, step()]


def pause(operation: str, moment: str) -> None:
    """Have the outcome, which travels with the last step, and the cancellation wait for each other."""
    if operation == "journal" and moment == "begin" and variant() == "cancelled" and has_last_step_ended.is_set():
        is_cancelled.wait(PATIENCE_S)
    if operation == "cancel" and moment == "begin" and variant() == "succeeded":
        wait_until(has_ended, "the child has ended", PATIENCE_S)
    if operation == "cancel" and moment == "after_commit":
        is_cancelled.set()


def has_ended() -> bool:
    statuses = select("SELECT status FROM {schema}workflow_status WHERE workflow_uuid = 'child'")
    return bool(statuses) and statuses[0][0] != "PENDING"


def cancel() -> None:
    # By a client: the application would first make durable what it holds back, the outcome too.
    with gated_client() as client:
        while not has_last_step_ended.wait(0.005) and not has_ended():
            pass
        client.cancel_workflow("child")
        see(client.retrieve_workflow("child"))


def main() -> list[Any]:
    with ThreadPoolExecutor(1) as pool:
        # Beside the start, which waits too while the outcome does.
        cancelling = pool.submit(cancel)
        with SetWorkflowID(ID):
            handle = DBOS.start_workflow(parent)
        cancelling.result()
    see(DBOS.retrieve_workflow("child"))
    result = handle.get_result()
    DBOS.cancel_workflow("child")
    DBOS.cancel_workflow(ID)
    see(DBOS.retrieve_workflow("child"))
    return result
