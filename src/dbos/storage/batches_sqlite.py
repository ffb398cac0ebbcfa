"""A batch of the journal on SQLite: one immediate transaction, which excludes all other writers from its begin on.

So a guard is a plain read inside it, and rows are inserted one by one, as SQLite tells only so which of them were there
already.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dbos.model.status import PENDING
from dbos.model.values import (
    NO_STEPS,
    Batch,
    BatchAnswer,
    Checkpoint,
    Message,
    Place,
    RunAnswer,
    RunWrites,
    StartAnswer,
    Started,
    WorkflowStart,
)
from dbos.storage.batches import KEY_LIFE_MS, start_answers, start_children
from dbos.storage.database import Database, Transaction
from dbos.storage.effects_sqlite import apply_effects, deliver, existing_destinations, has_wrong_receipt

_READ_LIVE_LEASES = "SELECT lease_id FROM executors WHERE state = 'LIVE' AND lease_id ANY_OF(:ids)"

_READ_LAST_SEQ = "SELECT COALESCE(MAX(seq), 0) FROM workflow_status"

_INSERT_START = """
INSERT INTO workflow_status (
    workflow_uuid, status, name, class_name, config_name, inputs, serialization, executor_id, application_version,
    application_id, owner_xid, lease_id, parent_workflow_id, workflow_timeout_ms, workflow_deadline_epoch_ms,
    recovery_attempts, seq, queue_name, deduplication_id, priority, queue_partition_key, authenticated_user,
    assumed_role, authenticated_roles, created_at, updated_at)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, {now}, {now})
ON CONFLICT DO NOTHING"""

_NOWHERE = (None, None, 0, None)

_READ_OWNER = "SELECT owner_xid, status FROM workflow_status WHERE workflow_uuid = ?"

_INSERT_CHECKPOINT = """
INSERT INTO operation_outputs (
    workflow_uuid, owner_xid, function_id, function_name, output, error, serialization, child_workflow_id,
    started_at_epoch_ms, completed_at_epoch_ms)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (workflow_uuid, function_id) DO NOTHING"""

_READ_WRITERS = """
SELECT function_id, owner_xid FROM operation_outputs WHERE workflow_uuid = :id AND function_id ANY_OF(:fids)"""

_INSERT_KEY = f"""
INSERT INTO message_keys (destination_uuid, idempotency_key, expires_at)
VALUES (?, ?, CASE WHEN ? THEN NULL ELSE {{now}} + {KEY_LIFE_MS} END)
ON CONFLICT DO NOTHING"""

_WRITE_OUTCOME = """
UPDATE workflow_status
SET status = ?, output = ?, error = ?, outcome_serialization = ?,
    deduplication_id = NULL, updated_at = {now}, completed_at = {now}
WHERE workflow_uuid = ? AND owner_xid = ? AND status = 'PENDING'"""


class SqliteBatchStore:
    """Commits the journal's batches to SQLite."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @property
    def parallel_commits(self) -> int:
        """SQLite has one writer at a time."""
        return 0

    def commit(self, batch: Batch) -> BatchAnswer:
        only_reads = not batch.starts and not batch.messages and all(run.is_check for run in batch.runs)
        with self._database.transaction("journal", "read" if only_reads else "transaction") as transaction:
            starts = insert_starts(transaction, batch.starts) if batch.starts else []
            messages = insert_messages(transaction, batch.messages) if batch.messages else []
            runs = _write_runs(transaction, batch.runs) if batch.runs else []
        return BatchAnswer(starts, runs, messages)

    def held_up(self, workflow_ids: Sequence[str]) -> set[str]:
        """SQLite locks no rows."""
        return set()


def insert_starts(transaction: Transaction, starts: Sequence[WorkflowStart]) -> list[StartAnswer]:
    """Insert the rows of new workflows; a row that is there already stays as it is."""
    leases = {start.lease_id for start in starts if start.lease_id is not None}
    alive: set[str | None] = {row[0] for row in transaction.rows(_READ_LIVE_LEASES, {"ids": list(leases)})}
    alive.add(None)
    last_seq = transaction.rows(_READ_LAST_SEQ)[0][0]
    allowed = [start for start in starts if start.lease_id in alive]
    rows = [_start_row(start, last_seq + number) for number, start in enumerate(allowed, 1)]
    inserted = transaction.write_each(_INSERT_START, rows)
    if len(inserted) == len(starts) and all(inserted):
        return [Started()] * len(starts)
    new = {start.workflow_id for start, is_new in zip(allowed, inserted, strict=True) if is_new}
    return start_answers(transaction, starts, new)


def insert_messages(transaction: Transaction, messages: Sequence[Message]) -> list[bool]:
    """Send messages from outside of workflows, each once for its key; returns which destinations exist."""
    existing = existing_destinations(transaction, messages)
    known = [message for message in messages if message.destination_id in existing]
    keys = [(message.destination_id, message.key or message.message_id, message.lasts) for message in known]
    fresh = transaction.write_each(_INSERT_KEY, keys)
    deliver(transaction, [message for message, is_new in zip(known, fresh, strict=True) if is_new])
    return [message.destination_id in existing for message in messages]


def _write_runs(transaction: Transaction, runs: Sequence[RunWrites]) -> list[RunAnswer]:
    owners = transaction.row_each(_READ_OWNER, [(run.workflow_id,) for run in runs])
    return [_write_run(transaction, run, *(owner or (None, None))) for run, owner in zip(runs, owners, strict=True)]


def _write_run(transaction: Transaction, run: RunWrites, token: str | None, status: str | None) -> RunAnswer:
    if token != run.token:
        return RunAnswer(token, status)
    standing = foreign = undeliverable = NO_STEPS
    if has_wrong_receipt(transaction, run):
        return RunAnswer(token, status, frozenset(c.function_id for c in run.checkpoints))
    if run.checkpoints:
        checkpoints, lost = _deliverable(transaction, run)
        inserted = transaction.write_each(_INSERT_CHECKPOINT, [_checkpoint_row(run, c) for c in checkpoints])
        pairs = list(zip(checkpoints, inserted, strict=True))
        if lost or not all(inserted):
            asked = lost | {checkpoint.function_id for checkpoint, is_new in pairs if not is_new}
            rows = transaction.rows(_READ_WRITERS, {"id": run.workflow_id, "fids": list(asked)})
            writers: dict[int, str | None] = {row[0]: row[1] for row in rows}
            standing = frozenset(writers)
            foreign = frozenset(fid for fid, writer in writers.items() if writer != run.token)
            undeliverable = lost - standing
        effects = [(c.function_id, c.effect) for c, is_new in pairs if is_new and c.effect is not None]
        apply_effects(transaction, run.workflow_id, effects)
    apply_effects(transaction, run.workflow_id, [(own.function_id, own.effect) for own in run.step_effects])
    children = start_children(transaction, run, standing, foreign, insert_starts) if run.children else {}
    outcome = run.outcome
    if outcome is not None and status == PENDING:
        row = (outcome.status, outcome.output, outcome.error, outcome.serialization, run.workflow_id, run.token)
        transaction.write_each(_WRITE_OUTCOME, [row])
    return RunAnswer(token, status, foreign, children, undeliverable)


def _deliverable(transaction: Transaction, run: RunWrites) -> tuple[Sequence[Checkpoint], frozenset[int]]:
    """The run's checkpoints without those of messages to unknown workflows, and the function ids of those."""
    checkpoints = run.checkpoints
    messages = [c.effect for c in checkpoints if isinstance(c.effect, Message)]
    if not messages:
        return checkpoints, NO_STEPS
    existing = existing_destinations(transaction, messages) | {child.start.workflow_id for child in run.children}
    lost = frozenset(
        c.function_id for c in checkpoints if isinstance(c.effect, Message) and c.effect.destination_id not in existing
    )
    return [c for c in checkpoints if c.function_id not in lost], lost


def _start_row(start: WorkflowStart, seq: int) -> tuple[Any, ...]:
    place = start.place
    return (
        start.workflow_id,
        start.status,
        start.name,
        start.class_name,
        start.config_name,
        start.inputs,
        start.serialization,
        start.executor_id,
        start.application_version,
        start.application_id,
        start.token,
        start.lease_id,
        start.parent_workflow_id,
        start.timeout_ms,
        start.deadline_ms,
        0 if start.token is None else 1,
        seq,
        *(_NOWHERE if place is None else _place_row(place)),
        start.authentication.user,
        start.authentication.assumed_role,
        start.authentication.roles_text,
    )


def _place_row(place: Place) -> tuple[Any, ...]:
    return (place.queue, place.deduplication_id, place.priority, place.partition_key)


def _checkpoint_row(run: RunWrites, checkpoint: Checkpoint) -> tuple[Any, ...]:
    return (
        run.workflow_id,
        run.token,
        checkpoint.function_id,
        checkpoint.name,
        checkpoint.output,
        checkpoint.error,
        checkpoint.serialization,
        checkpoint.child_workflow_id,
        checkpoint.started_at_ms,
        checkpoint.completed_at_ms,
    )
