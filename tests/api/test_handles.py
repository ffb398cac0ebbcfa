"""Handles and everything else that finds a workflow by its id, in this process and from another."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from dbos import DBOS, DBOSClient, SetWorkflowID, WorkflowHandle, WorkflowHandleAsync, error
from tests.support.apps import App, Roadblock
from tests.support.processes import Spawner


@DBOS.workflow()
def greet(name: str) -> str:
    return f"hello {name}"


def test_handle_of_a_running_workflow(app: App) -> None:
    roadblock = Roadblock()

    @DBOS.workflow()
    def workflow(n: int) -> int:
        roadblock.stop()
        return n

    with SetWorkflowID("w"):
        handle = DBOS.start_workflow(workflow, 5)
    found: WorkflowHandle[int] = DBOS.retrieve_workflow("w")
    for one in (handle, found):
        assert isinstance(one, WorkflowHandle)
        assert one.workflow_id == one.get_workflow_id() == "w"
        assert "'w'" in repr(one)
        status = one.get_status()
        assert (status.status, status.output, status.error) == ("PENDING", None, None)
        assert (status.workflow_id, status.input) == ("w", {"args": (5,), "kwargs": {}})
    roadblock.open()
    assert handle.get_result() == found.get_result() == DBOS.get_result("w") == 5
    assert handle.get_result() == 5
    assert found.get_status().status == "SUCCESS"


async def test_async_handle_of_a_running_workflow(app: App) -> None:
    go_on = asyncio.Event()

    @DBOS.workflow()
    async def workflow(n: int) -> int:
        await go_on.wait()
        return n

    with SetWorkflowID("w"):
        handle = await DBOS.start_workflow_async(workflow, 5)
    found: WorkflowHandleAsync[int] = await DBOS.retrieve_workflow_async("w")
    for one in (handle, found):
        assert isinstance(one, WorkflowHandleAsync)
        assert one.workflow_id == one.get_workflow_id() == "w"
        assert (await one.get_status()).status == "PENDING"
    go_on.set()
    assert await asyncio.gather(handle.get_result(), found.get_result(), DBOS.get_result_async("w")) == [5, 5, 5]
    assert (await found.get_status()).status == "SUCCESS"


async def test_unknown_ids(app: App) -> None:
    def check_sync() -> None:
        assert DBOS.get_workflow_status("nobody") is None
        assert DBOS.list_workflow_steps("nobody") == []
        with pytest.raises(error.DBOSNonExistentWorkflowError, match="'nobody'") as info:
            DBOS.retrieve_workflow("nobody")
        assert info.value.dbos_error_code == 5
        assert str(info.value).startswith("DBOS Error 5: ")
        with pytest.raises(error.DBOSNonExistentWorkflowError, match="'nobody'"):
            DBOS.retrieve_workflow("nobody", existing_workflow=False).get_status()

    await asyncio.to_thread(check_sync)
    assert await DBOS.get_workflow_status_async("nobody") is None
    assert await DBOS.list_workflow_steps_async("nobody") == []
    with pytest.raises(error.DBOSNonExistentWorkflowError, match="'nobody'"):
        await DBOS.retrieve_workflow_async("nobody")
    handle = await DBOS.retrieve_workflow_async("nobody", existing_workflow=False)
    with pytest.raises(error.DBOSNonExistentWorkflowError, match="'nobody'"):
        await handle.get_status()


def test_result_of_a_workflow_that_does_not_exist_yet_is_waited_for(app: App) -> None:
    handle: WorkflowHandle[str] = DBOS.retrieve_workflow("w", existing_workflow=False)
    results: list[str] = []
    waiter = threading.Thread(target=lambda: results.append(handle.get_result()), daemon=True)
    waiter.start()
    with SetWorkflowID("w"):
        greet("late")
    waiter.join(30)
    assert results == ["hello late"]


async def test_result_of_a_workflow_that_does_not_exist_yet_is_awaited(app: App) -> None:
    handle = await DBOS.retrieve_workflow_async("w", existing_workflow=False)
    waiting = asyncio.gather(handle.get_result(), DBOS.get_result_async("w", polling_interval_sec=0.01))
    await asyncio.sleep(0)
    with SetWorkflowID("w"):
        greet("late")
    assert await asyncio.wait_for(waiting, 30) == ["hello late"] * 2


@pytest.mark.parametrize("interval", [0, -1, 0.0])
async def test_polling_interval_must_be_positive(sqlite_app: App, interval: float) -> None:
    match = f"polling_interval_sec is {interval}"
    handle = await DBOS.start_workflow_async(greet, "you")
    with pytest.raises(ValueError, match=match):
        await handle.get_result(polling_interval_sec=interval)
    with pytest.raises(ValueError, match=match):
        await DBOS.get_result_async("w", polling_interval_sec=interval)

    def check_sync() -> None:
        with pytest.raises(ValueError, match=match):
            DBOS.get_result("w", polling_interval_sec=interval)
        with pytest.raises(ValueError, match=match):
            DBOS.start_workflow(greet, "you").get_result(polling_interval_sec=interval)

    await asyncio.to_thread(check_sync)
    assert await handle.get_result(polling_interval_sec=0.001) == "hello you"


@pytest.mark.parametrize(
    ("interval", "kind"),
    [(float("nan"), ValueError), (float("inf"), ValueError), ("1", TypeError), (None, TypeError), (True, TypeError)],
)
async def test_polling_interval_must_be_a_number_of_seconds(
    sqlite_app: App, interval: Any, kind: type[Exception]
) -> None:
    with DBOSClient(system_database_url=sqlite_app.url) as client:
        start = await DBOS.start_workflow_async(greet, "you")
        for handle in (start, await client.retrieve_workflow_async(start.workflow_id)):
            with pytest.raises(kind, match="polling_interval_sec"):
                await handle.get_result(polling_interval_sec=interval)


async def test_blocking_calls_in_a_running_loop_name_their_async_twin(sqlite_app: App) -> None:
    handle = DBOS.start_workflow(greet, "you")
    calls: list[tuple[Callable[[], Any], str]] = [
        (lambda: DBOS.get_result("w"), r"DBOS\.get_result_async"),
        (lambda: DBOS.retrieve_workflow("w"), r"DBOS\.retrieve_workflow_async"),
        (lambda: DBOS.get_workflow_status("w"), r"DBOS\.get_workflow_status_async"),
        (lambda: DBOS.list_workflows(), r"DBOS\.list_workflows_async"),
        (lambda: DBOS.list_workflow_steps("w"), r"DBOS\.list_workflow_steps_async"),
    ]
    for call, twin in calls:
        with pytest.raises(RuntimeError, match=f"would block.*{twin}"):
            call()
    for call in (handle.get_result, handle.get_status):
        with pytest.raises(RuntimeError, match=r"would block.*_async") as info:
            call()
        assert "WorkflowHandle.get_result_async" not in str(info.value), "there is no such method"
        assert "WorkflowHandle.get_status_async" not in str(info.value), "there is no such method"
    assert await DBOS.get_result_async(handle.workflow_id) == "hello you"


async def test_async_twins_give_what_the_sync_ones_give(app: App) -> None:
    with SetWorkflowID("w"):
        greet("you")

    async def both(twin: Awaitable[Any], sync: Callable[[], Any]) -> None:
        assert await twin == await asyncio.to_thread(sync)

    await both(DBOS.get_result_async("w"), lambda: DBOS.get_result("w"))
    await both(DBOS.get_workflow_status_async("w"), lambda: DBOS.get_workflow_status("w"))
    await both(DBOS.list_workflows_async(), DBOS.list_workflows)
    await both(DBOS.list_workflow_steps_async("w"), lambda: DBOS.list_workflow_steps("w"))


ELSEWHERE = """
    import sys
    from dbos import DBOS, SetWorkflowID

    @DBOS.workflow()
    def workflow(fails):
        sys.stdin.readline()
        if fails:
            raise LookupError("elsewhere", 1)
        return "from elsewhere"

    DBOS(config={"name": "app", "system_database_url": sys.argv[1], "application_version": "elsewhere"})
    DBOS.launch()
    for fails in (False, True):
        with SetWorkflowID(f"w{fails}"):
            handle = DBOS.start_workflow(workflow, fails)
        print("started", flush=True)
        try:
            handle.get_result()
        except LookupError:
            pass
    DBOS.destroy()
"""


def test_results_of_another_process_arrive(app: App, spawn: Spawner) -> None:
    """For a thread and for a coroutine, also with a polling interval."""
    child = spawn(ELSEWHERE, app.url)

    async def wait(workflow_id: str) -> Any:
        handle = await DBOS.retrieve_workflow_async(workflow_id)
        return await handle.get_result(polling_interval_sec=0.01)

    child.wait_for_line("started", count=1)
    assert DBOS.retrieve_workflow("wFalse").get_status().status == "PENDING"
    child.write_line()
    assert DBOS.retrieve_workflow("wFalse").get_result() == "from elsewhere"
    child.wait_for_line("started", count=2)
    child.write_line()
    with pytest.raises(LookupError) as info:
        asyncio.run(wait("wTrue"))
    assert info.value.args == ("elsewhere", 1)
    child.succeed()
    status = DBOS.get_workflow_status("wFalse")
    assert status is not None
    assert status.app_version == "elsewhere"
