"""Steering workflows from outside: cancel, resume, fork, delete.

Each is one transaction, and may be tried again: the second time it finds done what the first one did. A workflow's
token stays when it is cancelled, so that the step in flight is still recorded and the run learns of it at its next
write; resuming clears it, which fences the run. Changes lock rows in the order of their ids, as the journal does.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from dbos.model.queues import INTERNAL_QUEUE
from dbos.model.status import CANCELLED, ENQUEUED, MAX_RECOVERY_ATTEMPTS_EXCEEDED
from dbos.model.values import RecordedStep
from dbos.storage.database import Database, Transaction

_FIND_LIVE = """
SELECT workflow_uuid, owner_xid FROM {schema}workflow_status
WHERE workflow_uuid ANY_OF(:ids) AND status IN ('PENDING', 'ENQUEUED')
ORDER BY workflow_uuid"""

_FIND_OVERDUE = """
SELECT workflow_uuid, owner_xid FROM {schema}workflow_status
WHERE workflow_deadline_epoch_ms IS NOT NULL AND status IN ('PENDING', 'ENQUEUED')
AND workflow_deadline_epoch_ms <= (SELECT {now})
ORDER BY workflow_uuid"""

_FIND_CANCELLED = """
SELECT workflow_uuid, owner_xid FROM {schema}workflow_status
WHERE workflow_uuid ANY_OF(:ids) AND status = 'CANCELLED'"""

_CANCEL = """
UPDATE {schema}workflow_status
SET status = 'CANCELLED', deduplication_id = NULL, updated_at = {now}, completed_at = {now}
WHERE workflow_uuid ANY_OF(:ids) AND status IN ('PENDING', 'ENQUEUED')"""

_LOCK = """
SELECT status, queue_name, forked_from, delay_until_epoch_ms FROM {schema}workflow_status WHERE workflow_uuid = :id"""

# The deadline of a workflow that has run is cleared, and with it its timeout; one that waits in a queue keeps its
# timeout, which begins when it starts.
_RESUME = """
UPDATE {schema}workflow_status
SET status = 'ENQUEUED', queue_name = :queue, owner_xid = NULL, lease_id = NULL, recovery_attempts = 0,
    workflow_timeout_ms = CASE WHEN workflow_deadline_epoch_ms IS NULL THEN workflow_timeout_ms END,
    workflow_deadline_epoch_ms = NULL, delay_until_epoch_ms = NULL, deduplication_id = NULL,
    queue_partition_key = NULL, started_at_epoch_ms = NULL, completed_at = NULL, updated_at = {now}
WHERE workflow_uuid = :id"""

_FORK = """
INSERT INTO {schema}workflow_status (
    workflow_uuid, status, name, class_name, config_name, authenticated_user, assumed_role, authenticated_roles, inputs,
    serialization, application_version, application_id, queue_name, forked_from, recovery_attempts,
    workflow_timeout_ms, created_at, updated_at)
SELECT :new, 'ENQUEUED', name, class_name, config_name, authenticated_user, assumed_role, authenticated_roles, inputs,
    serialization, :version, application_id, :queue, workflow_uuid, 0,
    CAST(:timeout_ms AS BIGINT), {now}, {now}
FROM {schema}workflow_status WHERE workflow_uuid = :id
ON CONFLICT (workflow_uuid) DO NOTHING"""

_COPY_STEPS = """
INSERT INTO {schema}operation_outputs (
    workflow_uuid, function_id, function_name, output, error, serialization, child_workflow_id, started_at_epoch_ms,
    completed_at_epoch_ms)
SELECT :new, function_id, function_name, output, error, serialization, child_workflow_id, started_at_epoch_ms,
    completed_at_epoch_ms
FROM {schema}operation_outputs WHERE workflow_uuid = :id AND function_id < :step"""

_INSERT_STEP = """
INSERT INTO {schema}operation_outputs (workflow_uuid, function_id, function_name, output, error, serialization)
VALUES (:id, :fid, :name, :output, :error, :format)
ON CONFLICT (workflow_uuid, function_id) DO NOTHING"""

_COPY_EVENT_HISTORY = """
INSERT INTO {schema}workflow_events_history (workflow_uuid, key, function_id, value, serialization)
SELECT :new, key, function_id, value, serialization
FROM {schema}workflow_events_history WHERE workflow_uuid = :id AND function_id < :step"""

_COPY_EVENTS = """
INSERT INTO {schema}workflow_events (workflow_uuid, key, value, serialization)
SELECT workflow_uuid, key, value, serialization FROM {schema}workflow_events_history AS newest
WHERE workflow_uuid = :new AND function_id = (
    SELECT MAX(function_id) FROM {schema}workflow_events_history AS its
    WHERE its.workflow_uuid = :new AND its.key = newest.key)"""

# Numbered anew: what a later step wrote in between is left out.
_COPY_STREAMS = """
INSERT INTO {schema}streams (workflow_uuid, key, "offset", value, serialization, function_id)
SELECT :new, key, row_number() OVER (PARTITION BY key ORDER BY "offset") - 1, value, serialization, function_id
FROM {schema}streams WHERE workflow_uuid = :id AND function_id < :step"""

_COPIES = (_COPY_STEPS, _COPY_EVENT_HISTORY, _COPY_EVENTS, _COPY_STREAMS)

_FIND_DESCENDANTS = """
WITH RECURSIVE family (id) AS (
    SELECT workflow_uuid FROM {schema}workflow_status WHERE workflow_uuid ANY_OF(:ids)
    UNION
    SELECT workflow_uuid FROM {schema}workflow_status JOIN family ON parent_workflow_id = family.id
)
SELECT id FROM family"""

_LOCK_ALL = """
SELECT workflow_uuid, owner_xid FROM {schema}workflow_status WHERE workflow_uuid ANY_OF(:ids) ORDER BY workflow_uuid"""

DELETIONS = tuple(
    f"DELETE FROM {{schema}}{table} WHERE {column} ANY_OF(:ids)"
    for table, column in (
        ("workflow_status", "workflow_uuid"),
        ("operation_outputs", "workflow_uuid"),
        ("notifications", "destination_uuid"),
        ("message_keys", "destination_uuid"),
        ("workflow_events", "workflow_uuid"),
        ("workflow_events_history", "workflow_uuid"),
        ("streams", "workflow_uuid"),
        ("transaction_outputs", "workflow_uuid"),
    )
)


class Owned(NamedTuple):
    """A workflow, and the token of the run that owned it, if one did."""

    workflow_id: str
    token: str | None


@dataclass(frozen=True, slots=True)
class Forked:
    """The new workflow is there; so it is if an earlier call with the same id made it."""


@dataclass(frozen=True, slots=True)
class NoSuchWorkflow:
    """The workflow to be forked or resumed does not exist."""


@dataclass(frozen=True, slots=True)
class IdTaken:
    """Another workflow has the id that the fork was to have."""


def cancel(database: Database, workflow_ids: Sequence[str]) -> list[Owned]:
    """Cancel those of the workflows that have not ended; returns which."""
    find = itertools.repeat(_FIND_LIVE + _lock(database))
    return _cancel(database, "cancel", find, {"ids": list(workflow_ids)})


def cancel_overdue(database: Database) -> list[Owned]:
    """Cancel all workflows whose deadline has passed, parents and children together; returns which.

    What somebody keeps locked is waited for once, and then left for the next time.
    """
    find = _FIND_OVERDUE + _lock(database)
    skip = " SKIP LOCKED" if database.locks_rows else ""
    return _cancel(database, "cancel_overdue", itertools.chain([find], itertools.repeat(find + skip)), {})


def _cancel(database: Database, operation: str, finds: Iterator[str], parameters: dict[str, object]) -> list[Owned]:
    """Cancel what is found; ``finds`` are the statements for one try after the other."""
    tried: set[Owned] = set()
    """What earlier tries found, of which nobody knows whether they were committed."""

    def work(transaction: Transaction) -> list[Owned]:
        found = {Owned._make(row) for row in transaction.rows(next(finds), parameters)}
        if found:
            transaction.write(_CANCEL, {"ids": [owned.workflow_id for owned in found]})
        ids = [owned.workflow_id for owned in tried - found]
        done = {Owned._make(row) for row in transaction.rows(_FIND_CANCELLED, {"ids": ids})} if ids else set[Owned]()
        tried.update(found)
        return list(found | (tried & done))

    return database.run(operation, work)


def resume(database: Database, workflow_id: str) -> bool:
    """Put a workflow that was cancelled, given up or enqueued on the internal queue; leave any other as it is.

    Returns:
        Whether there is such a workflow.
    """

    def work(transaction: Transaction) -> bool:
        rows = transaction.rows(_LOCK + _lock(database), {"id": workflow_id})
        if not rows:
            return False
        status, queue, _, delay_until = rows[0]
        is_held_up = status == ENQUEUED and (queue != INTERNAL_QUEUE or delay_until is not None)
        if is_held_up or status in (CANCELLED, MAX_RECOVERY_ATTEMPTS_EXCEEDED):
            transaction.write(_RESUME, {"id": workflow_id, "queue": INTERNAL_QUEUE})
        return True

    return database.run("resume", work)


def fork(
    database: Database,
    *,
    workflow_id: str,
    new_id: str,
    start_step: int,
    application_version: str | None,
    timeout_ms: int | None,
    transactions: Iterable[RecordedStep] = (),
) -> Forked | NoSuchWorkflow | IdTaken:
    """Make a workflow that has the first steps of another, with the events and streams as of then, and enqueue it.

    Args:
        workflow_id: The workflow to be forked.
        new_id: The new one's id.
        start_step: The first step that is not copied.
        application_version: The version that is to run it; ``None`` for any.
        timeout_ms: The new one's timeout, from its start.
        transactions: Steps of the workflow that are recorded in another database, and maybe not in this one yet.
    """
    parameters = {"id": workflow_id, "new": new_id, "step": start_step}

    def work(transaction: Transaction) -> Forked | NoSuchWorkflow | IdTaken:
        # Locked, so that what its run records meanwhile is copied whole or not at all.
        if not transaction.rows(_LOCK + _lock(database), {"id": workflow_id}):
            return NoSuchWorkflow()
        row = {"version": application_version, "queue": INTERNAL_QUEUE, "timeout_ms": timeout_ms}
        if not transaction.write(_FORK, {"id": workflow_id, "new": new_id, **row}):
            forked_from = transaction.rows(_LOCK, {"id": new_id})[0][2]
            return Forked() if forked_from == workflow_id else IdTaken()
        for copy in _COPIES:
            transaction.write(copy, parameters)
        for step in transactions:
            if step.function_id < start_step:
                transaction.write(_INSERT_STEP, {"id": new_id, **_step_row(step)})
        return Forked()

    return database.run("fork", work)


def delete(database: Database, workflow_ids: Sequence[str], *, with_descendants: bool) -> list[Owned]:
    """Delete the workflows with everything that belongs to them; returns which there were."""

    wanted = set(workflow_ids)
    found: dict[str, Owned] = {}
    """What this try, or an earlier one, found."""

    def work(transaction: Transaction) -> list[Owned]:
        ids = wanted | found.keys()
        while True:
            # Locked in the journal's order; a child whose start was in flight is visible when its parent is locked.
            rows = transaction.rows(_LOCK_ALL + (" FOR UPDATE" if database.locks_rows else ""), {"ids": sorted(ids)})
            found.update((row[0], Owned._make(row)) for row in rows)
            family = ids
            if with_descendants:
                family = ids | {row[0] for row in transaction.rows(_FIND_DESCENDANTS, {"ids": sorted(ids)})}
            if family == ids:
                break
            ids = family
        for deletion in DELETIONS:
            transaction.write(deletion, {"ids": sorted(ids)})
        return list(found.values())

    return database.run("delete", work)


def _step_row(step: RecordedStep) -> dict[str, object]:
    return {
        "fid": step.function_id,
        "name": step.name,
        "output": step.output,
        "error": step.error,
        "format": step.serialization,
    }


def _lock(database: Database) -> str:
    return " FOR NO KEY UPDATE" if database.locks_rows else ""
