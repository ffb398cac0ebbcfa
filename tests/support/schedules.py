"""What tests of schedules need: a day on which nothing fires, times, and what fired."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

from dbos import DBOS
from tests.support.apps import eventually

NEVER = "0 0 29 2 *"
"""An expression that fires in no test, unless it runs at midnight before a leap day."""

EACH_SECOND = "* * * * * *"

BASE = datetime(2024, 1, 1, tzinfo=timezone.utc)


def seconds(count: float, base: datetime = BASE) -> datetime:
    """So many seconds after some time in the past."""
    return base + timedelta(seconds=count)


def fires_of(name: str) -> list[str]:
    """The fire times of a schedule for which there is a workflow, in order."""
    prefix = f"sched-{name}-"
    ids = [workflow.workflow_id for workflow in DBOS.list_workflows(workflow_id_prefix=prefix)]
    return sorted(workflow_id.removeprefix(prefix) for workflow_id in ids)


def wait_for_fires(name: str, count: int) -> list[str]:
    """Wait until a schedule has fired so often; its fire times."""

    def enough() -> list[str]:
        fires = fires_of(name)
        return fires if len(fires) >= count else []

    return eventually(enough, f"schedule {name!r} fires {count} times")


def moments(times: list[str]) -> list[datetime]:
    return [datetime.fromisoformat(time) for time in times]


def definition(name: str, workflow: Any, schedule: str = NEVER, context: Any = None) -> Any:
    """A `ScheduleInput`."""
    return {"schedule_name": name, "workflow_fn": workflow, "schedule": schedule, "context": context}


def by_name(name: str, workflow_name: str, schedule: str = NEVER, context: Any = None) -> Any:
    """A `ClientScheduleInput`."""
    return {"schedule_name": name, "workflow_name": workflow_name, "schedule": schedule, "context": context}
