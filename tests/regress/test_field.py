"""Failures that users of such libraries have paid for, each as a test of the behaviour, here or where `INDEX` says."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from dbos import DBOS, Queue, SetWorkflowID
from dbos.error import DBOSException
from dbos.runtime.registry import QUEUES
from dbos.storage.claims import claim_orphans
from tests.regress.conftest import Launcher
from tests.support.apps import eventually
from tests.support.executors import leave_behind
from tests.support.gates import PausingGate
from tests.support.postgres import PostgresAdmin
from tests.support.processes import ROOT

INDEX = {
    "an empty id re-runs another workflow": "api/test_ids.py::test_ids_that_cannot_be_are_refused",
    "concurrent starts with one id": "api/test_ids.py::test_same_id_from_four_processes_at_once_runs_once",
    "a stale list of recovery is executed after its claim was lost": (
        "regress/test_field.py::test_recovery_whose_list_is_stale_runs_nothing"
    ),
    "the database restarts inside the loop of recovery": (
        "regress/test_field.py::test_recovery_goes_on_after_its_connections_were_cut"
    ),
    "one raising dispatch strands its batch": (
        "api/test_queues.py::test_row_that_cannot_be_read_ends_in_error_and_its_batch_runs"
    ),
    "a recovered workflow blocks a queue that runs one at a time": (
        "regress/test_field.py::test_recovered_workflow_does_not_block_its_queue_of_one"
    ),
    "a cancellation is lost against completion": (
        "api/test_management.py::test_cancel_against_completion_ends_one_way_for_all_observers"
    ),
    "a recv that is cancelled at the wrong await loses its message": (
        "api/test_messages.py::test_recv_that_is_given_up_takes_no_message"
    ),
    "a failing serializer leaves a workflow PENDING": (
        "api/test_serialization.py::test_workflow_result_that_cannot_be_stored_ends_it_in_error"
    ),
    "an exception pickles but does not unpickle": (
        "regress/test_field.py::test_exception_that_pickles_but_does_not_unpickle_is_still_an_error"
    ),
    "two recoveries see different values of one recv": (
        "differential/test_interleavings.py::test_calls_that_overlap_leave_what_one_after_the_other_would"
    ),
    "one id for two functions": "api/test_ids.py::test_id_of_another_function_is_refused",
    "a workflow that was given up holds its slot": (
        "api/test_queues.py::test_work_that_kills_its_process_is_recovered_then_given_up"
    ),
    "a session that idles in a transaction blocks everyone": (
        "regress/test_held_up.py::test_workflow_whose_row_is_locked_holds_up_no_other"
    ),
}


@pytest.mark.parametrize("failure", INDEX)
def test_failure_has_a_test(failure: str) -> None:
    file, name = INDEX[failure].split("::")
    assert f"def {name}(" in (ROOT / "tests" / file).read_text(), f"nothing holds: {failure}"


class Counting:
    """A workflow that counts how often it ran."""

    def __init__(self) -> None:
        self.runs: list[str | None] = []
        self.ended = threading.Event()

        @DBOS.workflow(name="field.counting")
        def counting() -> str:
            self.runs.append(DBOS.workflow_id)
            return "result"


def test_recovery_whose_list_is_stale_runs_nothing(launch: Launcher) -> None:
    """Another executor claims what it has found, before it claims itself."""
    counting = Counting()
    gate = PausingGate("claim_orphans", "begin")
    executor = launch(gate=gate)
    leave_behind(executor, "w", "field.counting")
    with ThreadPoolExecutor(1) as threads:
        recovering = threads.submit(executor.recovery.make_pass)
        gate.wait_until_reached()
        other = {"lease_id": executor.lease_id, "executor_id": "another", "application_version": "test"}
        (claimed,) = claim_orphans(executor.database, nonce="theirs", names=["field.counting"], limit=1, **other)
        assert claimed.workflow_id == "w"
        gate.go()
        assert recovering.result(30) == []
    assert counting.runs == []


def test_recovery_goes_on_after_its_connections_were_cut(
    launch_postgres: Launcher, postgres_admin: PostgresAdmin, postgres_url: str
) -> None:
    """Between its claim and the commit of that: whether it was committed, it finds out."""
    counting = Counting()
    gate = PausingGate("claim_orphans", "before_commit")
    executor = launch_postgres(gate=gate)
    ids = {f"w{number}" for number in range(20)}
    for workflow_id in ids:
        leave_behind(executor, workflow_id, "field.counting")
    executor.recovery.kick()
    gate.wait_until_reached()
    assert postgres_admin.terminate_connections(postgres_url) > 0
    gate.go()
    eventually(lambda: len(counting.runs) >= len(ids), "all are recovered")
    assert [DBOS.get_result(workflow_id) for workflow_id in ids] == ["result"] * len(ids)
    assert sorted(filter(None, counting.runs)) == sorted(ids), "each ran once"


def test_recovered_workflow_does_not_block_its_queue_of_one(launch: Launcher) -> None:
    """It goes back through its queue, and those behind it start when it has ended."""
    go, runs = threading.Event(), list[str]()
    queue = Queue("field.one", concurrency=1)

    @DBOS.workflow(name="field.queued")
    def queued(name: str) -> str:
        runs.append(name)
        assert name != "first" or go.wait(30)
        return name

    launch()
    handles = []
    for name in ("first", "second", "third"):
        with SetWorkflowID(name):
            handles.append(queue.enqueue(queued, name))
    eventually(lambda: runs == ["first"], "the first one runs")
    DBOS.destroy()
    QUEUES.clear()
    Queue("field.one", concurrency=1)
    launch()
    eventually(lambda: len(runs) == 2, "the first one is recovered")
    go.set()
    assert [DBOS.get_result(name) for name in ("first", "second", "third")] == ["first", "second", "third"]
    assert runs == ["first", "first", "second", "third"]


class Demanding(Exception):
    """Pickles, but does not unpickle: it is made from two arguments, and its `args` hold one."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


def test_exception_that_pickles_but_does_not_unpickle_is_still_an_error(launch: Launcher) -> None:
    """The workflow ends in ERROR, and whoever reads it gets an exception that names the original, also in replay."""
    caught: list[Exception] = []

    @DBOS.step(name="field.demanding.step")
    def step() -> None:
        raise Demanding(7, "seven")

    @DBOS.workflow(name="field.demanding")
    def demanding() -> None:
        try:
            step()
        except Exception as error:
            caught.append(error)
            raise

    launch()
    with SetWorkflowID("w"), pytest.raises(Demanding):
        demanding()
    assert DBOS.retrieve_workflow("w").get_status().status == "ERROR"
    DBOS.destroy()
    launch()
    for read in (lambda: DBOS.get_result("w"), demanding_again(demanding)):
        with pytest.raises(Exception, match="seven") as info:
            read()
        assert isinstance(info.value, Demanding | DBOSException)
    assert len(DBOS.list_workflow_steps("w")) == 1
    assert len(caught) == 1


def demanding_again(function: Any) -> Any:
    """Call it with its old id."""

    def call() -> None:
        with SetWorkflowID("w"):
            function()

    return call
