"""Workflows whose code is a script that a test replaces, as a deployment does while workflows are under way."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import dataclass, field

from dbos import DBOS
from tests.support.apps import PATIENCE_S


@dataclass(frozen=True)
class Patch:
    """`if DBOS.patch(name): new else: old`."""

    name: str
    new: Script
    old: Script = ()


@dataclass(frozen=True)
class Deprecated:
    """`DBOS.deprecate_patch(name)`."""

    name: str


Script = tuple["str | Patch | Deprecated", ...]
"""The names of steps, and patches. The step `stop` is where a workflow is interrupted."""


@dataclass
class Deployed:
    """What is deployed at the moment, and what it did."""

    script: Script = ()
    ran: list[str] = field(default_factory=list[str])
    """The steps that ran, in order, in all lives."""
    stopped: threading.Event = field(default_factory=threading.Event)
    passes: threading.Event = field(default_factory=threading.Event)

    def act(self, name: str) -> str:
        if name == "stop":
            self.stopped.set()
            assert self.passes.wait(PATIENCE_S), "nobody let it pass"
        self.ran.append(name)
        return name

    async def act_async(self, name: str) -> str:
        if name == "stop":
            self.stopped.set()
            while not self.passes.is_set():
                await asyncio.sleep(0.002)
        self.ran.append(name)
        return name


DEPLOYED = Deployed()


@DBOS.workflow(name="scripted")
def scripted() -> list[str]:
    """Follow the script that is deployed; returns the names of the steps."""
    return _follow(DEPLOYED.script)


@DBOS.workflow(name="scripted_async")
async def scripted_async() -> list[str]:
    """As `scripted`, as a coroutine."""
    return await _follow_async(DEPLOYED.script)


def _follow(script: Script) -> list[str]:
    done: list[str] = []
    for item in script:
        if isinstance(item, str):
            done.append(DBOS.run_step({"name": item}, DEPLOYED.act, item))
        elif isinstance(item, Patch):
            done += _follow(item.new if DBOS.patch(item.name) else item.old)
        else:
            assert DBOS.deprecate_patch(item.name)
    return done


async def _follow_async(script: Script) -> list[str]:
    done: list[str] = []
    for item in script:
        if isinstance(item, str):
            done.append(await DBOS.run_step_async({"name": item}, DEPLOYED.act_async, item))
        elif isinstance(item, Patch):
            done += await _follow_async(item.new if await DBOS.patch_async(item.name) else item.old)
        else:
            assert await DBOS.deprecate_patch_async(item.name)
    return done
