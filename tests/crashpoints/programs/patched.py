"""Workflows with patches, sync and async: at the start, between steps, in a row, at the end, one of them deprecated."""

from __future__ import annotations

from typing import Any

from dbos import DBOS, SetWorkflowID
from tests.verify.life import execute

ID = "root"
EXPECTED = {
    ID: [
        *["DBOS.patch-a", "step", "DBOS.patch-b", "DBOS.patch-b", "step", "parted", "DBOS.getResult"],
        *["step", "DBOS.patch-c"],
    ],
    "root-6": ["DBOS.patch-a", "step_async", "DBOS.patch-b", "step_async"],
}
COMMITS = 8
CONFIG = {"enable_patching": True}


@DBOS.step()
def step() -> str:
    return execute()


@DBOS.step()
async def step_async() -> str:
    return execute()


@DBOS.workflow()
async def parted() -> list[str]:
    done = [await step_async()] if await DBOS.patch_async("a") else []
    return [*done, await step_async()] if DBOS.patch("b") else done


@DBOS.workflow()
def workflow() -> list[Any]:
    done: list[Any] = [step()] if DBOS.patch("a") else []
    if DBOS.patch("b") and DBOS.patch("b") and DBOS.deprecate_patch("z"):
        done.append(step())
    done.append(DBOS.start_workflow(parted).get_result())
    done.append(step())
    return done if DBOS.patch("c") else []


def main() -> list[Any]:
    with SetWorkflowID(ID):
        return workflow()
