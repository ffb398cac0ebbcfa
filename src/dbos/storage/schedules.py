"""The stored schedules: made, changed, listed. (What they start is in ``fires``.)

A definition never changes: what replaces it has a new id. So an executor that knows an id knows what it stands for, and
a schedule that was replaced, paused or deleted meanwhile fires no more. ``fired_until_epoch_ms`` tells until when the
fire times are settled: at first those before the schedule was made, or made active again.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from dbos.model.schedules import ACTIVE, Schedule, ScheduleRow
from dbos.storage.database import Database, Transaction

_COLUMNS = """schedule_id, schedule_name, workflow_name, workflow_class_name, schedule, status, context, serialization,
    fired_until_epoch_ms"""

_NEW = "schedule_id text, name text, workflow_name text, class_name text, cron text, context text, serialization text"

_INSERT = f"""
INSERT INTO {{schema}}workflow_schedules AS standing ({_COLUMNS})
SELECT new.schedule_id, new.name, new.workflow_name, new.class_name, new.cron, 'ACTIVE', new.context, new.serialization,
    {{now}}
FROM ROWS_OF(:new, {_NEW}) WHERE TRUE
ON CONFLICT (schedule_name) DO """

_CREATE = _INSERT + "NOTHING"

# What stays the same stays, so that no fire time is lost; so do the times of what only starts something else.
_UPSERT = (
    _INSERT
    + """UPDATE
SET schedule_id = excluded.schedule_id, workflow_name = excluded.workflow_name,
    workflow_class_name = excluded.workflow_class_name, schedule = excluded.schedule, status = 'ACTIVE',
    context = excluded.context, serialization = excluded.serialization,
    fired_until_epoch_ms = CASE WHEN standing.status = 'ACTIVE' AND standing.schedule = excluded.schedule
        THEN standing.fired_until_epoch_ms ELSE excluded.fired_until_epoch_ms END
WHERE standing.workflow_name <> excluded.workflow_name
OR COALESCE(standing.workflow_class_name, '') <> COALESCE(excluded.workflow_class_name, '')
OR standing.schedule <> excluded.schedule OR standing.status <> 'ACTIVE' OR standing.context <> excluded.context
OR COALESCE(standing.serialization, '') <> COALESCE(excluded.serialization, '')"""
)

_READ = f"SELECT {_COLUMNS} FROM {{schema}}workflow_schedules"

_HAS_NAME = "schedule_name ANY_OF(:names)"

_HAS_PREFIX = """EXISTS (SELECT 1 FROM ROWS_OF(:prefixes, prefix text)
    WHERE substr(schedule_name, 1, length(prefixes.prefix)) = prefixes.prefix)"""

_PAUSE = """
UPDATE {schema}workflow_schedules SET status = 'PAUSED' WHERE schedule_name = :name AND status <> 'PAUSED'"""

_RESUME = """
UPDATE {schema}workflow_schedules SET status = 'ACTIVE', fired_until_epoch_ms = {now}
WHERE schedule_name = :name AND status <> 'ACTIVE'"""

_DELETE = "DELETE FROM {schema}workflow_schedules WHERE schedule_name ANY_OF(:names)"


@dataclass(frozen=True, slots=True)
class ScheduleFilter:
    """Which schedules to read. ``None`` filters nothing; a list asks for any of its members."""

    names: Sequence[str] | None = None
    statuses: Sequence[str] | None = None
    workflow_names: Sequence[str] | None = None
    name_prefixes: Sequence[str] | None = None


def create(database: Database, schedule: Schedule) -> bool:
    """Store a new schedule; returns ``False`` if another one has its name."""

    def work(transaction: Transaction) -> bool:
        while not transaction.write(_CREATE, {"new": _rows([schedule])}):
            standing = transaction.rows(f"{_READ} WHERE {_HAS_NAME}", {"names": [schedule.name]})
            if standing:
                # An earlier try may have stored it, whose answer was lost.
                return bool(standing[0][0] == schedule.schedule_id)
        return True

    return database.run("create_schedule", work)


def create_missing(database: Database, schedules: Sequence[Schedule]) -> list[ScheduleRow]:
    """Store those whose names are free; returns those that others have, as they stand."""
    standing = read_schedules(database, ScheduleFilter(names=[schedule.name for schedule in schedules]))
    names = {row.name for row in standing}
    missing = [schedule for schedule in schedules if schedule.name not in names]
    if missing:
        database.run("create_schedule", lambda t: t.write(_CREATE, {"new": _rows(missing)}), "statement")
    return standing


def apply(database: Database, schedules: Sequence[Schedule], deleted: Sequence[str]) -> None:
    """Store these schedules, active, in place of those that have their names; and delete others: all or nothing."""

    def work(transaction: Transaction) -> None:
        if deleted:
            transaction.write(_DELETE, {"names": sorted(deleted)})
        if schedules:
            # In the order of their names, so that two who do so at once do not lock each other out.
            transaction.write(_UPSERT, {"new": _rows(sorted(schedules, key=lambda schedule: schedule.name))})

    database.run("apply_schedules", work)


def set_status(database: Database, name: str, status: str) -> None:
    """Pause a schedule or make it active, if there is one of that name."""
    statement = _RESUME if status == ACTIVE else _PAUSE
    database.run("set_schedule_status", lambda t: t.write(statement, {"name": name}), "statement")


def delete_schedule(database: Database, name: str) -> None:
    """Delete a schedule, if there is one of that name."""
    database.run("delete_schedule", lambda t: t.write(_DELETE, {"names": [name]}), "statement")


def read_schedules(database: Database, wanted: ScheduleFilter) -> list[ScheduleRow]:
    """The schedules that the filter asks for, by name."""
    conditions: list[str] = []
    parameters: dict[str, object] = {}
    for condition, parameter, values in (
        (_HAS_NAME, "names", wanted.names),
        ("status ANY_OF(:statuses)", "statuses", wanted.statuses),
        ("workflow_name ANY_OF(:workflow_names)", "workflow_names", wanted.workflow_names),
    ):
        if values is not None:
            conditions.append(condition)
            parameters[parameter] = list(values)
    if wanted.name_prefixes is not None:
        conditions.append(_HAS_PREFIX)
        parameters["prefixes"] = json.dumps([{"prefix": prefix} for prefix in wanted.name_prefixes])
    statement = _READ + (" WHERE " + " AND ".join(conditions) if conditions else "")
    rows = database.run("read_schedules", lambda t: t.rows(statement, parameters), "read")
    # Here, as the databases differ in what they call the order of names.
    return sorted((ScheduleRow._make(row) for row in rows), key=lambda row: row.name)


def _rows(schedules: Sequence[Schedule]) -> str:
    return json.dumps([asdict(schedule) for schedule in schedules])
