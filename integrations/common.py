"""What the programs here share: a ledger, the place where they are killed, and the start."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable, Coroutine
from typing import Any

from dbos import DBOS, SetWorkflowID


class Ledger:
    """A file that tells what really ran, also of processes that were killed."""

    def __init__(self, path: str) -> None:
        self._path = path

    def record(self, what: str, detail: object) -> None:
        descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        os.write(descriptor, f"{what} {detail}\n".encode())
        os.close(descriptor)

    async def hold(self, is_place: bool) -> None:
        """In the process that is to be killed, stand still here, and say so."""
        if is_place and os.environ.get("HOLD"):
            print("holding", flush=True)
            await asyncio.sleep(1000)


def launch(name: str, url: str) -> None:
    DBOS(config={"name": name, "system_database_url": url, "run_admin_server": False, "application_version": "1"})
    DBOS.launch()


def finish(workflow_id: str, main: Callable[[], Coroutine[Any, Any, str]]) -> None:
    """Start the workflow, or wait for the one that was recovered; print what it returns."""
    print("result", asyncio.run(_finish(workflow_id, main)), flush=True)
    DBOS.destroy()
    sys.exit()


async def _finish(workflow_id: str, main: Callable[[], Coroutine[Any, Any, str]]) -> str:
    if await DBOS.get_workflow_status_async(workflow_id) is not None:
        handle = await DBOS.retrieve_workflow_async(workflow_id)
        result = await handle.get_result()
        return str(getattr(result, "output", getattr(result, "final_output", result)))
    with SetWorkflowID(workflow_id):
        return await main()
