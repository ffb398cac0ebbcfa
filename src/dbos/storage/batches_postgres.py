"""A batch of the journal on PostgreSQL: at most one statement per kind of write.

Starts need no guard, their row does not exist yet; but they lock the lease that they are made under, so that whoever
declares it dead sees them or is seen by them. The writes of runs are guarded: the statement locks the runs' rows, sees
who owns them *after* any wait for the lock, and writes only for the owner. A take-over therefore waits for writes in
flight, and finds them when it loads the checkpoints.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from dbos.model.authentication import NOBODY
from dbos.model.values import (
    NO_STEPS,
    Batch,
    BatchAnswer,
    Checkpoint,
    Message,
    Outcome,
    RunAnswer,
    RunWrites,
    StartAnswer,
    Started,
    WorkflowStart,
)
from dbos.storage.batches import KEY_LIFE_MS, messages_of, receipts_of, start_answers, start_children
from dbos.storage.database import Database, Transaction
from dbos.storage.effects_postgres import (
    FIRST_OF_ALL,
    IS_DELIVERABLE,
    IS_RIGHT,
    MESSAGE_COLUMNS,
    effect_keys,
    effect_parts,
    effect_rows,
    message_row,
)
from dbos.storage.rows_postgres import bound, table

# The columns of what is written, each with its type.
_START_COLUMNS = (
    "id text, status text, name text, class text, config text, inputs text, format text, executor text, version text, "
    "app text, token text, lease text, parent text, timeout bigint, deadline bigint"
)
_PLACE_COLUMNS = "queue text, dedup text, priority bigint, part text"
_AUTHENTICATION_COLUMNS = "usr text, role text, roles text"
_STEP_COLUMNS = (
    "id text, token text, fid integer, name text, output text, error text, format text, child text, started bigint, "
    "completed bigint"
)
_NEW_MESSAGE_COLUMNS = f"ord integer, key text, lasts boolean, {MESSAGE_COLUMNS}"
_ENDING_COLUMNS = "id text, token text, status text, output text, error text, format text"


@functools.cache
def _insert_starts(is_one: bool, is_enqueuing: bool, is_authenticated: bool) -> str:
    columns, more, its_more, conflict = _START_COLUMNS, "", "", "(workflow_uuid)"
    if is_enqueuing:
        columns += ", " + _PLACE_COLUMNS
        more = ", queue_name, deduplication_id, priority, queue_partition_key"
        its_more = ", queue, dedup, COALESCE(priority, 0), part"
        # That of its id, or of its deduplication id.
        conflict = ""
    if is_authenticated:
        columns += ", " + _AUTHENTICATION_COLUMNS
        more += ", authenticated_user, assumed_role, authenticated_roles"
        its_more += ", usr, role, roles"
    return f"""
WITH {table("new", columns, is_one)}, alive AS MATERIALIZED (
    SELECT lease_id FROM {{schema}}executors
    WHERE lease_id IN (SELECT lease FROM new) AND state = 'LIVE' ORDER BY lease_id FOR KEY SHARE
)
INSERT INTO {{schema}}workflow_status (
    workflow_uuid, status, name, class_name, config_name, inputs, serialization, executor_id, application_version,
    application_id, owner_xid, lease_id, parent_workflow_id, workflow_timeout_ms, workflow_deadline_epoch_ms,
    recovery_attempts, created_at, updated_at{more})
SELECT id, status, name, class, config, inputs, format, executor, version, app, token, lease, parent, timeout, deadline,
    CASE WHEN token IS NULL THEN 0 ELSE 1 END, {{now}}, {{now}}{its_more}
FROM new WHERE lease IS NULL OR lease IN (SELECT lease_id FROM alive)
ON CONFLICT {conflict} DO NOTHING
RETURNING workflow_uuid"""


# A message's key is kept even when the message was received: whoever sends it again sends nothing.
@functools.cache
def _insert_messages(is_one: bool) -> str:
    return f"""
WITH {table("new", _NEW_MESSAGE_COLUMNS, is_one)}, receiver AS MATERIALIZED (
    SELECT workflow_uuid FROM {{schema}}workflow_status WHERE workflow_uuid ANY_OF(:receivers)
    ORDER BY workflow_uuid FOR KEY SHARE
), known AS MATERIALIZED (
    SELECT new.* FROM new JOIN receiver ON workflow_uuid = dest
), fresh AS (
    INSERT INTO {{schema}}message_keys (destination_uuid, idempotency_key, expires_at)
    SELECT DISTINCT ON (dest, key) dest, key, CASE WHEN lasts THEN NULL ELSE {{now}} + {KEY_LIFE_MS} END FROM known
    ON CONFLICT DO NOTHING
    RETURNING destination_uuid, idempotency_key
), sent AS (
    INSERT INTO {{schema}}notifications (
        message_uuid, destination_uuid, topic, message, serialization, created_at_epoch_ms)
    SELECT mid, dest, topic, text, format, {{now}}
    FROM (SELECT DISTINCT ON (dest, key) * FROM known ORDER BY dest, key, ord) AS first
    JOIN fresh ON destination_uuid = dest AND idempotency_key = key
    ORDER BY ord
)
SELECT ord FROM known"""


_READ_OWNERS = """
SELECT workflow_uuid, owner_xid, status, 0, NULL FROM {schema}workflow_status WHERE workflow_uuid ANY_OF(:ids)"""


_LOCK_RUNS = """
SELECT workflow_uuid FROM {schema}workflow_status WHERE workflow_uuid ANY_OF(:ids)
ORDER BY workflow_uuid FOR NO KEY UPDATE"""


@functools.cache
def _write_runs(is_one: bool, has_steps: bool, has_endings: bool, effects: frozenset[str]) -> str:
    """Guard, checkpoints, effects, outcomes; answers with the guarded runs, each with the count of all checkpoints.

    The status is not part of the guard's condition, which would lure the planner onto the index of pending workflows:
    it is read with the lock, and decides about the outcome only.
    """
    before, after = effect_parts(effects, is_one, has_steps)
    is_right = IS_RIGHT if "received" in effects else "TRUE"
    parts = [
        f"""guard AS MATERIALIZED (
    SELECT workflow_uuid, owner_xid, status FROM {{schema}}workflow_status
    WHERE workflow_uuid {"= :id" if is_one else "ANY_OF(:ids) ORDER BY workflow_uuid"} FOR NO KEY UPDATE
)""",
        *before,
    ]
    if has_steps:
        parts.append(table("step", _STEP_COLUMNS, is_one))
        parts.append(f"""inserted AS (
    INSERT INTO {{schema}}operation_outputs (
        workflow_uuid, function_id, function_name, output, error, serialization, child_workflow_id,
        started_at_epoch_ms, completed_at_epoch_ms, owner_xid)
    SELECT step.id, fid, step.name, output, error, format, child, started, completed, token
    FROM step JOIN guard ON guard.workflow_uuid = step.id AND guard.owner_xid = step.token
    WHERE {IS_DELIVERABLE if "sent" in effects else "TRUE"} AND {is_right}
    ON CONFLICT (workflow_uuid, function_id) DO NOTHING
    RETURNING workflow_uuid, function_id, owner_xid
)""")
    parts.extend(after)
    if has_endings:
        parts.append(table("ending", _ENDING_COLUMNS, is_one))
        parts.append(f"""ended AS (
    UPDATE {{schema}}workflow_status AS row
    SET status = ending.status, output = ending.output, error = ending.error, outcome_serialization = ending.format,
        deduplication_id = NULL, updated_at = {{now}}, completed_at = {{now}}
    FROM ending JOIN guard ON guard.workflow_uuid = ending.id AND guard.owner_xid = ending.token
    WHERE row.workflow_uuid = ending.id AND row.owner_xid = ending.token AND guard.status = 'PENDING' AND {is_right}
)""")
    counted = "(SELECT count(*) FROM inserted)" if has_steps else "0"
    first = FIRST_OF_ALL if "sent" in effects else "NULL"
    return f"""
WITH {", ".join(parts)}
SELECT guard.workflow_uuid, guard.owner_xid, guard.status, {counted}, {first} FROM guard"""


# A row carries the transaction that inserted it, which tells what this try wrote from what an earlier one did.
_READ_WRITERS = """
SELECT function_id, owner_xid, xmin = pg_current_xact_id()::xid
FROM {schema}operation_outputs WHERE workflow_uuid = :id AND function_id ANY_OF(:fids)"""


_MAX_PARALLEL_COMMITS = 4


_READ_FREE = """
SELECT workflow_uuid FROM {schema}workflow_status WHERE workflow_uuid ANY_OF(:ids) FOR NO KEY UPDATE SKIP LOCKED"""


class PostgresBatchStore:
    """Commits the journal's batches to PostgreSQL."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @property
    def parallel_commits(self) -> int:
        """Postgres flushes the commits of several connections together; some connections are left to others."""
        return max(0, min(_MAX_PARALLEL_COMMITS, self._database.pool_size - 2))

    def commit(self, batch: Batch) -> BatchAnswer:
        kinds = bool(batch.starts) + bool(batch.messages) + bool(batch.runs)
        is_alone = kinds <= 1 and not any(run.children for run in batch.runs)
        with self._database.transaction("journal", "statement" if is_alone else "transaction") as transaction:
            starts = insert_starts(transaction, batch.starts) if batch.starts else []
            messages = insert_messages(transaction, batch.messages) if batch.messages else []
            runs = write_runs(transaction, batch.runs) if batch.runs else []
        return BatchAnswer(starts, runs, messages)

    def held_up(self, workflow_ids: Sequence[str]) -> set[str]:
        ids = {"ids": list(workflow_ids)}
        with self._database.transaction("find_held_up", "read") as transaction:
            free = {row[0] for row in transaction.rows(_READ_FREE, ids)}
        return set(workflow_ids) - free


def insert_starts(transaction: Transaction, starts: Sequence[WorkflowStart]) -> list[StartAnswer]:
    """Insert the rows of new workflows; a row that is there already stays as it is."""
    is_one, is_enqueuing = len(starts) == 1, any(start.place is not None for start in starts)
    is_authenticated = any(start.authentication is not NOBODY for start in starts)
    rows = [_start_row(start) for start in starts]
    statement = _insert_starts(is_one, is_enqueuing, is_authenticated)
    inserted = transaction.rows(statement, bound("new", rows, is_one))
    if len(inserted) == len(starts):
        return [Started()] * len(starts)
    return start_answers(transaction, starts, {row[0] for row in inserted})


def insert_messages(transaction: Transaction, messages: Sequence[Message]) -> list[bool]:
    """Send messages from outside of workflows, each once for its key; returns which destinations exist."""
    is_one = len(messages) == 1
    rows = [
        {"ord": number, "key": message.key or message.message_id, "lasts": message.lasts, **message_row(message)}
        for number, message in enumerate(messages)
    ]
    receivers = {"receivers": sorted({message.destination_id for message in messages})}
    parameters = {**bound("new", rows, is_one), **receivers}
    known = {row[0] for row in transaction.rows(_insert_messages(is_one), parameters)}
    return [number in known for number in range(len(messages))]


def write_runs(transaction: Transaction, runs: Sequence[RunWrites]) -> list[RunAnswer]:
    """Write what the runs recorded, for those that own their workflow."""
    if any(run.outcome is not None for run in runs) and any(_is_deduplicated(run) for run in runs):
        return _write_in_turn(transaction, runs)
    return _write_together(transaction, runs)


def _is_deduplicated(run: RunWrites) -> bool:
    """Whether it enqueues a child that may be refused for its deduplication id."""
    places = (child.start.place for child in run.children)
    return any(place is not None and place.deduplication_id is not None for place in places)


def _write_in_turn(transaction: Transaction, runs: Sequence[RunWrites]) -> list[RunAnswer]:
    """Run after run, each with its children before its outcome: one that ends frees its deduplication id only then."""
    ids = [run.workflow_id for run in runs]
    transaction.rows(_LOCK_RUNS, {"ids": ids})  # In the order of all others, so that nobody waits for each other.
    answers: list[RunAnswer] = []
    for run in runs:
        answers += _write_together(transaction, [replace(run, outcome=None)])
        if run.outcome is not None and receipts_of(run).isdisjoint(answers[-1].foreign):
            _write_together(transaction, [RunWrites(run.workflow_id, run.token, outcome=run.outcome)])
    return answers


def _write_together(transaction: Transaction, runs: Sequence[RunWrites]) -> list[RunAnswer]:
    steps = [_checkpoint_row(run, checkpoint) for run in runs for checkpoint in run.checkpoints]
    endings = [_outcome_row(run, run.outcome) for run in runs if run.outcome is not None]
    effects = effect_rows(runs)
    ids = [run.workflow_id for run in runs]
    if not steps and not endings and not effects:
        rows = transaction.rows(_READ_OWNERS, {"ids": ids})
    else:
        is_one = len(runs) == 1 and len(steps) <= 1 and all(len(its_rows) == 1 for its_rows in effects.values())
        parameters: dict[str, Any] = {"id": ids[0]} if is_one else {"ids": ids}
        parameters.update(effect_keys(effects))
        if "sent" in effects:
            parameters["born"] = [child.start.workflow_id for run in runs for child in run.children]
        for name, its_rows in (("step", steps), ("ending", endings), *effects.items()):
            if its_rows:
                parameters.update(bound(name, its_rows, is_one))
        statement = _write_runs(is_one, bool(steps), bool(endings), frozenset(effects))
        rows = transaction.rows(statement, parameters)
    owners = {row[0]: (row[1], row[2]) for row in rows}
    owned = [run for run in runs if owners.get(run.workflow_id, (None, None))[0] == run.token]
    inserted = rows[0][3] if rows else 0
    is_whole = inserted == sum(len(run.checkpoints) for run in owned)
    pairs: list[list[Any]] = (rows[0][4] or []) if rows and is_whole else []
    first = frozenset((str(pair[0]), int(pair[1])) for pair in pairs)
    return [_answer(transaction, run, *owners.get(run.workflow_id, (None, None)), is_whole, first) for run in runs]


def _answer(
    transaction: Transaction,
    run: RunWrites,
    token: str | None,
    status: str | None,
    is_whole: bool,
    first: frozenset[tuple[str, int]],
) -> RunAnswer:
    """The answer to one run.

    Args:
        transaction: The one that wrote.
        run: What was to be written.
        token: The owner.
        status: The status.
        is_whole: Whether all checkpoints of the batch were inserted.
        first: Which messages of the batch no other went before, by workflow id and function id.
    """
    if token != run.token:
        return RunAnswer(token, status)
    standing = foreign = undeliverable = NO_STEPS
    if not is_whole and run.checkpoints:
        fids = frozenset(checkpoint.function_id for checkpoint in run.checkpoints)
        writers = transaction.rows(_READ_WRITERS, {"id": run.workflow_id, "fids": list(fids)})
        missing = fids - {fid for fid, _, _ in writers}
        if not missing.isdisjoint(receipts_of(run)):
            # It takes a message that is not there: nothing of it was written.
            return RunAnswer(token, status, fids)
        foreign = frozenset(fid for fid, writer, _ in writers if writer != run.token)
        standing = frozenset(fid for fid, _, is_new in writers if not is_new)
        undeliverable = missing & messages_of(run)
        foreign |= missing - undeliverable
    children = start_children(transaction, run, standing, foreign, insert_starts) if run.children else {}
    its_first = frozenset(fid for workflow_id, fid in first if workflow_id == run.workflow_id) if first else NO_STEPS
    return RunAnswer(token, status, foreign, children, undeliverable, its_first)


def _start_row(start: WorkflowStart) -> dict[str, Any]:
    place = start.place
    row = (
        {}
        if place is None
        else {
            "queue": place.queue,
            "dedup": place.deduplication_id,
            "priority": place.priority,
            "part": place.partition_key,
        }
    )
    who = start.authentication
    if who is not NOBODY:
        row |= {"usr": who.user, "role": who.assumed_role, "roles": who.roles_text}
    return row | {
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
