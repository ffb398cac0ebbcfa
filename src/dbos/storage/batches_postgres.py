"""A batch of the journal on PostgreSQL: at most one statement per kind of write.

The rows of a kind travel as one JSON document, which the server takes apart: for the client that is half the work of
arrays. A lone row travels as plain parameters, which saves the server a third of the time. Starts need no guard, their
row does not exist yet; but they lock the lease that they are made under, so that whoever declares it dead sees them or
is seen by them. The writes of runs are guarded: the statement locks the runs' rows, sees who owns them *after* any wait
for the lock, and writes only for the owner. A take-over therefore waits for writes in flight, and finds them when it
loads the checkpoints.
"""

from __future__ import annotations

import functools
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
from dbos.storage.batches import start_answers, start_children
from dbos.storage.database import Database, Transaction

# The columns of what is written, each with its type: the rows of a statement come from parameters if there is one, and
# from a JSON document if there are several.
_START_COLUMNS = (
    "id text, status text, name text, class text, config text, inputs text, format text, executor text, version text, "
    "app text, token text, lease text, parent text, timeout bigint, deadline bigint"
)
_STEP_COLUMNS = (
    "id text, token text, fid integer, name text, output text, error text, format text, child text, started bigint, "
    "completed bigint"
)
_ENDING_COLUMNS = "id text, token text, status text, output text, error text, format text"


def _rows(name: str, columns: str, is_one: bool) -> str:
    """A table expression of that name; its rows are bound to parameters that begin with the name."""
    if not is_one:
        return f"{name} AS MATERIALIZED (SELECT * FROM json_to_recordset(:{name}) AS {name} ({columns}))"
    typed = (column.split() for column in columns.split(", "))
    values = ", ".join(f":{name}_{column}::{kind} AS {column}" for column, kind in typed)
    return f"{name} AS MATERIALIZED (SELECT {values})"


@functools.cache
def _insert_starts(is_one: bool) -> str:
    return f"""
WITH {_rows("new", _START_COLUMNS, is_one)}, alive AS MATERIALIZED (
    SELECT lease_id FROM {{schema}}executors
    WHERE lease_id IN (SELECT lease FROM new) AND state = 'LIVE' ORDER BY lease_id FOR KEY SHARE
)
INSERT INTO {{schema}}workflow_status (
    workflow_uuid, status, name, class_name, config_name, inputs, serialization, executor_id, application_version,
    application_id, owner_xid, lease_id, parent_workflow_id, workflow_timeout_ms, workflow_deadline_epoch_ms,
    recovery_attempts, created_at, updated_at)
SELECT id, status, name, class, config, inputs, format, executor, version, app, token, lease, parent, timeout, deadline,
    CASE WHEN token IS NULL THEN 0 ELSE 1 END, {{now}}, {{now}}
FROM new WHERE lease IS NULL OR lease IN (SELECT lease_id FROM alive)
ON CONFLICT (workflow_uuid) DO NOTHING
RETURNING workflow_uuid"""


_READ_OWNERS = """
SELECT workflow_uuid, owner_xid, status, 0 FROM {schema}workflow_status WHERE workflow_uuid ANY_OF(:ids)"""


@functools.cache
def _write_runs(is_one: bool, has_steps: bool, has_endings: bool) -> str:
    """Guard, checkpoints, outcomes; the answer is a row for each guarded run, with the count of all checkpoints.

    The status is not part of the guard's condition, which would lure the planner onto the index of pending workflows:
    it is read with the lock, and decides about the outcome only.
    """
    parts = [
        f"""guard AS MATERIALIZED (
    SELECT workflow_uuid, owner_xid, status FROM {{schema}}workflow_status
    WHERE workflow_uuid {"= :id" if is_one else "ANY_OF(:ids) ORDER BY workflow_uuid"} FOR NO KEY UPDATE
)"""
    ]
    if has_steps:
        parts.append(_rows("step", _STEP_COLUMNS, is_one))
        parts.append("""inserted AS (
    INSERT INTO {schema}operation_outputs (
        workflow_uuid, function_id, function_name, output, error, serialization, child_workflow_id,
        started_at_epoch_ms, completed_at_epoch_ms, owner_xid)
    SELECT step.id, fid, step.name, output, error, format, child, started, completed, token
    FROM step JOIN guard ON guard.workflow_uuid = step.id AND guard.owner_xid = step.token
    ON CONFLICT (workflow_uuid, function_id) DO NOTHING
    RETURNING 1
)""")
    if has_endings:
        parts.append(_rows("ending", _ENDING_COLUMNS, is_one))
        parts.append("""ended AS (
    UPDATE {schema}workflow_status AS row
    SET status = ending.status, output = ending.output, error = ending.error, outcome_serialization = ending.format,
        deduplication_id = NULL, updated_at = {now}, completed_at = {now}
    FROM ending JOIN guard ON guard.workflow_uuid = ending.id AND guard.owner_xid = ending.token
    WHERE row.workflow_uuid = ending.id AND row.owner_xid = ending.token AND guard.status = 'PENDING'
)""")
    counted = "(SELECT count(*) FROM inserted)" if has_steps else "0"
    return f"""
WITH {", ".join(parts)}
SELECT guard.workflow_uuid, guard.owner_xid, guard.status, {counted} FROM guard"""


# A row carries the transaction that inserted it, which tells what this try wrote from what an earlier one did.
_READ_WRITERS = """
SELECT function_id, owner_xid, xmin = pg_current_xact_id()::xid
FROM {schema}operation_outputs WHERE workflow_uuid = :id AND function_id ANY_OF(:fids)"""


_MAX_PARALLEL_COMMITS = 4


class PostgresBatchStore:
    """Commits the journal's batches to PostgreSQL."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @property
    def parallel_commits(self) -> int:
        """Postgres flushes the commits of several connections together; some connections are left to others."""
        return max(0, min(_MAX_PARALLEL_COMMITS, self._database.pool_size - 2))

    def commit(self, batch: Batch) -> BatchAnswer:
        is_alone = not batch.runs or (not batch.starts and not any(run.children for run in batch.runs))
        with self._database.transaction("journal", "statement" if is_alone else "transaction") as transaction:
            starts = insert_starts(transaction, batch.starts) if batch.starts else []
            runs = write_runs(transaction, batch.runs) if batch.runs else []
        return BatchAnswer(starts, runs)


def insert_starts(transaction: Transaction, starts: Sequence[WorkflowStart]) -> list[StartAnswer]:
    """Insert the rows of new workflows; a row that is there already stays as it is."""
    rows = [_start_row(start) for start in starts]
    inserted = transaction.rows(_insert_starts(len(rows) == 1), _bound("new", rows))
    if len(inserted) == len(starts):
        return [Started()] * len(starts)
    return start_answers(transaction, starts, {row[0] for row in inserted})


def write_runs(transaction: Transaction, runs: Sequence[RunWrites]) -> list[RunAnswer]:
    """Write what the runs recorded, for those that own their workflow."""
    steps = [_checkpoint_row(run, checkpoint) for run in runs for checkpoint in run.checkpoints]
    endings = [_outcome_row(run, run.outcome) for run in runs if run.outcome is not None]
    ids = [run.workflow_id for run in runs]
    if not steps and not endings:
        rows = transaction.rows(_READ_OWNERS, {"ids": ids})
    else:
        is_one = len(runs) == 1 and len(steps) <= 1
        parameters: dict[str, Any] = {"id": ids[0]} if is_one else {"ids": ids}
        for name, its_rows in (("step", steps), ("ending", endings)):
            if its_rows:
                parameters.update(_bound(name, its_rows, is_one))
        rows = transaction.rows(_write_runs(is_one, bool(steps), bool(endings)), parameters)
    owners = {row[0]: (row[1], row[2]) for row in rows}
    owned = [run for run in runs if owners.get(run.workflow_id, (None, None))[0] == run.token]
    inserted = rows[0][3] if rows else 0
    has_standing = inserted != sum(len(run.checkpoints) for run in owned)
    return [_answer(transaction, run, *owners.get(run.workflow_id, (None, None)), has_standing) for run in runs]


def _bound(name: str, rows: Sequence[dict[str, Any]], is_one: bool | None = None) -> dict[str, Any]:
    """The rows as the parameters of a table expression."""
    if len(rows) == 1 and is_one is not False:
        return {f"{name}_{column}": value for column, value in rows[0].items()}
    given = [{column: value for column, value in row.items() if value is not None} for row in rows]
    return {name: json.dumps(given, ensure_ascii=False)}


def _answer(
    transaction: Transaction, run: RunWrites, token: str | None, status: str | None, has_standing: bool
) -> RunAnswer:
    """The answer to one run; ``has_standing`` tells that some checkpoint of the batch stood there already."""
    if token != run.token:
        return RunAnswer(token, status)
    standing = foreign = frozenset[int]()
    if has_standing and run.checkpoints:
        fids = [checkpoint.function_id for checkpoint in run.checkpoints]
        writers = transaction.rows(_READ_WRITERS, {"id": run.workflow_id, "fids": fids})
        foreign = frozenset(fid for fid, writer, _ in writers if writer != run.token)
        standing = frozenset(fid for fid, _, is_new in writers if not is_new)
    children = start_children(transaction, run, standing, foreign, insert_starts) if run.children else {}
    return RunAnswer(token, status, foreign, children)


def _start_row(start: WorkflowStart) -> dict[str, Any]:
    return {
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


def _checkpoint_row(run: RunWrites, checkpoint: Checkpoint) -> dict[str, Any]:
    return {
        "id": run.workflow_id,
        "token": run.token,
        "fid": checkpoint.function_id,
        "name": checkpoint.name,
        "output": checkpoint.output,
        "error": checkpoint.error,
        "format": checkpoint.serialization,
        "child": checkpoint.child_workflow_id,
        "started": checkpoint.started_at_ms,
        "completed": checkpoint.completed_at_ms,
    }


def _outcome_row(run: RunWrites, outcome: Outcome) -> dict[str, Any]:
    return {
        "id": run.workflow_id,
        "token": run.token,
        "status": outcome.status,
        "output": outcome.output,
        "error": outcome.error,
        "format": outcome.serialization,
    }
