"""A schedule that fires at one moment of the first life; or, in the variant `workflow`, one that a workflow manages.

Where the process is killed before the fire time is settled, nobody was there to fire: it is backfilled, which changes
nothing where it was fired.
"""

from __future__ import annotations

import time
from datetime import datetime, timedelta, timezone
from typing import Any

from dbos import DBOS, SetWorkflowID
from tests.verify.life import execute, variant

TIME = datetime(datetime.now(timezone.utc).year + 1, 1, 1, tzinfo=timezone.utc)
"""The fire time. Each life sets the database's clock to shortly before it."""

SHORTLY = timedelta(milliseconds=50)

EXPECTED: dict[str, list[str]]
COMMITS: dict[str, int]
if variant() == "workflow":
    ID = "root"
    EXPECTED = {ID: ["DBOS.createSchedule", "step", "DBOS.getSchedule", "DBOS.deleteSchedule", "step"]}
    COMMITS = {"journal": 4, "create_schedule": 1, "delete_schedule": 1}
else:
    ID = f"sched-tick-{TIME.isoformat()}"
    EXPECTED = {ID: ["step", "step"]}
    COMMITS = {"journal": 2, "create_schedule": 1, "fire": 1, "backfill": 1, "claim_enqueued": 1}


@DBOS.step()
def step() -> str:
    return execute()


@DBOS.workflow()
def tick(scheduled: datetime, context: Any) -> list[str]:
    assert (scheduled, context) == (TIME, "context")
    return [step(), step()]


@DBOS.workflow()
def manage() -> list[Any]:
    DBOS.create_schedule(schedule_name="managed", workflow_fn=tick, schedule="0 0 29 2 *", context=1)
    first = step()
    assert DBOS.get_schedule("managed") is not None
    DBOS.delete_schedule("managed")
    return [first, step()]


def main() -> list[Any]:
    if variant() == "workflow":
        with SetWorkflowID(ID):
            result = manage()
        assert DBOS.list_schedules() == []
        return result
    if DBOS.get_schedule("tick") is None:
        DBOS.create_schedule(schedule_name="tick", workflow_fn=tick, schedule="@yearly", context="context")
    wait_until_settled()
    (handle,) = DBOS.backfill_schedule("tick", TIME - SHORTLY, TIME + SHORTLY)
    result: Any = handle.get_result()
    return list(result)


def wait_until_settled() -> None:
    """Let the fire time come; this life fires, or finds that an earlier one has fired."""
    application: Any = DBOS._application
    executor = application.executor
    ahead_ms = (TIME - SHORTLY - datetime.now(timezone.utc)) // timedelta(milliseconds=1)
    executor.database.clock_expression = f"({executor.database.clock_expression} + {ahead_ms})"
    executor.database._compiled.clear()
    executor.time.refresh()
    executor.rescheduled()
    time_ms = TIME.timestamp() * 1000
    while not any(planned.due_ms > time_ms for planned in executor.schedules._planned()):
        time.sleep(0.005)
