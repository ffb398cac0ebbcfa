"""A workflow that kills its process whenever it runs, beside one that may be recovered without limit."""

from __future__ import annotations

import os
import signal
import threading
from typing import Any

from dbos import DBOS, SetWorkflowID
from tests.verify.life import execute, number

ATTEMPTS = 2


@DBOS.step()
def kill() -> None:
    execute()
    os.kill(os.getpid(), signal.SIGKILL)


@DBOS.step()
def work() -> str:
    return execute()


@DBOS.workflow(max_recovery_attempts=ATTEMPTS)
def poison() -> None:
    kill()


@DBOS.workflow(max_recovery_attempts=None)
def stubborn() -> str:
    if number() <= ATTEMPTS + 1:
        threading.Event().wait()
    return work()


def main() -> dict[str, Any]:
    if number() == 1:
        for function in (stubborn, poison):
            with SetWorkflowID(function.__name__):
                DBOS.start_workflow(function)
    result = DBOS.get_result("stubborn")
    try:
        DBOS.get_result("poison")
    except Exception as error:
        return {"stubborn": result, "error": type(error).__name__, "text": str(error)}
    return {"stubborn": result}
