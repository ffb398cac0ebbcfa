"""An application of a workflow of three steps, told by its arguments what to do; through the public API only.

`failing_over.py URL LEDGER CONFIG ROLE [STANDS]`: as `caller` it calls the workflow, as `server` it runs what is there.
In the step STANDS it stands until it reads a line.
"""

from __future__ import annotations

import json
import os
import select
import signal
import sys
import time
import uuid

from dbos import DBOS, Queue, SetWorkflowID
from tests.support import ledger

url, path, config, role = sys.argv[1:5]
stands = int(sys.argv[5]) if len(sys.argv) > 5 else 0

queue = Queue("jobs", worker_concurrency=1)


@DBOS.step(name="failing_over.step")
def step(number: int) -> str:
    value = uuid.uuid4().hex
    ledger.record(path, kind="step", role=role, workflow=DBOS.workflow_id, step=number, value=value)
    if number == stands:
        print("standing", flush=True)
        # Not one long read: Python handles a signal that comes right before it only when it is over.
        while not select.select([sys.stdin], [], [], 0.1)[0]:
            pass
    return value


@DBOS.workflow(name="failing_over.work")
def work() -> list[str]:
    return [step(number) for number in (1, 2, 3)]


def main() -> None:
    if role == "handling":
        signal.signal(signal.SIGTERM, lambda *_: print("handled by the application", flush=True))
    DBOS(
        config={
            "name": "failing-over",
            "system_database_url": url,
            "application_version": "1",
            "notification_listener_polling_interval_sec": 0.05,
            **json.loads(config),
        }
    )
    DBOS.launch()
    print("launched", os.getpid(), flush=True)
    if role == "caller":
        with SetWorkflowID("w"):
            print("result", json.dumps(work()), flush=True)
    elif role == "queueing":
        for number in range(3):
            with SetWorkflowID(f"job-{number}"):
                queue.enqueue(work)
    while True:
        time.sleep(0.1)


main()
