"""Clocks jump by an hour, forwards and backwards, again and again."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from dbos import DBOS, SetWorkflowID, SetWorkflowTimeout
from dbos.model.clock import SystemClock
from dbos.runtime.executor import Executor
from tests.support.apps import App, eventually, status_of
from tests.support.busy import STEPS, Busy
from tests.verify.rows import query

pytestmark = pytest.mark.usefixtures("destroyed")

HOUR_S = 3600
JUMPS_S = (HOUR_S, -HOUR_S, -HOUR_S, HOUR_S)


class JumpingClock(SystemClock):
    """The machine's clock, whose time somebody sets; what measures durations does not jump."""

    def __init__(self) -> None:
        self.offset_s = 0

    def now_ms(self) -> int:
        return super().now_ms() + self.offset_s * 1000


def launch(app: App, clock: JumpingClock) -> Executor:
    """With a lease that would be lost within a second, were it not renewed."""
    DBOS(config=app.config(lease_timeout_sec=0.8))
    application = DBOS._application
    assert application is not None
    application.clock = clock
    DBOS.launch()
    assert application.executor is not None
    return application.executor


def jump_database(executor: Executor) -> Callable[[int], None]:
    """Returns what sets the clock of the database, as far as the library asks it."""
    database = executor.database
    true_time = database.clock_expression

    def jump(offset_s: int) -> None:
        database.clock_expression = f"({true_time} + ({offset_s * 1000}))"
        database._compiled.clear()

    return jump


def test_jumps_of_the_machines_clock_change_no_deadline(database_url: str) -> None:
    """Whoever has half an hour left still has it, whoever sleeps wakes, and nobody is taken for dead."""
    clock = JumpingClock()

    @DBOS.workflow(name="clocks.patient")
    def patient() -> object:
        return DBOS.recv(timeout_seconds=HOUR_S / 2)

    @DBOS.workflow(name="clocks.sleeping")
    def sleeping() -> str:
        DBOS.sleep(0.3)
        return "slept"

    executor = launch(App(database_url), clock)
    lease_id = executor.lease_id
    with SetWorkflowID("patient"), SetWorkflowTimeout(HOUR_S / 2):
        handle = DBOS.start_workflow(patient)
    for jump_s in JUMPS_S:
        sleeper = DBOS.start_workflow(sleeping)
        clock.offset_s += jump_s
        assert sleeper.get_result() == "slept"
        assert DBOS.start_workflow(sleeping).get_result() == "slept"
        assert status_of("patient") == "PENDING"
    DBOS.send("patient", "message")
    assert handle.get_result() == "message"
    assert query(database_url, "SELECT lease_id, state FROM {schema}executors") == [(lease_id, "LIVE")]


@pytest.mark.parametrize("whose", ["process", "database"])
def test_workflows_outlast_jumps_of_clocks(database_url: str, whose: str) -> None:
    busy = Busy(database_url, workflows=20, queue=True)
    clock = JumpingClock()
    executor = launch(App(database_url), clock)
    lease_id = executor.lease_id
    jump_database_to = jump_database(executor)
    handles = busy.start()
    offset_s = 0
    for number, jump_s in enumerate(JUMPS_S * 2, 1):
        busy.wait_for(number * STEPS)
        offset_s += jump_s
        if whose == "process":
            clock.offset_s = offset_s
        else:
            jump_database_to(offset_s)
    busy.finish(handles)
    renewals = "SELECT renewals FROM {schema}executors WHERE state = 'LIVE' AND lease_id = '%s'"
    before = query(database_url, renewals % lease_id)[0][0]
    eventually(lambda: query(database_url, renewals % lease_id)[0][0] > before, "the lease is still renewed")
