"""Coroutines: steps in parallel, cancelled awaiters, event loops that come and go."""

from __future__ import annotations

import asyncio
import gc
import threading
from typing import Any

import pytest

from dbos import DBOS, SetWorkflowID, WorkflowHandleAsync
from tests.support.apps import App, Roadblock, eventually, interrupt_at, steps_of


async def test_gathered_steps_start_together_and_are_numbered_in_start_order(app: App) -> None:
    """Each waits for all to have started; they end in another order than they began."""
    meeting = 0
    all_here = asyncio.Event()

    @DBOS.step()
    async def step(n: int) -> int:
        nonlocal meeting
        meeting += 1
        if meeting == 4:
            all_here.set()
        await all_here.wait()
        for _ in range(5 - n):
            await asyncio.sleep(0)
        if n == 3:
            raise ValueError(n)
        return n

    @DBOS.workflow()
    async def workflow() -> list[Any]:
        tasks = [asyncio.create_task(step(n)) for n in (1, 2)]
        return await asyncio.gather(*tasks, step(3), step(4), return_exceptions=True)

    with SetWorkflowID("w"):
        results = await asyncio.wait_for(workflow(), 30)
    assert results[:2] + results[3:] == [1, 2, 4]
    assert results[2].args == (3,)
    steps = await DBOS.list_workflow_steps_async("w")
    assert [step["function_id"] for step in steps] == [1, 2, 3, 4]
    assert [step["output"] for step in steps] == [1, 2, None, 4]


def test_gathered_steps_with_holes_replay_correctly(app: App) -> None:
    """A later step was recorded when the process stopped, earlier ones were not: only those run again."""
    roadblocks, runs = {1: Roadblock(), 3: Roadblock()}, list[int]()

    @DBOS.step()
    async def step(n: int) -> int:
        runs.append(n)
        if n in roadblocks:
            await roadblocks[n].stop_async()
        return n * 10

    @DBOS.workflow()
    async def workflow() -> list[int]:
        return await asyncio.gather(*(step(n) for n in (1, 2, 3)))

    with SetWorkflowID("w"):
        DBOS.start_workflow(workflow)
    roadblocks[3].wait_until_reached()
    eventually(lambda: steps_of("w") == [(2, step.__qualname__)], "step 2 alone is recorded")
    roadblocks[3].open()
    eventually(lambda: [id for id, _ in steps_of("w")] == [2, 3], "step 3 is recorded, too")
    interrupt_at(roadblocks[1], app)
    assert DBOS.get_result("w") == [10, 20, 30]
    assert sorted(runs) == [1, 1, 2, 3]


async def test_nested_gather_of_children_that_gather_steps(app: App) -> None:
    @DBOS.step()
    async def step(n: int) -> int:
        await asyncio.sleep(0.001 * (n % 3))
        return n

    @DBOS.workflow()
    async def child(n: int) -> int:
        return sum(await asyncio.gather(*(step(n * 10 + i) for i in range(5))))

    @DBOS.workflow()
    async def parent() -> list[int]:
        return await asyncio.gather(*(child(n) for n in range(10)))

    with SetWorkflowID("p"):
        assert await parent() == [sum(n * 10 + i for i in range(5)) for n in range(10)]
    for number, workflow in enumerate(await DBOS.list_workflows_async(parent_workflow_id="p")):
        steps = await DBOS.list_workflow_steps_async(workflow.workflow_id)
        assert workflow.workflow_id == f"p-{2 * number + 1}"
        assert workflow.input == {"args": (number,), "kwargs": {}}
        assert [step["output"] for step in steps] == [number * 10 + i for i in range(5)]


async def test_cancelling_the_task_that_awaits_does_not_stop_the_workflow(app: App) -> None:
    started, go_on = asyncio.Event(), asyncio.Event()
    runs: list[str] = []

    @DBOS.step()
    async def step() -> str:
        runs.append("step")
        started.set()
        await go_on.wait()
        return "done"

    @DBOS.workflow()
    async def workflow() -> str:
        return await step()

    with SetWorkflowID("w"):
        task = asyncio.create_task(workflow())  # type: ignore[arg-type]
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    with SetWorkflowID("t"), pytest.raises(asyncio.TimeoutError):
        await asyncio.wait_for(workflow(), 0.05)
    go_on.set()
    assert await DBOS.get_result_async("w") == "done"
    assert await DBOS.get_result_async("t") == "done"
    assert runs == ["step", "step"]


async def test_cancelling_before_the_start_is_durable_never_leaves_a_workflow_half_started(app: App) -> None:
    """Either there is no such workflow, or it finishes."""

    @DBOS.workflow()
    async def workflow() -> str:
        return "done"

    for number in range(20):
        with SetWorkflowID(f"w{number}"):
            task = asyncio.create_task(workflow())  # type: ignore[arg-type]
        for _ in range(number % 4):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    for status in await DBOS.list_workflows_async():
        assert await DBOS.get_result_async(status.workflow_id) == "done"


async def test_wait_for_around_a_step_times_out_and_the_workflow_goes_on(app: App) -> None:
    """The step that was cancelled is not recorded as ended; the next one is."""

    @DBOS.step(name="endless")
    async def endless() -> None:
        await asyncio.Event().wait()

    @DBOS.step(name="after")
    async def after() -> str:
        return "after"

    @DBOS.workflow()
    async def workflow() -> str:
        try:
            await asyncio.wait_for(endless(), 0.02)
        except asyncio.TimeoutError:
            return await after()
        return "no time-out"

    with SetWorkflowID("w"):
        assert await asyncio.wait_for(workflow(), 30) == "after"
    steps = await DBOS.list_workflow_steps_async("w")
    assert [(step["function_id"], step["function_name"]) for step in steps] == [(2, "after")]


def test_workflows_outlive_the_event_loops_they_were_started_on(app: App) -> None:
    """asyncio.run several times: what is left running when a loop closes finishes elsewhere in the process."""
    roadblocks = [Roadblock() for _ in range(3)]
    runs: list[int] = []

    @DBOS.step()
    async def first(n: int) -> None:
        runs.append(n)

    @DBOS.step()
    async def second(n: int) -> None:
        if n < len(roadblocks):
            await roadblocks[n].stop_async()

    @DBOS.workflow()
    async def workflow(n: int) -> int:
        await first(n)
        await second(n)
        return n

    async def start(n: int) -> WorkflowHandleAsync[int]:
        with SetWorkflowID(f"w{n}"):
            handle = await DBOS.start_workflow_async(workflow, n)
        while not roadblocks[n].reached.is_set():
            await asyncio.sleep(0)
        return handle

    handles = [asyncio.run(start(number)) for number in range(3)]
    for roadblock in roadblocks:
        roadblock.open()
    for number, handle in enumerate(handles):
        assert asyncio.run(get_result(handle)) == number
        assert DBOS.get_result(f"w{number}") == number
        assert runs.count(number) == 1

    async def call() -> list[int]:
        return await asyncio.gather(*(workflow(n) for n in range(5, 10)))

    assert asyncio.run(call()) == [5, 6, 7, 8, 9]


async def get_result(handle: WorkflowHandleAsync[int]) -> int:
    return await handle.get_result()


def test_workflow_whose_loop_is_closed_without_cancelling_it_finishes_elsewhere(app: App) -> None:
    """The loop just stops and is closed, so nobody tells the workflow; the library looks after it."""
    roadblock = Roadblock()

    @DBOS.workflow()
    async def workflow() -> str:
        await roadblock.stop_async()
        return "done"

    async def start() -> None:
        with SetWorkflowID("w"):
            await DBOS.start_workflow_async(workflow)
        while not roadblock.reached.is_set():
            await asyncio.sleep(0)

    loop = asyncio.new_event_loop()
    loop.run_until_complete(start())
    loop.close()
    roadblock.open()
    gc.collect()
    assert DBOS.get_result("w") == "done"


def test_coroutine_workflow_is_recovered_on_the_librarys_loop(app: App) -> None:
    roadblock = Roadblock()
    runs: list[str] = []

    @DBOS.step()
    async def first() -> int:
        runs.append("first")
        return 1

    @DBOS.step()
    async def second() -> str:
        await roadblock.stop_async()
        return threading.current_thread().name

    @DBOS.workflow()
    async def workflow() -> tuple[int, str]:
        return await first(), await second()

    with SetWorkflowID("w"):
        DBOS.start_workflow(workflow)
    interrupt_at(roadblock, app)
    one, thread = DBOS.get_result("w")
    assert one == 1
    assert thread != threading.current_thread().name
    assert runs == ["first"]


async def test_coroutine_made_but_never_awaited_starts_nothing(sqlite_app: App) -> None:
    @DBOS.workflow()
    async def workflow() -> None: ...

    with SetWorkflowID("w"):
        coroutine: Any = workflow()
    assert coroutine.__name__ == "workflow"
    coroutine.close()
    assert await DBOS.get_workflow_status_async("w") is None


async def test_a_thousand_coroutine_workflows_at_once(app: App) -> None:
    @DBOS.step()
    async def step(n: int) -> int:
        return n

    @DBOS.workflow()
    async def workflow(n: int) -> int:
        return await step(n) + await step(n)

    results = await asyncio.gather(*(workflow(n) for n in range(1000)))
    assert results == [2 * n for n in range(1000)]
    assert len(await DBOS.list_workflows_async(status="SUCCESS")) == 1000


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, SystemExit])
def test_interrupted_coroutine_workflow_interrupts_its_caller_and_is_recovered(
    app: App, interruption: type[BaseException]
) -> None:
    """As from any task, the interruption leaves asyncio.run; the workflow stays recoverable."""
    runs: list[str] = []

    @DBOS.step()
    async def step() -> str:
        runs.append("step")
        if len(runs) == 1:
            raise interruption
        return "done"

    @DBOS.workflow()
    async def workflow() -> str:
        return await step()

    async def call() -> str:
        with SetWorkflowID("w"):
            return await workflow()

    with pytest.raises(interruption):
        asyncio.run(call())
    app.relaunch()
    assert DBOS.get_result("w") == "done"
    assert runs == ["step", "step"]
    assert [id for id, _ in steps_of("w")] == [1]
