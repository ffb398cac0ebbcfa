"""Managing schedules: what is stored, who is told of it, and workflows that are started apart from the times."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from dbos.error import DBOSException
from dbos.model.queues import INTERNAL_QUEUE
from dbos.model.schedules import MAX_BACKFILL, Schedule, ScheduleRow, run_id, to_datetime, trigger_id
from dbos.model.status import ENQUEUED
from dbos.model.values import AlreadyExists, Place, WorkflowStart
from dbos.runtime.cron import Cron
from dbos.runtime.gateway import Gateway
from dbos.serialization.codec import Codec
from dbos.storage import schedules as storage
from dbos.storage.batches import insert_start, insert_starts
from dbos.storage.database import Database, Transaction
from dbos.storage.schedules import ScheduleFilter

_logger = logging.getLogger("dbos")

_BITE = 1000
"""How many workflows are enqueued in one transaction."""

_MICROSECOND = timedelta(microseconds=1)


def create_schedule(gateway: Gateway, schedule: Schedule) -> None:
    """Store a new schedule.

    Raises:
        DBOSException: Another one has its name.
    """
    if not storage.create(gateway.database, schedule):
        raise name_taken(schedule.name)
    gateway.rescheduled()


def name_taken(name: str) -> DBOSException:
    """The error for a second schedule of one name."""
    return DBOSException(
        f"A schedule named {name!r} exists already. Replace it with apply_schedules, delete it first, or use another "
        "name."
    )


def apply_schedules(gateway: Gateway, schedules: Sequence[Schedule], deleted: Sequence[str]) -> None:
    """Store these schedules in place of those that have their names, and delete others."""
    storage.apply(gateway.database, schedules, deleted)
    gateway.rescheduled()


def set_status(gateway: Gateway, name: str, status: str) -> None:
    """Pause a schedule, or make it active."""
    storage.set_status(gateway.database, name, status)
    gateway.rescheduled()


def delete_schedule(gateway: Gateway, name: str) -> None:
    """Delete a schedule."""
    storage.delete_schedule(gateway.database, name)
    gateway.rescheduled()


Decode = Callable[["str | None", "str | None"], Any]
"""Makes a value of a stored text and the name of its format."""


def trigger_schedule(gateway: Gateway, name: str, decode: Decode | None = None) -> str:
    """Enqueue a workflow of the schedule now, whether it is paused or not; returns its id.

    Args:
        gateway: The way to the database.
        name: The schedule.
        decode: How its context is read. Default: as the gateway decodes values.

    Raises:
        DBOSException: There is no such schedule.
        DBOSSerializationError: Its context cannot be read.
    """
    row = require_schedule(gateway.database, name)
    context = (decode or gateway.codec.decode)(row.context, row.serialization)
    at = to_datetime(gateway.clock.now_ms())
    while True:
        start = scheduled_start(gateway.codec, row.schedule, trigger_id(name, at), at, context)
        if not isinstance(insert_start(gateway.database, start), AlreadyExists):
            break
        # Somebody triggered it in the same millisecond.
        at += _MICROSECOND
    gateway.enqueued([INTERNAL_QUEUE])
    return start.workflow_id


def backfill_schedule(
    gateway: Gateway, name: str, start: datetime, end: datetime, decode: Decode | None = None
) -> list[str]:
    """Enqueue the workflows of all fire times between the two, as far as there are none; returns their ids.

    Args:
        gateway: The way to the database.
        name: The schedule.
        start: After this.
        end: Before this.
        decode: As for ``trigger_schedule``.

    Raises:
        DBOSException: There is no such schedule, or there are too many times.
        DBOSSerializationError: Its context cannot be read.
    """
    row = require_schedule(gateway.database, name)
    until_end = itertools.takewhile(lambda at: at < end, Cron(row.cron).times_after(start))
    times = list(itertools.islice(until_end, MAX_BACKFILL + 1))
    if len(times) > MAX_BACKFILL:
        raise DBOSException(
            f"Schedule {name!r} fires more than {MAX_BACKFILL} times between {start.isoformat()} and "
            f"{end.isoformat()}; nothing was backfilled. Backfill shorter ranges, one after the other."
        )
    context = (decode or gateway.codec.decode)(row.context, row.serialization)
    for first in range(0, len(times), _BITE):
        starts = [
            scheduled_start(gateway.codec, row.schedule, run_id(name, at), at, context)
            for at in times[first : first + _BITE]
        ]
        gateway.database.run("backfill", partial(_insert, starts))
        gateway.enqueued([INTERNAL_QUEUE])
    return [run_id(name, at) for at in times]


def scheduled_start(
    codec: Codec, schedule: Schedule, workflow_id: str, *args: Any, application_id: str | None = None
) -> WorkflowStart:
    """The row of a workflow that a schedule starts: any executor that knows its function may run it.

    Raises:
        DBOSSerializationError: The arguments cannot be stored.
    """
    inputs = codec.encode(
        {"args": args, "kwargs": {}}, lambda: f"The arguments of the workflow of schedule {schedule.name!r}"
    )
    return WorkflowStart(
        workflow_id=workflow_id,
        name=schedule.workflow_name,
        status=ENQUEUED,
        inputs=inputs.text,
        serialization=inputs.format,
        token=None,
        lease_id=None,
        executor_id=None,
        class_name=schedule.class_name,
        application_id=application_id,
        place=Place(INTERNAL_QUEUE),
    )


def _insert(starts: Sequence[WorkflowStart], transaction: Transaction) -> None:
    insert_starts(transaction, starts)


def require_schedule(database: Database, name: str) -> ScheduleRow:
    """The schedule as it is stored.

    Raises:
        DBOSException: There is none of this name.
    """
    rows = storage.read_schedules(database, ScheduleFilter(names=[name]))
    if not rows:
        raise DBOSException(f"There is no schedule named {name!r}. Make it with create_schedule.")
    return rows[0]


def create_declared(gateway: Gateway, schedules: Sequence[Schedule]) -> None:
    """Store the schedules that the program declares, those of them that are not there; what is there stays.

    One that is there with another definition is reported.
    """
    declared = {schedule.name: schedule for schedule in schedules}
    standing = storage.create_missing(gateway.database, schedules)
    for row in standing:
        if not _is_same(gateway.codec, row.schedule, declared[row.name]):
            _logger.warning(
                "The schedule %r is stored with another definition (%s for %s) than the program gives it (%s for %s). "
                "What is stored holds. To replace it, call DBOS.apply_schedules after DBOS.launch().",
                *(row.name, row.cron, row.workflow_name, declared[row.name].cron, declared[row.name].workflow_name),
            )
    if len(standing) < len(declared):
        gateway.rescheduled()


def _is_same(codec: Codec, one: Schedule, other: Schedule) -> bool:
    if (one.workflow_name, one.class_name, one.cron) != (other.workflow_name, other.class_name, other.cron):
        return False
    if (one.context, one.serialization) == (other.context, other.serialization):
        return True
    # Equal values need not be stored as equal texts.
    return bool(codec.show(one.context, one.serialization) == codec.show(other.context, other.serialization))
