"""Many who wait at the same time: no threads, few connections, few queries, and nobody in the way of a shutdown."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy

from dbos import DBOS, SetWorkflowID, error
from tests.support.apps import App, in_threads
from tests.support.background import InBackground
from tests.support.looks import LooksGate
from tests.support.postgres import PostgresAdmin
from tests.verify.rows import query

FOREVER_S = 3600.0


class Arrivals:
    """Counts the workflows that are about to wait."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._count = 0

    def note(self) -> None:
        with self._changed:
            self._count += 1
            self._changed.notify_all()

    def wait_for(self, count: int) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: self._count >= count, 60), f"{self._count} of {count} arrived"


arrivals = Arrivals()


@DBOS.workflow(name="sleeper")
async def sleeper(seconds: float) -> str:
    arrivals.note()
    await DBOS.sleep_async(seconds)
    return "slept"


@DBOS.workflow(name="receiver")
async def receiver() -> Any:
    arrivals.note()
    return await DBOS.recv_async(timeout_seconds=FOREVER_S)


@DBOS.workflow(name="observer")
async def observer(workflow_id: str) -> Any:
    return await DBOS.get_event_async(workflow_id, "k", FOREVER_S)


@DBOS.workflow(name="blocked_receiver")
def blocked_receiver() -> Any:
    arrivals.note()
    return DBOS.recv(timeout_seconds=FOREVER_S)


@DBOS.workflow(name="announcer")
def announcer() -> None:
    DBOS.set_event("k", "announced")


@pytest.fixture
def app(database_url: str) -> Iterator[App]:
    """An application on a database of each kind, not launched yet."""
    global arrivals
    arrivals = Arrivals()
    yield App(database_url)
    DBOS.destroy()


def launch(app: App, **changes: Any) -> LooksGate:
    """Launch with a gate that counts."""
    DBOS(config=app.config(**changes))
    application: Any = DBOS._application  # pyright: ignore[reportPrivateUsage]
    application.gate = gate = LooksGate()
    application.renew_interval_s = 0.5
    DBOS.launch()
    return gate


@DBOS.workflow(name="crowd")
def crowd(receivers: int, sleepers: int, blocked: int = 0) -> None:
    """Starts so many children, whose ids end in their number, from 1: receivers first."""
    for _ in range(receivers):
        DBOS.start_workflow(receiver)
    for _ in range(sleepers):
        DBOS.start_workflow(sleeper, FOREVER_S)
    for _ in range(blocked):
        DBOS.start_workflow(blocked_receiver)


def start_crowd(receivers: int, sleepers: int, blocked: int = 0) -> None:
    """Let so many wait, for the messages and the time that never come; the coroutines on the library's event loop."""
    with SetWorkflowID("crowd"):
        DBOS.start_workflow(crowd, receivers, sleepers, blocked).get_result()
    arrivals.wait_for(receivers + sleepers + blocked)


# -- threads


async def test_ten_thousand_waiting_coroutines_hold_no_threads(app: App) -> None:
    launch(app)
    before = threading.active_count()

    async def start_receiver(number: int) -> Any:
        with SetWorkflowID(f"receiver-{number}"):
            return await DBOS.start_workflow_async(receiver)

    receivers = await asyncio.gather(*(start_receiver(number) for number in range(5000)))
    sleepers = await asyncio.gather(*(DBOS.start_workflow_async(sleeper, 1.0) for _ in range(5000)))
    await asyncio.to_thread(arrivals.wait_for, 10_000)
    during = threading.active_count()
    await asyncio.gather(*(DBOS.send_async(f"receiver-{number}", number) for number in range(5000)))
    results = await asyncio.gather(*(handle.get_result() for handle in [*receivers, *sleepers]))
    assert results == [*range(5000), *["slept"] * 5000]
    assert max(during, threading.active_count()) - before < 20


# -- shutdown


def test_shutdown_with_two_thousand_waiting_takes_less_than_a_second(app: App) -> None:
    """The workflows stay pending; callers outside are told."""
    launch(app)
    start_crowd(1000, 900, blocked=100)
    outside: list[InBackground[Any]] = [
        InBackground(DBOS.get_result, "crowd-1"),
        InBackground(DBOS.get_event, "crowd-1", "k", FOREVER_S),
        InBackground(list, DBOS.read_stream("crowd-1", "k")),
    ]
    begun = time.monotonic()
    DBOS.destroy()
    assert time.monotonic() - begun < 1
    for wait in outside:
        with pytest.raises(error.DBOSException):
            wait.result()
    statuses = "SELECT status, count(*) FROM {schema}workflow_status GROUP BY status ORDER BY status"
    assert query(app.url, statuses) == [("PENDING", 2000), ("SUCCESS", 1)]


# -- connections


def test_pool_of_two_connections_is_enough_for_hundreds_who_wait(app: App, request: pytest.FixtureRequest) -> None:
    """On Postgres there is one more connection, which listens."""
    launch(app, sys_db_pool_size=2)
    start_crowd(100, 100, blocked=100)
    observers = [DBOS.start_workflow(observer, "announcer") for _ in range(50)]
    outside = [InBackground(DBOS.get_event, "announcer", "k", FOREVER_S) for _ in range(20)]
    if app.url.startswith("postgres"):
        admin: PostgresAdmin = request.getfixturevalue("postgres_admin")
        ((connections,),) = admin.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = %s", (sqlalchemy.make_url(app.url).database,)
        )
        assert connections <= 3
    messages = {f"crowd-{number}": number for number in [*range(1, 101), *range(201, 301)]}
    in_threads([lambda id=id, number=number: DBOS.send(id, number) for id, number in messages.items()])  # type: ignore[misc]
    with SetWorkflowID("announcer"):
        announcer()
    assert [wait.result() for wait in outside] == ["announced"] * 20
    assert [handle.get_result() for handle in observers] == ["announced"] * 50
    assert {id: DBOS.get_result(id) for id in messages} == messages


# -- queries


@pytest.mark.parametrize("waiting", [0, 1000], ids=["nobody_waits", "a_thousand_wait"])
def test_idle_application_asks_its_database_seldom(app: App, waiting: int) -> None:
    """With the default poll interval, some times a second, however many wait; and to keep its lease."""
    gate = launch(app)
    start_crowd(waiting // 2, waiting // 2)
    gate.await_renewals(2)  # until all have looked for the first time
    begun, before = time.monotonic(), gate.looks().total()
    gate.await_renewals(4)
    assert (gate.looks().total() - before) / (time.monotonic() - begun) < 10
