"""A coroutine parent that starts children, awaits others at the same time, and gathers all results."""

from __future__ import annotations

import asyncio

from dbos import DBOS, SetWorkflowID
from tests.verify.life import execute

ID = "root"
EXPECTED = {
    ID: ["child", "child", "child", "child", *["DBOS.getResult"] * 4, "step"],
    f"{ID}-1": ["step", "step"],
    f"{ID}-2": ["step", "step"],
    f"{ID}-3": ["step", "step"],
    f"{ID}-4": ["step", "step"],
}
COMMITS = 5


@DBOS.step()
async def step() -> str:
    return execute()


@DBOS.workflow()
async def child() -> list[str]:
    return [await step(), await step()]


@DBOS.workflow()
async def parent() -> list[list[str]]:
    handles = [await DBOS.start_workflow_async(child) for _ in range(4)]
    results = await asyncio.gather(*(handle.get_result() for handle in handles))
    return [*results, [await step()]]


async def call() -> list[list[str]]:
    with SetWorkflowID(ID):
        return await parent()


def main() -> list[list[str]]:
    return asyncio.run(call())
