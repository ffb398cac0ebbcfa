"""Six workflows that have ended are deleted two by two; the process is killed at the second commit of that."""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

from dbos import DBOS, SetWorkflowID
from dbos.runtime import retention


@DBOS.step()
def step() -> int:
    return 1


@DBOS.workflow()
def workflow() -> None:
    step()
    DBOS.set_event("key", 1)
    DBOS.write_stream("key", 1)


def main(url: str, moment: str) -> None:
    bites = 0

    def gate(operation: str, its_moment: str) -> None:
        nonlocal bites
        if operation == "delete_ended" and its_moment == moment:
            bites += 1
            if bites == 2:
                os.kill(os.getpid(), signal.SIGKILL)

    retention.BITE = 2
    DBOS(config={"name": "app", "system_database_url": url, "application_version": "1", "run_admin_server": False})
    application: Any = DBOS._application  # pyright: ignore[reportPrivateUsage]
    application.gate = gate
    DBOS.launch()
    for number in range(6):
        with SetWorkflowID(f"w-{number}"):
            workflow()
    retention.collect_garbage(application.executor, rows_kept=0)
    DBOS.destroy()


if __name__ == "__main__":
    main(*sys.argv[1:])
