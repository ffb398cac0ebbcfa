"""Durable sleep: never too short, continued after a restart, ended by a cancellation, cheap."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, cast

import pytest

from dbos import DBOS, SetWorkflowID, WorkflowHandle, error
from tests.support.apps import PATIENCE_S, App, Roadblock, eventually, interrupt_at, status_of, steps_of
from tests.support.processes import Spawner
from tests.support.waking import Body, UnpolledApp, wait_until_idle

HOUR_S = 3600.0
SHORT_S = [0.001, 0.0137, 0.05, 0.1, 0]
BAD_SECONDS: list[tuple[Any, type[Exception]]] = [
    (-1, ValueError),
    (-0.001, ValueError),
    (float("nan"), ValueError),
    (float("inf"), ValueError),
    (float("-inf"), ValueError),
    (101 * 366 * 24 * HOUR_S, ValueError),
    (1e300, ValueError),
    (10**400, ValueError),
    ("1", TypeError),
    (None, TypeError),
    ([1], TypeError),
]


@pytest.fixture
def app(database_url: str) -> Iterator[App]:
    """An application that does not poll: each sleeper is woken."""
    application = UnpolledApp(database_url)
    application.launch()
    yield application
    DBOS.destroy()


def test_sleeps_at_least_that_long(app: App) -> None:
    """And not absurdly longer, in a thread and in a coroutine; each sleep is one recorded step."""
    sleeps: list[tuple[float, float]] = []

    @DBOS.workflow()
    def workflow() -> str:
        for seconds in SHORT_S:
            began = time.monotonic()
            DBOS.sleep(seconds)
            sleeps.append((seconds, time.monotonic() - began))
        return "awake"

    @DBOS.workflow()
    async def coroutine() -> str:
        for seconds in SHORT_S:
            began = time.monotonic()
            await DBOS.sleep_async(seconds)
            sleeps.append((seconds, time.monotonic() - began))
        return "awake"

    for workflow_id, function in (("w", workflow), ("c", coroutine)):
        with SetWorkflowID(workflow_id):
            assert DBOS.start_workflow(cast(Any, function)).get_result() == "awake"
        assert steps_of(workflow_id) == [(number + 1, "DBOS.sleep") for number in range(len(SHORT_S))]
    assert len(sleeps) == 2 * len(SHORT_S)
    for asked, slept in sleeps:
        assert asked <= slept < asked + 5


def test_sleepers_wake_in_the_order_of_their_times(app: App) -> None:
    """Whatever the order in which they fell asleep; a short sleeper is not kept by a long one."""
    order: list[int] = []

    @DBOS.workflow()
    def workflow(tenths: int) -> None:
        DBOS.sleep(tenths / 10)
        order.append(tenths)

    @DBOS.workflow()
    async def coroutine(tenths: int) -> None:
        await DBOS.sleep_async(tenths / 10)
        order.append(tenths)

    functions: list[Any] = [workflow, coroutine]
    handles = [DBOS.start_workflow(functions[tenths % 4 // 2], tenths) for tenths in (8, 6, 4, 2)]
    for handle in handles:
        handle.get_result()
    assert order == [2, 4, 6, 8]


async def test_gathered_sleeps_pass_together(app: App) -> None:
    """And `wait_for` around one times out as around any coroutine; the workflow goes on."""

    @DBOS.workflow()
    async def workflow() -> float:
        began = time.monotonic()
        await asyncio.gather(*(DBOS.sleep_async(0.5) for _ in range(10)))
        passed = time.monotonic() - began
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(cast(Any, DBOS.sleep_async(HOUR_S)), 0.05)
        await DBOS.sleep_async(0)
        return passed

    with SetWorkflowID("w"):
        passed = await asyncio.wait_for(workflow(), PATIENCE_S)
    assert 0.5 <= passed < 10 * 0.5
    numbers = [step["function_id"] for step in await DBOS.list_workflow_steps_async("w")]
    assert set(numbers) >= {*range(1, 11), 12}


@pytest.mark.parametrize("is_async", [False, True])
def test_interrupted_sleep_continues_with_the_time_that_is_left(app: App, is_async: bool) -> None:
    """It is interrupted twice while it sleeps, and once after it: then it does not sleep again."""
    seconds, roadblock = 1.5, Roadblock()
    begun: list[float] = []
    awake: list[float] = []

    @DBOS.step()
    def wait() -> None:
        roadblock.stop()

    @DBOS.workflow()
    def workflow() -> None:
        begun.append(time.monotonic())
        DBOS.sleep(seconds)
        awake.append(time.monotonic())
        wait()

    @DBOS.step()
    async def wait_async() -> None:
        await roadblock.stop_async()

    @DBOS.workflow()
    async def coroutine() -> None:
        begun.append(time.monotonic())
        await DBOS.sleep_async(seconds)
        awake.append(time.monotonic())
        await wait_async()

    with SetWorkflowID("w"):
        DBOS.start_workflow(cast(Any, coroutine if is_async else workflow))
    for interruption in (1, 2):
        eventually(lambda: steps_of("w") == [(1, "DBOS.sleep")], "the sleep is recorded")
        DBOS.destroy()
        # Time passes while nothing runs: the subject of this test.
        eventually(lambda n=interruption: time.monotonic() > begun[0] + n * seconds / 3, "a third of it has passed")  # type: ignore[misc]
        app.launch()
        eventually(lambda n=interruption: len(begun) == n + 1, "it is recovered")  # type: ignore[misc]
    interrupt_at(roadblock, app)
    DBOS.get_result("w")
    assert (len(begun), len(awake)) == (4, 2), "it has woken once in its third run, once in its last one"
    assert awake[0] - begun[0] >= seconds
    assert awake[0] - begun[2] < seconds, "in its third run it has slept the rest"
    assert awake[1] - begun[3] < seconds, "in its last run it has not slept"


def test_sleeper_outlives_the_event_loop_it_was_started_on(app: App) -> None:
    """It sleeps on elsewhere in the process, for what is left, and nothing is recorded twice."""
    seconds, begun, awake = 0.6, list[float](), list[float]()

    @DBOS.workflow()
    async def coroutine() -> str:
        begun.append(time.monotonic())
        await DBOS.sleep_async(seconds)
        awake.append(time.monotonic())
        return "awake"

    async def start() -> None:
        with SetWorkflowID("w"):
            await DBOS.start_workflow_async(coroutine)
        while not await DBOS.list_workflow_steps_async("w"):
            await asyncio.sleep(0.001)
        await asyncio.sleep(seconds / 2)

    asyncio.run(start())
    assert DBOS.get_result("w") == "awake"
    assert len(begun) > len(awake) == 1
    assert awake[0] - begun[0] >= seconds
    assert awake[0] - begun[-1] < seconds
    assert steps_of("w") == [(1, "DBOS.sleep")]


SLEEPER = """
    import sys
    from dbos import DBOS, SetWorkflowID

    @DBOS.workflow(name="killed-sleeper")
    def sleeper(seconds):
        DBOS.sleep(seconds)
        return "awake"

    DBOS(config={"name": "app", "system_database_url": sys.argv[1], "application_version": "test",
                 "run_admin_server": False})
    DBOS.launch()
    for name, seconds in (("short", 1), ("long", 3600)):
        with SetWorkflowID(name):
            DBOS.start_workflow(sleeper, seconds)
    while len(DBOS.list_workflow_steps("short") + DBOS.list_workflow_steps("long")) < 2:
        pass
    print("asleep", flush=True)
    sys.stdin.readline()
"""


def test_sleeper_whose_process_was_killed_wakes_on_schedule_elsewhere(app: App, spawn: Spawner) -> None:
    """One at its time, however the kill fell; the other one sleeps on, until it is cancelled."""
    begun: set[str | None] = set()

    @DBOS.workflow(name="killed-sleeper")
    def sleeper(seconds: float) -> str:
        begun.add(DBOS.workflow_id)
        DBOS.sleep(seconds)
        return "awake"

    DBOS.destroy()
    child = spawn(SLEEPER, app.url)
    child.wait_for_line("asleep")
    child.kill()
    app.launch()
    assert DBOS.get_result("short") == "awake"
    eventually(lambda: "long" in begun, "the other one is recovered, too")
    assert status_of("long") == "PENDING"
    DBOS.cancel_workflow("long")
    wait_until_idle()
    assert status_of("long") == "CANCELLED"


async def test_sleep_in_a_step_is_plain(app: App) -> None:
    """It sleeps, and nothing is recorded apart from the step."""

    @DBOS.step(name="step")
    def step() -> float:
        began = time.monotonic()
        DBOS.sleep(0.05)
        return time.monotonic() - began

    @DBOS.step(name="step")
    async def step_async() -> float:
        began = time.monotonic()
        await DBOS.sleep_async(0.05)
        return time.monotonic() - began

    @DBOS.workflow()
    def workflow() -> float:
        return step()

    @DBOS.workflow()
    async def coroutine() -> float:
        return await step_async()

    with SetWorkflowID("w"):
        assert await asyncio.to_thread(workflow) >= 0.05
    with SetWorkflowID("c"):
        assert await coroutine() >= 0.05
    for workflow_id in ("w", "c"):
        assert [step["function_name"] for step in await DBOS.list_workflow_steps_async(workflow_id)] == ["step"]


def test_sleep_outside_of_workflows_is_refused(sqlite_app: App) -> None:
    with pytest.raises(error.DBOSException, match=r"DBOS\.sleep.*workflow"):
        DBOS.sleep(0)
    with pytest.raises(error.DBOSException, match=r"DBOS\.sleep_async.*workflow"):
        asyncio.run(cast(Any, DBOS.sleep_async(0)))


def test_nonsense_durations_are_refused_at_once(app: App) -> None:
    """By name and value, sync and async; `int` and `float` are fine."""

    @DBOS.workflow()
    def workflow() -> None:
        for seconds, kind in BAD_SECONDS:
            with pytest.raises(kind, match="seconds"):
                DBOS.sleep(seconds)
        DBOS.sleep(0)

    @DBOS.workflow()
    async def coroutine() -> None:
        for seconds, kind in BAD_SECONDS:
            with pytest.raises(kind, match="seconds"):
                await DBOS.sleep_async(seconds)
        await DBOS.sleep_async(0.0)

    for function in (workflow, coroutine):
        DBOS.start_workflow(cast(Any, function)).get_result()


async def test_blocking_sleep_in_a_coroutine_names_its_async_twin(sqlite_app: App) -> None:
    @DBOS.workflow()
    async def workflow() -> None:
        with pytest.raises(RuntimeError, match=r"DBOS\.sleep_async"):
            DBOS.sleep(0)

    await workflow()


def test_longest_sleeps_begin_and_are_cancelled_at_once(app: App) -> None:
    """A century, in a thread and in a coroutine: the bodies are woken, and none of their further steps run."""
    bodies, ran = {"w": Body(), "c": Body()}, list[str]()

    @DBOS.step()
    def never() -> None:
        ran.append("step")

    @DBOS.workflow()
    def workflow() -> None:
        with bodies["w"].watched():
            DBOS.sleep(100 * 365 * 24 * 3600)
        never()

    @DBOS.workflow()
    async def coroutine() -> None:
        with bodies["c"].watched():
            await DBOS.sleep_async(HOUR_S)
        await asyncio.to_thread(never)

    for workflow_id, function in (("w", workflow), ("c", coroutine)):
        with SetWorkflowID(workflow_id):
            handle: WorkflowHandle[None] = DBOS.start_workflow(cast(Any, function))
        eventually(lambda i=workflow_id: steps_of(i), "the sleep is recorded")  # type: ignore[misc]
        DBOS.cancel_workflow(workflow_id)
        assert isinstance(bodies[workflow_id].wait(), error.DBOSWorkflowCancelledError)
        with pytest.raises(error.DBOSAwaitedWorkflowCancelledError):
            handle.get_result()
    wait_until_idle()
    assert ran == []
    for workflow_id in ("w", "c"):
        assert status_of(workflow_id) == "CANCELLED"
        assert steps_of(workflow_id) == [(1, "DBOS.sleep")]


@pytest.mark.parametrize("is_async", [False, True])
def test_resumed_sleeper_sleeps_no_longer_than_it_was_to(app: App, is_async: bool) -> None:
    """Cancelled in its sleep and resumed when that would have been over, it wakes at once."""
    seconds, begun, awake = 0.5, list[float](), list[float]()

    @DBOS.workflow()
    def workflow() -> str:
        begun.append(time.monotonic())
        DBOS.sleep(seconds)
        awake.append(time.monotonic())
        return "awake"

    @DBOS.workflow()
    async def coroutine() -> str:
        begun.append(time.monotonic())
        await DBOS.sleep_async(seconds)
        awake.append(time.monotonic())
        return "awake"

    with SetWorkflowID("w"):
        DBOS.start_workflow(cast(Any, coroutine if is_async else workflow))
    eventually(lambda: steps_of("w") == [(1, "DBOS.sleep")], "the sleep is recorded")
    DBOS.cancel_workflow("w")
    wait_until_idle()
    # Time passes while nothing runs: the subject of this test.
    eventually(lambda: time.monotonic() > begun[0] + seconds, "the sleep would be over")
    assert DBOS.resume_workflow("w").get_result() == "awake"
    assert (len(begun), len(awake)) == (2, 1)
    assert awake[0] - begun[1] < seconds


async def test_five_hundred_sleeping_coroutines_hold_no_threads(app: App) -> None:
    """Started on the caller's loop and on the library's own; the end of the application does not wait for them."""
    asleep = 0

    @DBOS.workflow()
    async def workflow(seconds: float) -> float:
        nonlocal asleep
        asleep += 1
        await DBOS.sleep_async(seconds)
        return seconds

    handle = await DBOS.start_workflow_async(workflow, 0.001)
    assert await handle.get_result() == 0.001
    threads = threading.active_count()
    awake = [await DBOS.start_workflow_async(workflow, 0.5) for _ in range(250)]
    assert [await handle.get_result() for handle in awake] == [0.5] * 250
    for _ in range(250):
        await DBOS.start_workflow_async(workflow, HOUR_S)
    await asyncio.to_thread(_start_many, workflow, 250)
    await asyncio.to_thread(eventually, lambda: asleep == 751, "all have begun")
    sleepers = await DBOS.list_workflows_async(status="PENDING")
    assert len(sleepers) == 500
    await asyncio.to_thread(eventually, lambda: steps_of(sleepers[-1].workflow_id), "the last one sleeps")
    assert threading.active_count() < threads + 20
    assert await asyncio.to_thread(_time_of, DBOS.destroy) < 1


def test_a_hundred_sleeping_threads_wake_and_do_not_hold_up_the_end(app: App) -> None:
    begun = threading.Semaphore(0)

    @DBOS.workflow()
    def workflow(seconds: float) -> float:
        begun.release()
        DBOS.sleep(seconds)
        return seconds

    awake = [DBOS.start_workflow(workflow, 0.2) for _ in range(100)]
    assert [handle.get_result() for handle in awake] == [0.2] * 100
    for _ in range(100):
        DBOS.start_workflow(workflow, HOUR_S)
    for _ in range(200):
        assert begun.acquire(timeout=PATIENCE_S)
    assert _time_of(DBOS.destroy) < 1


def _start_many(workflow: Any, count: int) -> None:
    for _ in range(count):
        DBOS.start_workflow(workflow, HOUR_S)


def _time_of(function: Callable[[], object]) -> float:
    began = time.monotonic()
    function()
    return time.monotonic() - began
