"""Waits that were given up leave nothing behind."""

from __future__ import annotations

import asyncio

from dbos import DBOS
from tests.regress.conftest import Launcher


async def _give_up(*waits: object) -> None:
    """Wait for each of them, for no time at all."""
    tasks = [asyncio.ensure_future(wait) for wait in waits]  # type: ignore[call-overload]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    for task in tasks:
        task.cancel()
    assert all(isinstance(end, asyncio.CancelledError) for end in await asyncio.gather(*tasks, return_exceptions=True))


def test_a_wait_for_a_running_workflow_that_is_given_up_leaves_nothing_in_its_promise(launch_sqlite: Launcher) -> None:
    executor = launch_sqlite()
    finish = asyncio.Event()

    @DBOS.workflow()
    async def work() -> str:
        await finish.wait()
        return "result"

    async def main() -> None:
        handle = await DBOS.start_workflow_async(work)
        run = executor.find_run(handle.workflow_id)
        assert run is not None
        await _give_up(*(handle.get_result() for _ in range(20)))
        assert not run.ended._futures
        finish.set()
        assert await handle.get_result() == "result"

    asyncio.run(main())
