"""An executor of the chaos tests: it runs random programs, starts those that it is told to, and says when it has.

`worker.py URL LEDGER LEASE_TIMEOUT_S`; each line of its input is the id and the program of a workflow to be started.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sys
import threading
import time
import uuid

from dbos import DBOS, Queue, SetWorkflowID
from dbos.storage.errors import TransientStorageError
from tests.support import ledger
from tests.verify.guards import watch, watch_guards
from tests.verify.programs import Interpreter

UNLIMITED = "many"
"""The queue of children: on one with a limit they might wait for ever for their parents, who wait for them."""

LIMITS = {UNLIMITED: {}, "few": {"concurrency": 2}, "one each": {"worker_concurrency": 1}}
"""The queues, which the test knows too."""

_LOGGED = {"was taken over by another run": "adopted", "This executor was taken for dead": "buried"}


class _Guards(logging.Handler):
    """Notes what only the log tells."""

    def emit(self, record: logging.LogRecord) -> None:
        for text, guard in _LOGGED.items():
            if text in str(record.msg):
                note("guard", guard=guard)


def note(kind: str, **fields: object) -> None:
    ledger.record(sys.argv[2], kind=kind, pid=os.getpid(), life=0, **fields)


def execute() -> str:
    value = uuid.uuid4().hex
    note("step", workflow=DBOS.workflow_id, step=DBOS.step_id, value=value, at_ms=time.time() * 1000)
    return value


def main() -> None:
    url, _, lease_timeout_s = sys.argv[1:]
    watch_guards(note)
    watch(TransientStorageError, "retried", note)
    queues = {name: Queue(name, polling_interval_sec=0.2, **limits) for name, limits in LIMITS.items()}  # type: ignore[arg-type]
    interpreter = Interpreter(execute, queues)
    DBOS(
        config={
            "name": "chaos",
            "system_database_url": url,
            "application_version": "1",
            "lease_timeout_sec": float(lease_timeout_s),
            "notification_listener_polling_interval_sec": 0.2,
            "log_level": "INFO",
        }
    )
    logging.getLogger("dbos").addHandler(_Guards())
    DBOS.launch()
    print("launched", flush=True)

    def start(workflow_id: str, function: str, program: list[list[object]]) -> None:
        # Not started if the process dies or the database is away for long: then it is asked for again.
        with contextlib.suppress(Exception), SetWorkflowID(workflow_id):
            DBOS.start_workflow(getattr(interpreter, function), program)
            print("started", workflow_id, flush=True)

    for line in sys.stdin:
        threading.Thread(target=start, args=json.loads(line)).start()


if __name__ == "__main__":
    main()
