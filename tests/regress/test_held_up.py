"""A session that somebody left open in a transaction: it holds up the workflow that it locks, and no other."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pytest

from dbos import DBOS, SetWorkflowID
from tests.regress.conftest import Launcher
from tests.support.apps import eventually

LOCKS_LAST_S = 3.0
"""See `dbos.storage.postgres`."""


@contextmanager
def idle_in_transaction(url: str, workflow_id: str) -> Iterator[psycopg.Connection]:
    """Someone has changed the workflow's row, and went to lunch before the commit."""
    with psycopg.connect(url) as session:
        session.execute(
            "UPDATE dbos.workflow_status SET authenticated_user = 'x' WHERE workflow_uuid = %s", (workflow_id,)
        )
        yield session
        session.rollback()


class Locked:
    """A workflow `w` of four steps that stands between its first and its second until it may go on."""

    def __init__(self) -> None:
        self.go, self.steps = threading.Event(), list[int]()

        @DBOS.step(name="held_up.step")
        def step(number: int) -> int:
            if DBOS.workflow_id == "w":
                self.steps.append(number)
            return number

        @DBOS.workflow(name="held_up.locked")
        def locked() -> list[int]:
            first = step(1)
            DBOS.set_event("stands", True)
            assert self.go.wait(60)
            return [first, step(2), step(3), step(4)]

        @DBOS.workflow(name="held_up.other")
        def other() -> list[int]:
            return [step(1), step(2)]

        self.locked, self.other = locked, other

    def start(self) -> None:
        with SetWorkflowID("w"):
            DBOS.start_workflow(self.locked)
        assert DBOS.get_event("w", "stands", 30) is True


def test_workflow_whose_row_is_locked_holds_up_no_other(launch_postgres: Launcher, postgres_url: str) -> None:
    workflows = Locked()
    launch_postgres()
    workflows.start()
    with idle_in_transaction(postgres_url, "w"):
        workflows.go.set()
        eventually(lambda: 2 in workflows.steps, "its second step runs")
        began = time.monotonic()
        for _ in range(20):
            handles = [DBOS.start_workflow(workflows.other) for _ in range(5)]
            assert [handle.get_result() for handle in handles] == [[1, 2]] * 5
        assert time.monotonic() - began < LOCKS_LAST_S * 3, "the others waited at most once"
        assert DBOS.retrieve_workflow("w").get_status().status == "PENDING"
        assert workflows.steps == [1, 2], "what is recorded next has to wait"
    assert DBOS.get_result("w") == [1, 2, 3, 4]
    assert workflows.steps == [1, 2, 3, 4]


def test_shutdown_does_not_wait_for_a_locked_workflow(launch_postgres: Launcher, postgres_url: str) -> None:
    """The next launch goes on with it."""
    workflows = Locked()
    launch_postgres()
    workflows.start()
    with idle_in_transaction(postgres_url, "w"):
        workflows.go.set()
        eventually(lambda: 2 in workflows.steps, "its second step runs")
        assert DBOS.start_workflow(workflows.other).get_result() == [1, 2]
        began = time.monotonic()
        DBOS.destroy()
        assert time.monotonic() - began < LOCKS_LAST_S * 3, "it does not wait for the end of the lock"
    launch_postgres()
    assert DBOS.get_result("w") == [1, 2, 3, 4]
    assert workflows.steps[0] == 1
    assert workflows.steps.count(1) == 1


@pytest.mark.parametrize("count", [20])
async def test_coroutines_whose_rows_are_locked_hold_up_no_other(
    launch_postgres: Launcher, postgres_url: str, count: int
) -> None:
    """Nor do they need a leader: the journal's thread commits for all of them."""
    go = threading.Event()

    @DBOS.step(name="held_up.step_async")
    async def step(number: int) -> int:
        return number

    @DBOS.workflow(name="held_up.locked_async")
    async def locked() -> list[int]:
        first = await step(1)
        await DBOS.set_event_async("stands", True)
        while not go.is_set():
            await DBOS.sleep_async(0.01)
        return [first, await step(2)]

    @DBOS.workflow(name="held_up.other_async")
    async def other() -> list[int]:
        return [await step(1), await step(2)]

    launch_postgres()
    with SetWorkflowID("w"):
        handle = await DBOS.start_workflow_async(locked)
    assert await DBOS.get_event_async("w", "stands", 30) is True
    with idle_in_transaction(postgres_url, "w"):
        go.set()
        for _ in range(count):
            assert await (await DBOS.start_workflow_async(other)).get_result() == [1, 2]
    assert await handle.get_result() == [1, 2]
