"""A coroutine workflow that gathers steps, which end in the opposite order of their start."""

from __future__ import annotations

import asyncio

from dbos import DBOS, SetWorkflowID
from tests.verify.life import execute

ID = "root"
EXPECTED = {ID: ["step", *["gathered"] * 4, "step"]}
COMMITS = 4


@DBOS.step()
async def step() -> str:
    return execute()


@DBOS.step()
async def gathered(turns: int) -> str:
    value = execute()
    for _ in range(turns):
        await asyncio.sleep(0.001)  # so that some are recorded while others still run
    return value


@DBOS.workflow()
async def workflow() -> list[str]:
    first = await step()
    values = await asyncio.gather(*(gathered(5 * turns) for turns in (3, 2, 1, 0)))
    return [first, *values, await step()]


async def call() -> list[str]:
    with SetWorkflowID(ID):
        return await workflow()


def main() -> list[str]:
    return asyncio.run(call())
