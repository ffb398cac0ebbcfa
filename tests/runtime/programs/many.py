"""Two hundred workflows, half of them coroutines, all in their second step when the process is killed."""

from __future__ import annotations

import asyncio
import os
import signal
import threading

from dbos import DBOS, SetWorkflowID
from tests.verify.life import execute, number

COUNT = 200

_arrived = threading.Semaphore(0)


@DBOS.step()
def first() -> str:
    return execute()


@DBOS.step()
def second() -> str:
    if number() == 1:
        _arrived.release()
        threading.Event().wait()
    return execute()


@DBOS.step()
async def first_async() -> str:
    return execute()


@DBOS.step()
async def second_async() -> str:
    if number() == 1:
        _arrived.release()
        await asyncio.Event().wait()
    return execute()


@DBOS.workflow()
def sync_workflow() -> list[str]:
    return [first(), second()]


@DBOS.workflow()
async def async_workflow() -> list[str]:
    return [await first_async(), await second_async()]


def main() -> dict[str, list[str]]:
    ids = [f"many-{n}" for n in range(COUNT)]
    if number() == 1:
        for n, id in enumerate(ids):
            with SetWorkflowID(id):
                DBOS.start_workflow(async_workflow if n % 2 else sync_workflow)
        for _ in ids:
            assert _arrived.acquire(timeout=20)
        os.kill(os.getpid(), signal.SIGKILL)
    return {id: DBOS.get_result(id) for id in ids}
