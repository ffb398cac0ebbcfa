"""Children whose start meets something: a dead lease, a lost acknowledgement, an id that is taken."""

from __future__ import annotations

import threading

import pytest

from dbos import DBOS, SetWorkflowID
from dbos.error import DBOSConflictingWorkflowError
from dbos.storage.errors import TransientStorageError
from tests.regress.conftest import Launcher
from tests.support.apps import Roadblock, eventually, status_of
from tests.support.executors import LosingGate, bury, in_time, leave_behind
from tests.support.storage import change, set_status, step_ids, workflow


def test_a_child_that_a_dead_lease_does_not_let_start_is_started_by_the_recovery(launch: Launcher) -> None:
    """The parent's executor is taken for dead just before: nothing may say that the child was started."""
    executor = launch(renew_interval_s=0.1)
    roadblock = Roadblock()

    @DBOS.workflow()
    def child() -> str:
        return "the child's result"

    @DBOS.step()
    def wait() -> None:
        roadblock.stop()

    @DBOS.workflow()
    def parent() -> str:
        wait()
        return DBOS.start_workflow(child).get_result()

    with SetWorkflowID("parent"):
        handle = DBOS.start_workflow(parent)
    roadblock.wait_until_reached()
    bury(executor)
    roadblock.open()
    assert in_time(handle.get_result) == "the child's result"
    assert status_of("parent-2") == "SUCCESS"


def test_a_child_that_exists_is_not_run_again_when_the_acknowledgement_is_lost(launch: Launcher) -> None:
    gate = LosingGate()
    launch(gate=gate)
    executions: list[int] = []

    @DBOS.step()
    def pay() -> int:
        executions.append(1)
        return len(executions)

    @DBOS.workflow()
    def child() -> int:
        return pay()

    @DBOS.workflow()
    def parent() -> int:
        gate.lose("journal", "after_commit", TransientStorageError("the connection is lost"))
        with SetWorkflowID("shared"):
            return DBOS.start_workflow(child).get_result()

    with SetWorkflowID("shared"):
        assert child() == 1
    assert in_time(parent) == 1
    assert gate.is_lost
    assert executions == [1]


def test_two_starts_of_one_child_run_it_once_and_at_once(launch: Launcher) -> None:
    """Both handles get the result, without the help of any recovery."""
    executor = launch()
    executions: list[int] = []

    @DBOS.workflow()
    def child() -> str:
        executions.append(1)
        return "result"

    @DBOS.workflow()
    def parent() -> tuple[str, str]:
        with SetWorkflowID("child"):
            one = DBOS.start_workflow(child)
        with SetWorkflowID("child"):
            other = DBOS.start_workflow(child)
        return one.get_result(), other.get_result()

    assert in_time(parent) == ("result", "result")
    row = workflow(executor.database, "child")
    assert row is not None
    assert (executions, row.recovery_attempts) == ([1], 1)
    eventually(lambda: not executor._runs, "no run is left in memory")


def test_a_child_whose_id_is_taken_fails_a_parent_that_just_returns(launch: Launcher) -> None:
    """Its workflow asks for nothing after the start, and would not hear of the conflict."""
    executor = launch()

    @DBOS.workflow()
    def other() -> str:
        return "other"

    @DBOS.workflow()
    def child() -> str:
        return "child"

    @DBOS.workflow()
    def parent() -> str:
        with SetWorkflowID("taken"):
            DBOS.start_workflow(child)
        return "fine"

    @DBOS.workflow()
    async def async_parent() -> str:
        with SetWorkflowID("taken"):
            await DBOS.start_workflow_async(child)
        return "fine"

    with SetWorkflowID("taken"):
        other()
    with SetWorkflowID("sync"), pytest.raises(DBOSConflictingWorkflowError):
        in_time(DBOS.start_workflow(parent).get_result)
    with SetWorkflowID("async"), pytest.raises(DBOSConflictingWorkflowError):
        in_time(DBOS.start_workflow(async_parent).get_result)
    assert (status_of("sync"), status_of("async")) == ("ERROR", "ERROR")
    assert (step_ids(executor.database, "sync"), step_ids(executor.database, "async")) == ([], [])
    eventually(lambda: not executor._runs, "no run is left in memory")


def test_a_child_called_by_a_fenced_parent_does_not_stay_in_memory(launch: Launcher) -> None:
    executor = launch()
    roadblock = Roadblock()

    @DBOS.workflow()
    def child() -> str:
        return "child"

    @DBOS.workflow()
    def parent() -> str:
        roadblock.stop()
        return child()

    handle = DBOS.start_workflow(parent)
    roadblock.wait_until_reached()
    assert (
        change(
            executor.database,
            "UPDATE {schema}workflow_status SET owner_xid = 'another', status = 'SUCCESS' WHERE workflow_uuid = :id",
            id=handle.workflow_id,
        )
        == 1
    )
    roadblock.open()
    assert in_time(handle.get_result) is None
    eventually(lambda: not executor._runs, "no run is left in memory")


def test_a_lost_claim_is_given_back_although_another_run_is_in_memory(launch: Launcher) -> None:
    """That one owns no pending workflow any more, as it was cancelled, but its code goes on."""
    executor = launch(renew_interval_s=0.05)
    roadblock = Roadblock()
    executed = threading.Event()

    @DBOS.workflow(name="long")
    def long() -> None:
        roadblock.stop()

    @DBOS.workflow(name="lost")
    def lost() -> None:
        executed.set()

    handle = DBOS.start_workflow(long)
    roadblock.wait_until_reached()
    set_status(executor.database, handle.workflow_id, "CANCELLED")
    leave_behind(executor, "lost", "lost", token="a token that no run has")
    try:
        assert executed.wait(10), "nobody took it up"
    finally:
        roadblock.open()
