"""An application with telemetry: `traced.py DATABASE TRACES [STANDS]`; told to, it stands in its second step."""

from __future__ import annotations

import sys

from dbos import DBOS, SetWorkflowID

url, endpoint = sys.argv[1:3]
stands = len(sys.argv) > 3


@DBOS.step()
def first() -> None: ...


@DBOS.step()
def second() -> None:
    if stands:
        print("standing", flush=True)
        sys.stdin.readline()


@DBOS.workflow()
def work() -> str:
    first()
    second()
    return "done"


DBOS(
    config={
        "name": "traced",
        "system_database_url": url,
        "application_version": "1",
        "enable_otlp": True,
        "otlp_traces_endpoints": [endpoint],
    }
)
DBOS.launch()
with SetWorkflowID("w"):
    print(DBOS.start_workflow(work).get_result(), flush=True)
DBOS.destroy()
