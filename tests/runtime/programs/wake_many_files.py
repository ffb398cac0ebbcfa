"""Has more files open than `select` can take, launches, and waits for a message to the workflow `w`."""

from __future__ import annotations

import os
import resource
import sys

from dbos import DBOS, SetWorkflowID

COUNT = 1100


@DBOS.workflow()
def receive() -> str:
    print("waiting", flush=True)
    return DBOS.recv(timeout_seconds=600)  # type: ignore[no-any-return]


_, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 4 * COUNT) if hard > 0 else 4 * COUNT, hard))
files = [os.open(os.devnull, os.O_RDONLY) for _ in range(COUNT)]
DBOS(
    config={
        "name": "many-files",
        "system_database_url": sys.argv[1],
        "notification_listener_polling_interval_sec": 600,
        "run_admin_server": False,
    }
)
DBOS.launch()
with SetWorkflowID("w"):
    print(receive(), flush=True)
DBOS.destroy()
