"""Threads that cannot be started, and tasks that never begin: nothing that is durable is lost by that."""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress

from dbos import DBOS, SetWorkflowID
from dbos.storage.journal import Journal
from dbos.storage.tickets import RunLog
from tests.regress.conftest import Launcher
from tests.support.apps import eventually, status_of
from tests.support.clock import ManualClock
from tests.support.executors import in_time, leave_behind, no_new_threads
from tests.support.storage import SUCCEEDED, checkpoint
from tests.support.stores import ScriptedStore


def test_recovery_goes_on_after_a_thread_could_not_be_started(launch_sqlite: Launcher) -> None:
    executor = launch_sqlite()
    executed = threading.Event()

    @DBOS.workflow(name="left_without_a_thread")
    def left() -> None:
        executed.set()

    eventually(lambda: not executor.recovery.is_under_way, "the pass of the launch is over")
    leave_behind(executor, "w", "left_without_a_thread")
    with no_new_threads(executor), suppress(RuntimeError):
        executor.look_after_runs()
    executor.look_after_runs()
    assert executed.wait(10), "nobody took it up"


def test_a_workflow_whose_thread_could_not_be_started_runs_later(launch: Launcher) -> None:
    executor = launch(renew_interval_s=0.05)

    @DBOS.workflow()
    def work() -> str:
        return "result"

    eventually(lambda: not executor.recovery.is_under_way, "the pass of the launch is over")
    with no_new_threads(executor), suppress(RuntimeError), SetWorkflowID("w"):
        DBOS.start_workflow(work)
    assert in_time(DBOS.retrieve_workflow("w").get_result) == "result"
    eventually(lambda: status_of("w") == "SUCCESS" and not executor._runs, "no run is left in memory")


def test_the_journals_thread_is_started_later_if_it_cannot_be_now(launch_sqlite: Launcher) -> None:
    """A checkpoint that was held back when no thread could be started is flushed nevertheless."""
    executor = launch_sqlite()
    clock, store = ManualClock(), ScriptedStore()
    journal = Journal(store, clock, 0.002)
    held, later = RunLog("held", "token"), RunLog("later", "token")
    with no_new_threads(executor), suppress(RuntimeError):
        journal.hold(held, checkpoint(1))
    with no_new_threads(executor), suppress(RuntimeError):
        journal.kick()
    journal.hold(later, checkpoint(1))
    eventually(lambda: clock.advance(0.002) or len(store.batches) >= 1, "something was flushed")
    eventually(lambda: (store.checkpoints("held"), store.checkpoints("later")) == ([1], [1]), "all was flushed")
    assert in_time(lambda: asyncio.run(_wait(journal))) == "PENDING"
    journal.close()


async def _wait(journal: Journal) -> str | None:
    return (await journal.submit(RunLog("async", "token"), outcome=SUCCEEDED).wait()).status


def test_a_task_cancelled_before_its_first_step_strands_nobody(launch: Launcher) -> None:
    """The event loop throws into a coroutine that has not begun, so nothing of the workflow's own can notice."""
    executor = launch()
    cancelled: list[str] = []

    @DBOS.workflow()
    async def work() -> str:
        return "result"

    async def start_and_cancel() -> str:
        handle = await DBOS.start_workflow_async(work)
        for task in asyncio.all_tasks():
            if task.get_name() == handle.workflow_id:
                task.cancel()
                cancelled.append(handle.workflow_id)
        return await handle.get_result()

    assert in_time(lambda: asyncio.run(start_and_cancel())) == "result"
    assert len(cancelled) == 1
    eventually(lambda: not executor._runs, "no run is left in memory")
