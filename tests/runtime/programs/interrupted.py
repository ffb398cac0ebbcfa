"""Workflows of many kinds: the first life is killed in the middle of each, the second awaits their ends."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Callable
from typing import Any

from dbos import DBOS, SetWorkflowID
from tests.verify.life import execute, number

_arrived = threading.Semaphore(0)


def block() -> None:
    """The first life does not get past this."""
    if number() == 1:
        _arrived.release()
        threading.Event().wait()


async def block_async() -> None:
    if number() == 1:
        _arrived.release()
        await asyncio.Event().wait()


@DBOS.step()
def step() -> str:
    return execute()


@DBOS.step()
def blocked_step() -> str:
    value = execute()
    block()
    return value


@DBOS.step()
async def async_step() -> str:
    return execute()


@DBOS.step()
async def blocked_async_step() -> str:
    value = execute()
    await block_async()
    return value


class Refusal(Exception):
    def __init__(self, what: str, code: int) -> None:
        super().__init__(what, code)
        self.code = code


@DBOS.step()
def failing_step() -> str:
    raise Refusal(execute(), 7)


@DBOS.workflow()
def sync_workflow(word: str, *, times: int) -> list[str]:
    return [word * times, step(), blocked_step(), step()]


@DBOS.workflow()
async def async_workflow(word: str) -> list[str]:
    return [word, await async_step(), await blocked_async_step(), await async_step()]


@DBOS.workflow()
async def gathering(word: str) -> list[str]:
    """The second of the gathered steps is recorded, the first is not."""
    values = await asyncio.gather(blocked_async_step(), async_step())
    return [word, *values]


@DBOS.workflow()
def catching() -> list[Any]:
    try:
        failing_step()
    except Refusal as refusal:
        return [*refusal.args, refusal.code, type(refusal).__name__, blocked_step()]
    return []


@DBOS.workflow()
def child(word: str) -> list[str]:
    return [word, step(), blocked_step()]


@DBOS.workflow()
def parent() -> list[Any]:
    first = DBOS.start_workflow(child, "started")
    second = child("called")
    return [first.get_result(), second]


@DBOS.workflow()
def changing() -> list[str]:
    """The second life runs other code under the same version."""
    return [step() if number() == 1 else renamed_step(), blocked_step()]


@DBOS.step()
def renamed_step() -> str:
    return execute()


class Unloadable:
    """Can be stored, and cannot be loaded."""

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return refuse, ()


def refuse() -> None:
    raise ValueError("this is not to be loaded")


@DBOS.workflow()
def undecodable(argument: object) -> str:
    return blocked_step()


def vanished() -> str:
    return blocked_step()


def other_version() -> str:
    return blocked_step()


other_version = DBOS.workflow()(other_version)

FINISHED = "finished"
AWAITED = ["sync", "async", "gathering", "catching", "parent", "changing", "undecodable", FINISHED]


@DBOS.workflow()
def finishing() -> list[str]:
    return [step(), step()]


def start(id: str, function: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
    with SetWorkflowID(id):
        DBOS.start_workflow(function, *args, **kwargs)


def main() -> dict[str, Any]:
    if number() == 1:
        first_life()
    return {id: ending(id) for id in AWAITED}


def first_life() -> None:
    with SetWorkflowID(FINISHED):
        finishing()
    start("undecodable", undecodable, Unloadable())
    start("sync", sync_workflow, "ab", times=2)
    start("async", async_workflow, "word")
    start("gathering", gathering, "word")
    start("catching", catching)
    start("parent", parent)
    start("changing", changing)
    start("vanished", DBOS.workflow()(vanished))
    start("other", other_version)
    for _ in range(10):  # the parent blocks twice: in its own child and in the one it started
        assert _arrived.acquire(timeout=20)
    while len(DBOS.list_workflow_steps("gathering")) < 1:
        threading.Event().wait(0.005)
    os.kill(os.getpid(), signal.SIGKILL)


def ending(id: str) -> dict[str, Any]:
    try:
        return {"value": DBOS.get_result(id)}
    except Exception as error:
        return {"error": type(error).__name__, "text": str(error)}
