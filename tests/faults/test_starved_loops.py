"""User code keeps the event loop for itself: what runs on the loop waits, and nothing else does."""

from __future__ import annotations

import threading

import pytest

from dbos import DBOS, SetWorkflowID
from tests.support.apps import App, eventually
from tests.verify.rows import query

pytestmark = pytest.mark.usefixtures("destroyed")


def test_coroutine_that_blocks_the_loop_holds_up_coroutines_only(database_url: str) -> None:
    """The lease is renewed, threads run, and nobody takes the process for dead; then the coroutines go on."""
    go = threading.Event()
    blocked = threading.Event()

    @DBOS.workflow(name="starved.blocking")
    async def blocking() -> str:
        blocked.set()
        assert go.wait(30)
        return "blocking"

    @DBOS.step(name="starved.step")
    def step() -> str:
        return "step"

    @DBOS.workflow(name="starved.threaded")
    def threaded() -> str:
        return step()

    @DBOS.workflow(name="starved.coroutine")
    async def coroutine() -> str:
        await DBOS.sleep_async(0.01)
        return "coroutine"

    App(database_url).launch(lease_timeout_sec=0.8)
    first = DBOS.start_workflow(blocking)
    assert blocked.wait(30)
    second = DBOS.start_workflow(coroutine)

    def renewals() -> int:
        return int(query(database_url, "SELECT renewals FROM {schema}executors")[0][0])

    since = renewals()
    assert DBOS.start_workflow(threaded).get_result() == "step"
    eventually(lambda: renewals() >= since + 5, "the lease outlives its time-out")
    assert query(database_url, "SELECT state FROM {schema}executors") == [("LIVE",)]
    assert second.get_status().status == "PENDING"
    go.set()
    assert (first.get_result(), second.get_result()) == ("blocking", "coroutine")


async def test_application_that_blocks_its_own_loop_misses_nothing(database_url: str) -> None:
    """What arrives meanwhile is there when it goes on."""

    @DBOS.workflow(name="starved.receiving")
    async def receiving() -> object:
        await DBOS.set_event_async("is", "there")
        return await DBOS.recv_async(timeout_seconds=30)

    App(database_url).launch()
    with SetWorkflowID("w"):
        handle = await DBOS.start_workflow_async(receiving)
    assert await DBOS.get_event_async("w", "is", 30) == "there"
    sender = threading.Thread(target=DBOS.send, args=("w", "message"))
    sender.start()
    sender.join(30)  # blocks the loop on which the workflow runs
    assert await handle.get_result() == "message"
