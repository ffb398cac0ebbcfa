"""Functions that the typing tests of each theme share. Never run."""

from __future__ import annotations

from dbos import DBOS


@DBOS.workflow()
def work(number: int, *, flag: bool = False) -> list[int]:
    return [number] if flag else []


@DBOS.workflow()
async def work_async(name: str) -> dict[str, int]:
    return {name: 1}


@DBOS.step()
def step(number: int) -> str:
    return str(number)
