"""A coroutine workflow that waits for several things at the same time, then receives by several calls at once."""

from __future__ import annotations

import asyncio
from typing import Any

from dbos import DBOS, SetWorkflowID
from tests.verify.life import execute, new_message

ID = "root"
EXPECTED = {
    ID: [
        *["step", "DBOS.recv", "DBOS.sleep", "DBOS.getEvent", "DBOS.sleep", "DBOS.sleep", "step"],
        *["DBOS.send"] * 3,
        *["DBOS.recv", "DBOS.sleep?"] * 3,
        "step",
    ]
}
COMMITS = 8
UNORDERED = True
WAIT_S = 0.07


@DBOS.step()
async def step() -> str:
    return execute()


@DBOS.workflow()
async def workflow() -> list[Any]:
    first = await step()
    message, event, _ = await asyncio.gather(
        DBOS.recv_async("never", WAIT_S), DBOS.get_event_async("nobody", "never", WAIT_S), DBOS.sleep_async(WAIT_S)
    )
    second = await step()
    for number in (1, 2, 3):
        await DBOS.send_async(ID, new_message(number))
    received = await asyncio.gather(*(DBOS.recv_async() for _ in range(3)))
    return [first, message, event, second, *received, await step()]


async def call() -> list[Any]:
    with SetWorkflowID(ID):
        return await workflow()


def main() -> list[Any]:
    return asyncio.run(call())
