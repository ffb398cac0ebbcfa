"""A batch of the journal on PostgreSQL: at most one statement per kind of write.

The rows of a kind travel as one JSON document, which the server takes apart: for the client that is half the work of
arrays, and for a lone row no more than plain parameters. Starts need no guard, their row does not exist yet; but they
lock the lease that they are made under, so that whoever declares it dead sees them or is seen by them. The writes of
runs are guarded: the statement locks the runs' rows, sees who owns them *after* any wait for the lock, and writes only
for the owner. A take-over therefore waits for writes in flight, and finds them when it loads the checkpoints.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from dbos.model.values import (
    Batch,
    BatchAnswer,
    Checkpoint,
    Outcome,
    RunAnswer,
    RunWrites,
    StartAnswer,
    Started,
    WorkflowStart,
)
from dbos.storage.batches import start_answers
from dbos.storage.database import Database, Transaction

_INSERT_STARTS = """
WITH new AS MATERIALIZED (
    SELECT * FROM json_to_recordset(:starts) AS new (
        id text, status text, name text, class text, config text, inputs text, format text, executor text,
        version text, app text, token text, lease text, parent text, timeout bigint, deadline bigint)
), alive AS MATERIALIZED (
    SELECT lease_id FROM {schema}executors
    WHERE lease_id IN (SELECT lease FROM new) AND state = 'LIVE' ORDER BY lease_id FOR KEY SHARE
)
INSERT INTO {schema}workflow_status (
    workflow_uuid, status, name, class_name, config_name, inputs, serialization, executor_id, application_version,
    application_id, owner_xid, lease_id, parent_workflow_id, workflow_timeout_ms, workflow_deadline_epoch_ms,
    recovery_attempts, created_at, updated_at)
SELECT id, status, name, class, config, inputs, format, executor, version, app, token, lease, parent, timeout, deadline,
    CASE WHEN token IS NULL THEN 0 ELSE 1 END, {now}, {now}
FROM new WHERE lease IS NULL OR lease IN (SELECT lease_id FROM alive)
ON CONFLICT (workflow_uuid) DO NOTHING
RETURNING workflow_uuid, owner_xid"""

_READ_OWNERS = """
SELECT workflow_uuid, owner_xid, status, 0 FROM {schema}workflow_status WHERE workflow_uuid ANY_OF(:ids)"""

# The status is not part of the guard's condition, which would lure the planner onto the index of pending workflows:
# it is read with the lock, and decides about the outcome only.
_WRITE_RUNS = """
WITH step AS MATERIALIZED (
    SELECT * FROM json_to_recordset(:checkpoints) AS step (
        id text, token text, fid integer, name text, output text, error text, format text, child text,
        started bigint, completed bigint)
), ending AS MATERIALIZED (
    SELECT * FROM json_to_recordset(:outcomes) AS ending (
        id text, token text, status text, output text, error text, format text)
), guard AS MATERIALIZED (
    SELECT workflow_uuid, owner_xid, status FROM {schema}workflow_status
    WHERE workflow_uuid ANY_OF(:ids) ORDER BY workflow_uuid FOR NO KEY UPDATE
), inserted AS (
    INSERT INTO {schema}operation_outputs (
        workflow_uuid, function_id, function_name, output, error, serialization, child_workflow_id,
        started_at_epoch_ms, completed_at_epoch_ms, owner_xid)
    SELECT step.id, fid, step.name, output, error, format, child, started, completed, token
    FROM step JOIN guard ON guard.workflow_uuid = step.id AND guard.owner_xid = step.token
    ON CONFLICT (workflow_uuid, function_id) DO NOTHING
    RETURNING workflow_uuid
), ended AS (
    UPDATE {schema}workflow_status AS row
    SET status = ending.status, output = ending.output, error = ending.error, outcome_serialization = ending.format,
        deduplication_id = NULL, updated_at = {now}, completed_at = {now}
    FROM ending JOIN guard ON guard.workflow_uuid = ending.id AND guard.owner_xid = ending.token
    WHERE row.workflow_uuid = ending.id AND row.owner_xid = ending.token AND guard.status = 'PENDING'
)
SELECT guard.workflow_uuid, guard.owner_xid, guard.status, COALESCE(counted.checkpoints, 0)
FROM guard LEFT JOIN (SELECT workflow_uuid, count(*) AS checkpoints FROM inserted GROUP BY workflow_uuid) AS counted
    ON counted.workflow_uuid = guard.workflow_uuid"""

# A row carries the transaction that inserted it, which tells what this try wrote from what an earlier one did.
_READ_WRITERS = """
SELECT function_id, owner_xid, xmin = pg_current_xact_id()::xid
FROM {schema}operation_outputs WHERE workflow_uuid = :id AND function_id ANY_OF(:fids)"""


class PostgresBatchStore:
    """Commits the journal's batches to PostgreSQL."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def commit(self, batch: Batch) -> BatchAnswer:
        is_alone = not batch.runs or (not batch.starts and not any(run.children for run in batch.runs))
        with self._database.transaction("journal", "statement" if is_alone else "transaction") as transaction:
            starts = insert_starts(transaction, batch.starts) if batch.starts else []
            runs = _write_runs(transaction, batch.runs) if batch.runs else []
        return BatchAnswer(starts, runs)


def insert_starts(transaction: Transaction, starts: Sequence[WorkflowStart]) -> list[StartAnswer]:
    """Insert the rows of new workflows; a row that is there already stays as it is."""
    inserted: dict[str, str | None] = dict(
        transaction.rows(_INSERT_STARTS, {"starts": json.dumps([_start_row(start) for start in starts])})
    )
    if len(inserted) == len(starts):
        return [Started()] * len(starts)
    return start_answers(transaction, starts)


def _write_runs(transaction: Transaction, runs: Sequence[RunWrites]) -> list[RunAnswer]:
    ids = [run.workflow_id for run in runs]
    if all(run.is_check for run in runs):
        rows = transaction.rows(_READ_OWNERS, {"ids": ids})
    else:
        rows = transaction.rows(
            _WRITE_RUNS,
            {
                "ids": ids,
                "checkpoints": json.dumps([_checkpoint_row(run, c) for run in runs for c in run.checkpoints]),
                "outcomes": json.dumps([_outcome_row(run, run.outcome) for run in runs if run.outcome is not None]),
            },
        )
    guarded = {row[0]: row[1:] for row in rows}
    return [_run_answer(transaction, run, *guarded.get(run.workflow_id, (None, None, 0))) for run in runs]


def _run_answer(
    transaction: Transaction, run: RunWrites, token: str | None, status: str | None, inserted: int
) -> RunAnswer:
    if token != run.token:
        return RunAnswer(token, status)
    fresh = foreign = frozenset[int]()
    if inserted == len(run.checkpoints):
        children = run.children
    else:
        fids = [checkpoint.function_id for checkpoint in run.checkpoints]
        writers = transaction.rows(_READ_WRITERS, {"id": run.workflow_id, "fids": fids})
        foreign = frozenset(fid for fid, writer, _ in writers if writer != run.token)
        fresh = frozenset(fid for fid, _, is_fresh in writers if is_fresh)
        children = [child for child in run.children if child.function_id in fresh]
    if not run.children:
        return RunAnswer(token, status, foreign)
    answers = insert_starts(transaction, [child.start for child in children]) if children else []
    by_id: dict[str, StartAnswer] = {c.start.workflow_id: a for c, a in zip(children, answers, strict=True)}
    for child in run.children:
        # Recorded by an earlier try, which started the child in the same transaction.
        by_id.setdefault(child.start.workflow_id, Started())
    return RunAnswer(token, status, foreign, by_id)


def _start_row(start: WorkflowStart) -> dict[str, Any]:
    row = {
        "id": start.workflow_id,
        "status": start.status,
        "name": start.name,
        "class": start.class_name,
        "config": start.config_name,
        "inputs": start.inputs,
        "format": start.serialization,
        "executor": start.executor_id,
        "version": start.application_version,
        "app": start.application_id,
        "token": start.token,
        "lease": start.lease_id,
        "parent": start.parent_workflow_id,
        "timeout": start.timeout_ms,
        "deadline": start.deadline_ms,
    }
    return {key: value for key, value in row.items() if value is not None}


def _checkpoint_row(run: RunWrites, checkpoint: Checkpoint) -> dict[str, Any]:
    row: dict[str, Any] = {
        "id": run.workflow_id,
        "token": run.token,
        "fid": checkpoint.function_id,
        "name": checkpoint.name,
        "format": checkpoint.serialization,
        "started": checkpoint.started_at_ms,
        "completed": checkpoint.completed_at_ms,
    }
    if checkpoint.output is not None:
        row["output"] = checkpoint.output
    if checkpoint.error is not None:
        row["error"] = checkpoint.error
    if checkpoint.child_workflow_id is not None:
        row["child"] = checkpoint.child_workflow_id
    return row


def _outcome_row(run: RunWrites, outcome: Outcome) -> dict[str, Any]:
    return {
        "id": run.workflow_id,
        "token": run.token,
        "status": outcome.status,
        "output": outcome.output,
        "error": outcome.error,
        "format": outcome.serialization,
    }
