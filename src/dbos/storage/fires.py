"""Firing: the workflows that schedules start, each once for each fire time.

Every executor that knows the function tries; who is first settles the fire time, in the transaction that enqueues the
workflow. Settled is settled: also when the workflow is deleted soon after, and some executor is late. The row of the
schedule is locked meanwhile, so that nothing fires that is paused, deleted or replaced.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from dbos.model.schedules import ScheduleRow
from dbos.model.values import WorkflowStart
from dbos.storage.batches import insert_starts
from dbos.storage.database import Database, Transaction

STORED, DECORATED = "workflow_schedules", "decorated_schedules"
"""Where fire times are settled: with the stored schedule; or by the name of the function, if its decorator says when it
is to run."""

_READ_ACTIVE_IDS = "SELECT schedule_id FROM {schema}workflow_schedules WHERE status = 'ACTIVE'"

_READ_ACTIVE = """
SELECT schedule_id, schedule_name, workflow_name, workflow_class_name, schedule, status, context, serialization,
    fired_until_epoch_ms
FROM {schema}workflow_schedules WHERE schedule_id ANY_OF(:ids) AND status = 'ACTIVE'"""

_READ_DECORATED = "SELECT schedule_id, fired_until_epoch_ms FROM {schema}decorated_schedules ORDER BY schedule_id"

_NOTE_DECORATED = """
INSERT INTO {schema}decorated_schedules (schedule_id, status, fired_until_epoch_ms)
SELECT new.name, 'ACTIVE', {now} FROM ROWS_OF(:new, name text) WHERE TRUE
ON CONFLICT DO NOTHING"""

_LOCK = """
SELECT schedule_id, fired_until_epoch_ms, {{now}} FROM {{schema}}{table}
WHERE schedule_id ANY_OF(:ids) AND status = 'ACTIVE' ORDER BY schedule_id"""

_SETTLE = """
UPDATE {{schema}}{table} SET fired_until_epoch_ms = :at WHERE schedule_id ANY_OF(:ids)"""


@dataclass(frozen=True, slots=True)
class Fire:
    """One fire time of one schedule, and the workflow that it starts.

    Attributes:
        kind: ``STORED`` or ``DECORATED``.
        schedule_id: The schedule's id, or the function's name.
        at_ms: The fire time.
        start: The enqueued workflow.
    """

    kind: str
    schedule_id: str
    at_ms: int
    start: WorkflowStart


@dataclass(frozen=True, slots=True)
class Fired:
    """What became of fire times.

    Attributes:
        has_started: Whether workflows may have been enqueued.
        early: Those whose time has not come yet by the database's clock. All others are settled.
    """

    has_started: bool
    early: frozenset[Fire]


NOTHING_FIRED = Fired(False, frozenset())


def read_active_ids(database: Database) -> set[str]:
    """The ids of the schedules that fire."""
    return {row[0] for row in database.run("read_active_ids", lambda t: t.rows(_READ_ACTIVE_IDS), "read")}


def read_active(database: Database, schedule_ids: Sequence[str]) -> list[ScheduleRow]:
    """Those of these schedules that fire."""
    parameters = {"ids": list(schedule_ids)}
    rows = database.run("read_active", lambda t: t.rows(_READ_ACTIVE, parameters), "read")
    return [ScheduleRow._make(row) for row in rows]


def note_decorated(database: Database, names: Sequence[str]) -> None:
    """Make sure that the fire times of these functions can be settled."""
    new = json.dumps([{"name": name} for name in names])
    database.run("note_decorated", lambda t: t.write(_NOTE_DECORATED, {"new": new}), "statement")


def read_decorated(database: Database) -> dict[str, int]:
    """Until when the fire times are settled of functions whose decorators say when they run, by their names."""
    rows = database.run("read_decorated", lambda t: t.rows(_READ_DECORATED), "read")
    return {row[0]: row[1] for row in rows}


def fire(database: Database, fires: Sequence[Fire]) -> Fired:
    """Settle the fire times, and enqueue the workflows of those that were not settled.

    Args:
        database: The system database.
        fires: Those of one schedule in their order.
    """
    has_started = False
    """That of tries that were not answered counts too."""

    def work(transaction: Transaction) -> Fired:
        nonlocal has_started
        open_fires: list[Fire] = []
        early: set[Fire] = set()
        for kind in (STORED, DECORATED):
            its_open, its_early = _settle(transaction, kind, [fire for fire in fires if fire.kind == kind])
            open_fires.extend(its_open)
            early.update(its_early)
        if open_fires:
            # One that was backfilled is there already.
            insert_starts(transaction, [fire.start for fire in open_fires])
            has_started = True
        return Fired(has_started, frozenset(early))

    return database.run("fire", work)


def _settle(transaction: Transaction, kind: str, fires: Sequence[Fire]) -> tuple[list[Fire], list[Fire]]:
    """Settle the fire times of one kind; returns those that were open, and those whose time has not come yet."""
    if not fires:
        return [], []
    lock = _LOCK.format(table=kind) + (" FOR NO KEY UPDATE" if transaction.locks_rows else "")
    ids = sorted({fire.schedule_id for fire in fires})
    marks = {row[0]: (row[1], row[2]) for row in transaction.rows(lock, {"ids": ids})}
    open_fires: list[Fire] = []
    early: list[Fire] = []
    latest: dict[str, int] = {}
    for fire in fires:
        if fire.schedule_id not in marks:
            continue
        fired_until_ms, now_ms = marks[fire.schedule_id]
        if fire.at_ms > now_ms:
            early.append(fire)
        elif fired_until_ms is None or fire.at_ms > fired_until_ms:
            open_fires.append(fire)
            latest[fire.schedule_id] = max(fire.at_ms, latest.get(fire.schedule_id, fire.at_ms))
    # Mostly they are all of one time.
    for at_ms in sorted(set(latest.values())):
        its_ids = [schedule_id for schedule_id, its_latest in latest.items() if its_latest == at_ms]
        transaction.write(_SETTLE.format(table=kind), {"at": at_ms, "ids": its_ids})
    return open_fires, early
