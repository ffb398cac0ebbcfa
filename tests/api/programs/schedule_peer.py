"""An application that runs scheduled workflows and writes each run into a ledger, until its standard input ends.

Arguments: the database's URL, the ledger, the application's version, and the functions that it registers.
"""

from __future__ import annotations

import sys
import time
from datetime import datetime
from typing import Any

from dbos import DBOS
from tests.support import ledger

url, path, version, *functions = sys.argv[1:]


def note(kind: str, scheduled: datetime, context: Any) -> None:
    ledger.record(path, kind=kind, id=DBOS.workflow_id, scheduled=scheduled.isoformat(), context=str(context))


def tick(scheduled: datetime, context: Any) -> None:
    note("tick", scheduled, context)


async def tock(scheduled: datetime, context: Any) -> None:
    note("tock", scheduled, context)


def old(scheduled: datetime, actual: datetime) -> None:
    note("old", scheduled, actual)


for function in functions:
    decorated: Any = DBOS.workflow()(globals()[function])
    if function == "old":
        DBOS.scheduled("* * * * * *")(decorated)

DBOS(config={"name": "app", "system_database_url": url, "application_version": version, "run_admin_server": False})
application = DBOS._application
assert application is not None
application.renew_interval_s = 0.2
DBOS.launch()
print("launched", time.time(), flush=True)
for line in sys.stdin:
    if line.strip() == "destroy":
        break
DBOS.destroy()
print("destroyed", time.time(), flush=True)
