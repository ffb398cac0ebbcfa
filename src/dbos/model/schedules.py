"""Schedules: workflows that are started at the times of a cron expression."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import NamedTuple

ACTIVE = "ACTIVE"
"""The status of a schedule that fires."""

PAUSED = "PAUSED"
"""The status of a schedule that does not."""

STATUSES = (ACTIVE, PAUSED)

MAX_NAME_BYTES = 512
"""The longest name of a schedule: it is a part of the ids of the workflows that it starts."""

MAX_CRON_CHARS = 1000
"""The longest cron expression."""

MAX_BACKFILL = 100_000
"""How many fire times one call may backfill."""

MAX_LATE_MS = 5 * 60 * 1000
"""For how long a fire time that could not be kept is made good, while an executor was there that should have."""

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


@dataclass(frozen=True, slots=True)
class Schedule:
    """The definition of a schedule.

    Attributes:
        schedule_id: Unique for every definition: what is changed has a new one.
        name: Unique among the schedules that there are.
        workflow_name: The function that it runs.
        class_name: The class of that function, if it has one.
        cron: The cron expression, as it was given.
        context: What the function is called with beside the time, serialized.
        serialization: The context's format; ``None`` for that of the configured serializer.
    """

    schedule_id: str
    name: str
    workflow_name: str
    class_name: str | None
    cron: str
    context: str
    serialization: str | None


class ScheduleRow(NamedTuple):
    """A schedule as it is stored.

    ``fired_until_ms``: the fire times until then are settled, in one way or the other; ``None`` if a client of an
    earlier library made it.
    """

    schedule_id: str
    name: str
    workflow_name: str
    class_name: str | None
    cron: str
    status: str
    context: str
    serialization: str | None
    fired_until_ms: int | None

    @property
    def schedule(self) -> Schedule:
        """Its definition."""
        return Schedule(
            self.schedule_id,
            self.name,
            self.workflow_name,
            self.class_name,
            self.cron,
            self.context,
            self.serialization,
        )


def run_id(name: str, at: datetime) -> str:
    """The id of the workflow that the schedule starts at this time: whoever starts it, it is the same."""
    return f"sched-{name}-{at.isoformat()}"


def trigger_id(name: str, at: datetime) -> str:
    """The id of the workflow that is started apart from the schedule's times."""
    return f"sched-{name}-trigger-{at.isoformat()}"


def to_datetime(time_ms: float) -> datetime:
    """The time in UTC, of epoch milliseconds."""
    return _EPOCH + timedelta(milliseconds=time_ms)


def to_ms(time: datetime) -> int:
    """Epoch milliseconds, of a time that knows its zone."""
    return (time - _EPOCH) // timedelta(milliseconds=1)
