"""A coroutine workflow of five steps, awaited directly."""

from __future__ import annotations

import asyncio

from dbos import DBOS, SetWorkflowID
from tests.verify.life import execute

ID = "root"
EXPECTED = {ID: ["step"] * 5}
COMMITS = 6


@DBOS.step()
async def step() -> str:
    return execute()


@DBOS.workflow()
async def workflow() -> list[str]:
    return [await step() for _ in range(5)]


async def call() -> list[str]:
    with SetWorkflowID(ID):
        return await workflow()


def main() -> list[str]:
    return asyncio.run(call())
