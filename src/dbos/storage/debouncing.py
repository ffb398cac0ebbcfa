"""Debouncing: a workflow that waits to be started, until for some time nobody has asked for it again.

Its row is enqueued from the first call on, with a delay. Each further call of the round replaces its arguments and puts
the delay off; when the delay is over, the row goes to its queue, and the next call begins a new round. The row is
locked by whoever changes it, so a call either belongs to the round or finds it closed; none is lost.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from dbos.model.queues import INTERNAL_QUEUE
from dbos.model.values import AlreadyExists, Checkpoint, RunAnswer, Started, WorkflowStart
from dbos.storage.batches import insert_starts
from dbos.storage.database import Database, Transaction

_PUT_OFF = """
UPDATE {schema}workflow_status
SET inputs = :inputs, serialization = :serialization, updated_at = {now},
    application_version = COALESCE(:version, application_version),
    delay_until_epoch_ms = CASE WHEN delay_limit_epoch_ms < {now} + :period_ms THEN delay_limit_epoch_ms
        ELSE {now} + :period_ms END
WHERE queue_name = :queue AND deduplication_id = :round AND name = :name AND status = 'ENQUEUED'
AND delay_until_epoch_ms IS NOT NULL"""

_FIND_ROUND = """
SELECT workflow_uuid, name, delay_until_epoch_ms FROM {schema}workflow_status
WHERE queue_name = :queue AND deduplication_id = :round"""

_BEGIN_ROUND = """
UPDATE {schema}workflow_status
SET delay_until_epoch_ms = {now} + CASE WHEN :timeout_ms < :period_ms THEN :timeout_ms ELSE :period_ms END,
    delay_limit_epoch_ms = {now} + :timeout_ms, delayed_queue_name = :its_queue,
    delayed_deduplication_id = :its_deduplication_id
WHERE workflow_uuid = :id"""

_READ_OWNER = "SELECT owner_xid, status FROM {schema}workflow_status WHERE workflow_uuid = :id"

_READ_CHECKPOINT = """
SELECT child_workflow_id, owner_xid FROM {schema}operation_outputs WHERE workflow_uuid = :id AND function_id = :fid"""

_INSERT_CHECKPOINT = """
INSERT INTO {schema}operation_outputs (
    workflow_uuid, owner_xid, function_id, function_name, child_workflow_id, started_at_epoch_ms,
    completed_at_epoch_ms)
VALUES (:id, :token, :fid, :name, :child, :started, :completed)"""

NO_LIMIT_MS = 1000 * 365 * 86400 * 1000
"""For rounds that may be put off for ever."""


@dataclass(frozen=True, slots=True)
class Round:
    """One call of a debouncer.

    Attributes:
        start: The workflow that a new round begins with; its place is the internal queue, its deduplication id there
            the round's.
        period_ms: For how long nobody must call again until it starts.
        timeout_ms: After how long, from the first call on, it starts in any case.
        queue: The queue that it goes to then; ``None``: it is started without one.
        deduplication_id: Its deduplication id there.
    """

    start: WorkflowStart
    period_ms: int
    timeout_ms: int | None
    queue: str | None
    deduplication_id: str | None


@dataclass(frozen=True, slots=True)
class Debounced:
    """The call counts; ``workflow_id`` is the round's."""

    workflow_id: str


@dataclass(frozen=True, slots=True)
class RoundTaken:
    """Nothing was done: another workflow, which is no round of this function, has the deduplication id of the round."""

    name: str


DebounceAnswer = Debounced | AlreadyExists | RoundTaken | RunAnswer


@dataclass(frozen=True, slots=True)
class Caller:
    """The run that calls, and the checkpoint that records it; without the round's workflow, which is not known yet."""

    workflow_id: str
    token: str
    checkpoint: Checkpoint


def debounce(database: Database, call: Round, caller: Caller | None = None) -> DebounceAnswer:
    """Begin a round, or put off the one that is there; and record the call, if a run calls.

    Returns:
        What became of it; a workflow that has the id already, which counts as the call's if it is of the same function;
        or, if the run may not go on, what its guard saw.
    """

    def work(transaction: Transaction) -> DebounceAnswer:
        if caller is None:
            return _debounce(transaction, call)
        lock = " FOR NO KEY UPDATE" if transaction.locks_rows else ""
        rows = transaction.rows(_READ_OWNER + lock, {"id": caller.workflow_id})
        token, status = rows[0] if rows else (None, None)
        if token != caller.token:
            return RunAnswer(token, status)
        checkpoint = caller.checkpoint
        row: dict[str, Any] = {"id": caller.workflow_id, "fid": checkpoint.function_id, "token": token}
        standing = transaction.rows(_READ_CHECKPOINT, row)
        if standing:
            # An earlier try recorded it, whose answer was lost.
            workflow_id, writer = standing[0]
            is_ours = writer == caller.token
            return Debounced(workflow_id) if is_ours else RunAnswer(token, status, frozenset([row["fid"]]))
        answer = _debounce(transaction, call)
        if not isinstance(answer, Debounced) and not (isinstance(answer, AlreadyExists) and answer.runs_as(call.start)):
            # Nothing was done: the run records the refusal.
            return answer
        row["child"] = answer.workflow_id if isinstance(answer, Debounced) else call.start.workflow_id
        row |= {"name": checkpoint.name, "started": checkpoint.started_at_ms, "completed": checkpoint.completed_at_ms}
        transaction.write(_INSERT_CHECKPOINT, row)
        return answer

    return database.run("debounce", work)


def _debounce(transaction: Transaction, call: Round) -> Debounced | AlreadyExists | RoundTaken:
    start = call.start
    assert start.place is not None
    now: dict[str, Any] = {
        "queue": INTERNAL_QUEUE,
        "round": start.place.deduplication_id,
        "name": start.name,
        "inputs": start.inputs,
        "serialization": start.serialization,
        "version": start.application_version,
        "period_ms": call.period_ms,
    }
    new = {
        "id": start.workflow_id,
        "period_ms": call.period_ms,
        "timeout_ms": NO_LIMIT_MS if call.timeout_ms is None else call.timeout_ms,
        "its_queue": call.queue,
        "its_deduplication_id": call.deduplication_id,
    }
    while True:
        if transaction.write(_PUT_OFF, now):
            return Debounced(transaction.rows(_FIND_ROUND, now)[0][0])
        (answer,) = insert_starts(transaction, [start])
        if isinstance(answer, AlreadyExists):
            return answer
        if isinstance(answer, Started):
            transaction.write(_BEGIN_ROUND, new)
            return Debounced(start.workflow_id)
        holders = transaction.rows(_FIND_ROUND, now)
        if holders and (holders[0][1] != start.name or holders[0][2] is None):
            return RoundTaken(holders[0][1])
        # Another call began the round, or it was closed, between the two statements.
