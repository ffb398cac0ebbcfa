"""The virtual clock: what is due happens at its time, in order, and without waiting."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from dbos import DBOS, Debouncer, Queue, SetWorkflowID, SetWorkflowTimeout, WorkflowHandle
from dbos.error import DBOSAwaitedWorkflowCancelledError, DBOSMaxStepRetriesExceeded
from dbos.storage.leases import read_live_leases
from dbos.testing import App, VirtualClock
from tests.support.apps import Roadblock, status_of, steps_of

HOUR_S = 3600.0
YEAR = timedelta(days=365)


def sleeper(is_async: bool, happened: list[Any]) -> Callable[..., Any]:
    """A workflow that sleeps a while, notes it, and again."""

    @DBOS.step(name="clock.note")
    def note(what: Any) -> None:
        happened.append(what)

    @DBOS.workflow(name="clock.sleeper")
    def sync_sleeper(name: str, seconds: float, times: int) -> str:
        for number in range(times):
            DBOS.sleep(seconds)
            note((name, number))
        return name

    @DBOS.workflow(name="clock.async_sleeper")
    async def async_sleeper(name: str, seconds: float, times: int) -> str:
        for number in range(times):
            await DBOS.sleep_async(seconds)
            note((name, number))
        return name

    return async_sleeper if is_async else sync_sleeper


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
def test_sleep_ends_at_its_millisecond_and_not_before(clock: VirtualClock, is_async: bool) -> None:
    happened: list[Any] = []
    handle: WorkflowHandle[str] = DBOS.start_workflow(sleeper(is_async, happened), "one", HOUR_S, 1)
    clock.advance(HOUR_S - 0.001)
    assert not happened
    assert handle.get_status().status == "PENDING"
    clock.advance(0.001)
    assert happened == [("one", 0)]
    assert handle.get_status().status == "SUCCESS"
    assert handle.get_result() == "one"


def test_sleeps_end_in_the_order_of_their_times_however_far_time_moves(clock: VirtualClock) -> None:
    happened: list[Any] = []
    for name, hours, times, is_async in (("a", 3, 4, False), ("b", 2.5, 4, True), ("c", 11, 1, False)):
        DBOS.start_workflow(sleeper(is_async, happened), name, hours * HOUR_S, times)
        clock.settle()
    clock.advance(timedelta(hours=12))
    assert happened == [
        *[("b", 0), ("a", 0), ("b", 1), ("a", 1), ("b", 2)],
        *[("a", 2), ("b", 3), ("c", 0), ("a", 3)],
    ]


def test_sum_of_fractions_comes_due(clock: VirtualClock) -> None:
    happened: list[Any] = []
    DBOS.start_workflow(sleeper(False, happened), "tenths", 0.1, 10)
    clock.advance(0.7)
    assert len(happened) == 7
    for _ in range(3):
        clock.advance(0.1)
    assert len(happened) == 10


def test_messages_and_their_timeouts(clock: VirtualClock) -> None:
    @DBOS.workflow()
    def listener() -> list[Any]:
        return [DBOS.recv("news", timeout_seconds=60) for _ in range(3)]

    handle = DBOS.start_workflow(listener)
    clock.advance(59.999)
    DBOS.send(handle.workflow_id, "first", "news")
    clock.advance(59.999)
    DBOS.send(handle.workflow_id, "second", "news")
    clock.advance(60)
    assert handle.get_result() == ["first", "second", None]


def test_events_and_their_timeouts(clock: VirtualClock) -> None:
    @DBOS.workflow()
    async def publisher() -> None:
        await DBOS.sleep_async(30)
        await DBOS.set_event_async("key", "value")

    @DBOS.workflow()
    def reader(timeout_s: float) -> Any:
        return DBOS.get_event("publisher", "key", timeout_seconds=timeout_s)

    with SetWorkflowID("publisher"):
        DBOS.start_workflow(publisher)
    too_short, long_enough = DBOS.start_workflow(reader, 29.999), DBOS.start_workflow(reader, 30.001)
    clock.advance(60)
    assert too_short.get_result() is None
    assert long_enough.get_result() == "value"


def test_pauses_between_attempts(clock: VirtualClock) -> None:
    at: list[datetime] = []

    @DBOS.step(retries_allowed=True, max_attempts=4, interval_seconds=10, backoff_rate=2)
    def fail() -> None:
        at.append(clock.now())
        raise ConnectionError

    @DBOS.workflow()
    def failing() -> None:
        fail()

    handle = DBOS.start_workflow(failing)
    began = clock.now()
    clock.advance(HOUR_S)
    assert [(time - began).total_seconds() for time in at] == [0, 10, 30, 70]
    with pytest.raises(DBOSMaxStepRetriesExceeded):
        handle.get_result()


def test_timeouts_of_workflows_reach_their_children(clock: VirtualClock) -> None:
    happened: list[Any] = []
    child = sleeper(False, happened)

    @DBOS.workflow()
    def parent() -> None:
        child("child", 40, 2)

    with SetWorkflowTimeout(60), SetWorkflowID("parent"):
        handle = DBOS.start_workflow(parent)
    clock.advance(59.999)
    assert handle.get_status().status == "PENDING"
    clock.advance(0.001)
    assert (status_of("parent"), status_of("parent-1")) == ("CANCELLED", "CANCELLED")
    assert happened == [("child", 0)]
    with pytest.raises(DBOSAwaitedWorkflowCancelledError):
        handle.get_result()


def test_timeout_of_an_enqueued_workflow_begins_with_its_start(clock: VirtualClock) -> None:
    queue = Queue("one-by-one", concurrency=1)
    work = sleeper(True, [])
    with SetWorkflowTimeout(60):
        handles = [queue.enqueue(work, str(number), 50, 1) for number in range(2)]
    clock.advance(110)
    assert [handle.get_result() for handle in handles] == ["0", "1"]


def test_rate_limits(clock: VirtualClock) -> None:
    at: list[datetime] = []
    queue = Queue("rare", limiter={"limit": 2, "period": HOUR_S})

    @DBOS.workflow()
    def work() -> None:
        DBOS.run_step({"name": "note"}, lambda: at.append(clock.now()))

    began = clock.now()
    for _ in range(5):
        queue.enqueue(work)
    clock.settle()
    assert len(at) == 2
    clock.advance(timedelta(hours=3))
    assert [round((time - began).total_seconds() / HOUR_S, 2) for time in at] == [0, 0, 1, 1, 2]


def test_debounced_workflow_starts_when_its_calls_have_stopped(clock: VirtualClock) -> None:
    @DBOS.workflow()
    def save(text: str) -> str:
        return text

    debouncer = Debouncer.create(save)
    debouncer.debounce("key", 60, "a")
    clock.advance(40)
    handle = debouncer.debounce("key", 60, "b")
    clock.advance(59)
    assert handle.get_status().status in ("ENQUEUED", "DELAYED")
    clock.advance(1.001)
    assert handle.get_result() == "b"


def test_schedule_fires_at_each_of_its_times_in_order(app: App, clock: VirtualClock) -> None:
    fired: list[tuple[datetime, datetime]] = []

    @DBOS.workflow()
    def report(scheduled_at: datetime, context: Any) -> None:
        DBOS.run_step({"name": "note"}, lambda: fired.append((scheduled_at, clock.now())))

    DBOS.create_schedule(schedule_name="reports", workflow_fn=report, schedule="0 */6 * * *", context=None)
    clock.advance_to(datetime(2026, 1, 1, 5, 59, 59))
    assert not fired
    clock.advance_to(datetime(2026, 1, 3))
    times = [datetime(2026, 1, 1, tzinfo=timezone.utc) + timedelta(hours=6 * number) for number in range(1, 9)]
    assert [scheduled_at for scheduled_at, _ in fired] == times
    assert all(timedelta(0) <= now - scheduled_at < timedelta(seconds=1) for scheduled_at, now in fired)


def test_recorded_times_are_virtual(clock: VirtualClock) -> None:
    happened: list[Any] = []
    handle = DBOS.start_workflow(sleeper(False, happened), "timed", HOUR_S, 1)
    began_ms = clock.now_ms()
    clock.advance(HOUR_S)
    status = handle.get_status()
    assert (status.created_at, status.updated_at) == (began_ms, began_ms + HOUR_S * 1000)
    sleep, note = DBOS.list_workflow_steps(handle.workflow_id)
    assert sleep["started_at_epoch_ms"] == began_ms
    assert note["started_at_epoch_ms"] == note["completed_at_epoch_ms"] == began_ms + HOUR_S * 1000


def test_lease_outlives_years(app: App, clock: VirtualClock) -> None:
    happened: list[Any] = []
    handle = DBOS.start_workflow(sleeper(False, happened), "patient", YEAR.total_seconds(), 2)
    lease = app.executor.lease
    clock.advance(2 * YEAR)
    app.executor._keeper.renew_and_look()  # pyright: ignore[reportPrivateUsage]
    assert app.executor.lease is lease
    assert [live.lease_id for live in read_live_leases(app.executor.database, "")] == [lease.lease_id]
    assert handle.get_result() == "patient"
    assert handle.get_status().recovery_attempts == 1


def test_restart_goes_on_with_the_time_that_is_left(app: App, clock: VirtualClock) -> None:
    happened: list[Any] = []
    with SetWorkflowID("restarted"):
        DBOS.start_workflow(sleeper(True, happened), "restarted", HOUR_S, 1)
    clock.advance(HOUR_S - 10)
    app.relaunch()
    clock.advance(9.999)
    assert not happened
    clock.advance(0.001)
    assert happened == [("restarted", 0)]
    assert steps_of("restarted") == [(1, "DBOS.sleep"), (2, "clock.note")]


def test_time_waits_for_steps_and_says_which_it_waits_for(clock: VirtualClock) -> None:
    roadblock = Roadblock()

    @DBOS.step(name="slow_step")
    def slow() -> None:
        roadblock.stop()

    @DBOS.workflow()
    def slow_workflow() -> None:
        slow()
        DBOS.sleep(60)

    with SetWorkflowID("slow"):
        handle = DBOS.start_workflow(slow_workflow)
    roadblock.wait_until_reached()
    before = clock.now()
    with pytest.raises(TimeoutError, match=r"within 0\.05 s.*workflow 'slow' .*in step slow_step"):
        clock.advance(60, patience_s=0.05)
    assert clock.now() == before
    roadblock.open()
    clock.advance(60)
    assert handle.get_status().status == "SUCCESS"


def test_time_moves_forward_only(app: App, clock: VirtualClock) -> None:
    for wrong in (-1, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="moves forward only"):
            clock.advance(wrong)
    with pytest.raises(ValueError, match="2026-01-01T00:00:00"):
        clock.advance_to(datetime(2025, 12, 31))
    with pytest.raises(RuntimeError, match="freeze"):
        clock.set(datetime(2025, 1, 1))
    assert app.freeze(datetime(2025, 1, 1)) is clock
    assert clock.now() == datetime(2025, 1, 1, tzinfo=timezone.utc)


async def test_workflows_on_the_loop_of_the_test(clock: VirtualClock) -> None:
    happened: list[Any] = []
    handle = await DBOS.start_workflow_async(sleeper(True, happened), "on the loop", HOUR_S, 2)
    with pytest.raises(RuntimeError, match="advance_async"):
        clock.advance(1)
    await clock.advance_async(2 * HOUR_S - 0.001)
    assert happened == [("on the loop", 0)]
    await clock.advance_to_async(datetime(2026, 1, 1, 2))
    assert await handle.get_result() == "on the loop"


def test_gathered_branches_go_on_to_their_next_wait(clock: VirtualClock) -> None:
    order: list[str] = []

    @DBOS.workflow()
    async def gathering() -> list[str]:
        async def branch(name: str, *sleeps: float) -> str:
            for seconds in sleeps:
                await DBOS.sleep_async(seconds)
                await asyncio.sleep(0)
                order.append(f"{name}{seconds:g}")
            return name

        first = await asyncio.gather(branch("a", 10, 20), branch("b", 15, 10))
        return [*first, await branch("c", 1)]

    handle = DBOS.start_workflow(gathering)
    clock.advance(31)
    assert handle.get_status().status == "SUCCESS"
    assert order == ["a10", "b15", "b10", "a20", "c1"]


def test_skipping_lets_results_be_waited_for(clock: VirtualClock) -> None:
    happened: list[Any] = []
    began = clock.now()
    with clock.skipping():
        assert sleeper(False, happened)("called", HOUR_S, 24) == "called"
        assert DBOS.start_workflow(sleeper(True, happened), "started", HOUR_S, 24).get_result() == "started"
    assert clock.now() - began == timedelta(hours=48)
    after = clock.now()
    waiting = DBOS.start_workflow(sleeper(False, happened), "waits", 1, 1)
    clock.settle()
    assert clock.now() == after
    assert waiting.get_status().status == "PENDING"


def test_workflow_that_holds_up_its_test_is_told_of(
    clock: VirtualClock, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dbos.testing.clock.PATIENCE_S", 0.01)
    is_told = threading.Event()
    handler = logging.Handler()
    handler.emit = lambda record: is_told.set()  # type: ignore[method-assign]
    logger = logging.getLogger("dbos")
    logger.addHandler(handler)

    def move_then() -> None:
        assert is_told.wait(30)
        clock.advance(60)

    mover = threading.Thread(target=move_then)
    mover.start()
    try:
        assert sleeper(False, [])("called", 60, 1) == "called"
    finally:
        logger.removeHandler(handler)
        mover.join()
    assert "Call it in `with dbos_clock.skipping():`" in caplog.text


def test_parent_that_waits_for_its_child_is_no_hindrance(clock: VirtualClock) -> None:
    happened: list[Any] = []
    is_over = threading.Event()

    @DBOS.workflow()
    def sync_parent(is_async: bool) -> str:
        child = sleeper(is_async, happened)
        return str(DBOS.start_workflow(child, "child", 60, 2).get_result() if is_async else child("child", 60, 2))

    for is_async in (False, True):
        handle = DBOS.start_workflow(sync_parent, is_async)
        clock.advance(120)
        assert handle.get_status().status == "SUCCESS"
    assert len(happened) == 4
    assert not is_over.is_set()
