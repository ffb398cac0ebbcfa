"""Transactions: the application's own, each with its record in it.

The record, in ``transaction_outputs``, is written by the transaction that it is about, so that both are durable or
neither is: what is recorded has happened, and is not done again. Where the application's tables are in the system
database, the checkpoint travels with them too, behind the guard of every checkpoint (``batches_*``): a run that does
not own its workflow any more commits nothing. In a database of their own the key of the record decides: of two runs
that are in the same transaction of one workflow, the first to commit wins, and the other adopts what that recorded.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from dbos.model.status import CANCELLED, PENDING
from dbos.model.values import Checkpoint, RecordedStep, RunAnswer
from dbos.storage.database import Database, LentTransaction, Transaction, driver_error
from dbos.storage.errors import CONTENTION_PAUSE_S, TransientStorageError
from dbos.storage.rows_postgres import bound, table

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

OPERATION = "transaction"
"""What the gate is told of."""

T = TypeVar("T")

_READ = """
SELECT workflow_uuid, function_id, function_name, output, error, serialization
FROM {schema}transaction_outputs WHERE workflow_uuid ANY_OF(:ids)"""

_DELETE = "DELETE FROM {schema}transaction_outputs WHERE workflow_uuid ANY_OF(:ids)"

_DELETE_ALL = "DELETE FROM {schema}transaction_outputs"

_READ_OWNER = "SELECT owner_xid, status FROM {schema}workflow_status WHERE workflow_uuid = :id"

_RECORD_COLUMNS = (
    "workflow_uuid, function_id, function_name, output, error, serialization, txn_id, txn_snapshot, created_at"
)

_INSERT_RECORD = f"""
INSERT INTO {{schema}}transaction_outputs ({_RECORD_COLUMNS})
VALUES (:id, :fid, :name, :output, :error, :format, '', '', {{now}})
ON CONFLICT (workflow_uuid, function_id) DO NOTHING"""

_CHECKPOINT_COLUMNS = (
    "workflow_uuid, function_id, function_name, output, error, serialization, started_at_epoch_ms, "
    "completed_at_epoch_ms, owner_xid"
)

_INSERT_CHECKPOINT = f"""
INSERT INTO {{schema}}operation_outputs ({_CHECKPOINT_COLUMNS})
VALUES (:id, :fid, :name, :output, :error, :format, :started, :completed, :token)
ON CONFLICT (workflow_uuid, function_id) DO NOTHING"""

_STEP_COLUMNS = (
    "id text, token text, fid integer, name text, output text, error text, format text, started bigint, "
    "completed bigint"
)

# A process that is stopped from here to the commit must not hold the lock for ever. Locked as late as that, nothing
# that the journal writes for the same workflow waits for the application's code.
_LIMIT = "set_config('idle_in_transaction_session_timeout', '10s', true)"

_RECORD_ALONE = f"""
WITH {table("step", _STEP_COLUMNS, True)}, limited AS MATERIALIZED (SELECT {_LIMIT})
INSERT INTO {{schema}}transaction_outputs ({_RECORD_COLUMNS})
SELECT id, fid, name, output, error, format, '', '', {{now}} FROM step, limited
ON CONFLICT (workflow_uuid, function_id) DO NOTHING"""

# Neither table is read: where the transaction is serializable, no other one that records something is a danger to it.
_RECORD_BEHIND_GUARD = f"""
WITH guard AS MATERIALIZED (
    SELECT workflow_uuid, owner_xid, status FROM {{schema}}workflow_status WHERE workflow_uuid = :step_id
    FOR NO KEY UPDATE
), {table("step", _STEP_COLUMNS, True)}, owned AS MATERIALIZED (
    SELECT step.* FROM step JOIN guard ON owner_xid = token WHERE status IN ('{PENDING}', '{CANCELLED}')
), recorded AS (
    INSERT INTO {{schema}}transaction_outputs ({_RECORD_COLUMNS})
    SELECT id, fid, name, output, error, format, '', '', {{now}} FROM owned
    ON CONFLICT (workflow_uuid, function_id) DO NOTHING
    RETURNING function_id
), checkpointed AS (
    INSERT INTO {{schema}}operation_outputs ({_CHECKPOINT_COLUMNS})
    SELECT id, fid, name, output, error, format, started, completed, token FROM owned
    ON CONFLICT (workflow_uuid, function_id) DO NOTHING
    RETURNING function_id
)
SELECT owner_xid, status, (SELECT count(*) FROM recorded), (SELECT count(*) FROM checkpointed), {_LIMIT} FROM guard"""


@dataclass(frozen=True, slots=True)
class Recorded:
    """The record was written, and with it everything else in the transaction will be committed.

    ``guard`` is what the guard saw, if there is one.
    """

    guard: RunAnswer | None


@dataclass(frozen=True, slots=True)
class AlreadyRecorded:
    """Another try, or another run, has recorded this transaction, or another step under its number."""


@dataclass(frozen=True, slots=True)
class NotOwned:
    """The run does not own the workflow any more, or the workflow has ended; this is what the guard saw."""

    guard: RunAnswer


RecordAnswer = Recorded | AlreadyRecorded | NotOwned


class OpenTransaction:
    """A transaction of the application's that has begun."""

    def __init__(self, database: Database, lent: LentTransaction, has_guard: bool) -> None:
        self._database = database
        self._lent = lent
        self._has_guard = has_guard

    def run(self, code: Callable[[Session], T]) -> T:
        """Call the application's code with a session of this transaction, and write what the session holds.

        What the code raises is raised, and so is what SQLAlchemy says if the code has ended the transaction itself.

        Raises:
            TransientStorageError: The database gave the transaction up for now: it is to be run again.
        """
        from sqlalchemy.orm import Session

        # Its own commit and rollback leave the transaction to us. What it has loaded stays readable afterwards.
        session = Session(self._lent.connection, join_transaction_mode="rollback_only", expire_on_commit=False)
        try:
            with session.begin():
                value = code(session)
                if not session.in_transaction():
                    session.connection()
            return value
        except Exception as error:
            cause = next((e for e in _causes(error) if self._database.gave_way(driver_error(e))), None)
            if cause is None:
                raise
            longest_pause_s = CONTENTION_PAUSE_S if self._database.is_contended(driver_error(cause)) else 60.0
            raise TransientStorageError(str(driver_error(cause)).strip(), longest_pause_s) from error
        finally:
            session.close()

    @property
    def is_intact(self) -> bool:
        """Whether it can be committed: no statement has failed in it, and the code has not ended it by SQL."""
        return self._lent.state == "open"

    def record(self, workflow_id: str, token: str, checkpoint: Checkpoint) -> RecordAnswer:
        """Write the transaction's record, and behind the guard its checkpoint. Unless ``Recorded``, it is rolled back.

        Args:
            workflow_id: The workflow.
            token: The run's.
            checkpoint: What is recorded.
        """
        row = {
            "id": workflow_id,
            "token": token,
            "fid": checkpoint.function_id,
            "name": checkpoint.name,
            "output": checkpoint.output,
            "error": checkpoint.error,
            "format": checkpoint.serialization,
            "started": checkpoint.started_at_ms,
            "completed": checkpoint.completed_at_ms,
        }
        write = _record_behind_guard if self._has_guard else _record_alone
        answer = write(self._lent.transaction, row)
        if not isinstance(answer, Recorded):
            self.roll_back()
        return answer

    def roll_back(self) -> None:
        """End it without a trace."""
        self._lent.roll_back()


class TransactionStore:
    """The database in which the application's transactions run.

    Args:
        database: That database.
        has_guard: Whether it is the system database too.
    """

    def __init__(self, database: Database, *, has_guard: bool) -> None:
        self.database = database
        self._has_guard = has_guard

    @contextlib.contextmanager
    def begin(self, isolation_level: str) -> Generator[OpenTransaction, None, None]:
        """A transaction, committed at the end of the block unless it was rolled back. (Errors as ``lend``.)"""
        with self.database.lend(OPERATION, isolation_level) as lent:
            yield OpenTransaction(self.database, lent, self._has_guard)

    def read(self, workflow_ids: Sequence[str]) -> dict[str, dict[int, RecordedStep]]:
        """The records of the workflows' transactions, by workflow id and function id."""
        parameters = {"ids": list(workflow_ids)}
        recorded: dict[str, dict[int, RecordedStep]] = {}
        for workflow_id, *columns in self.database.run(
            "read_transactions", lambda t: t.rows(_READ, parameters), "read"
        ):
            step = _recorded_step(columns)
            recorded.setdefault(workflow_id, {})[step.function_id] = step
        return recorded

    def look(self, workflow_id: str, function_id: int) -> RecordedStep | None:
        """What is recorded of one transaction, at once or not at all.

        Raises:
            TransientStorageError: The database does not tell for now.
        """
        with self.database.transaction("read_transactions", "read") as transaction:
            rows = transaction.rows(_READ + " AND function_id = :fid", {"ids": [workflow_id], "fid": function_id})
        return _recorded_step(rows[0][1:]) if rows else None

    def delete(self, workflow_ids: Sequence[str]) -> None:
        """Forget the transactions of these workflows."""
        parameters = {"ids": list(workflow_ids)}
        self.database.run("delete_transactions", lambda t: t.write(_DELETE, parameters), "statement")

    def delete_all(self) -> None:
        """Forget all transactions."""
        self.database.run("delete_transactions", lambda t: t.write(_DELETE_ALL), "statement")


def _recorded_step(columns: Sequence[Any]) -> RecordedStep:
    function_id, name, output, error, serialization = columns
    return RecordedStep(function_id, name, output, error, serialization, None, is_checkpoint=False)


def _record_alone(transaction: Transaction, row: dict[str, Any]) -> RecordAnswer:
    if transaction.locks_rows:
        is_new = transaction.write(_RECORD_ALONE, bound("step", [row], True))
    else:
        is_new = transaction.write(_INSERT_RECORD, row)
    return Recorded(None) if is_new else AlreadyRecorded()


def _record_behind_guard(transaction: Transaction, row: dict[str, Any]) -> RecordAnswer:
    recorded = checkpointed = 0
    if transaction.locks_rows:
        rows = transaction.rows(_RECORD_BEHIND_GUARD, bound("step", [row], True))
        token, status, recorded, checkpointed, _ = rows[0] if rows else (None, None, 0, 0, None)
    else:
        token, status = (transaction.rows(_READ_OWNER, {"id": row["id"]}) or [(None, None)])[0]
        if token == row["token"] and status in (PENDING, CANCELLED):
            recorded, checkpointed = transaction.write(_INSERT_RECORD, row), transaction.write(_INSERT_CHECKPOINT, row)
    guard = RunAnswer(token, status)
    if token != row["token"] or status not in (PENDING, CANCELLED):
        return NotOwned(guard)
    return Recorded(guard) if recorded and checkpointed else AlreadyRecorded()


def _causes(error: BaseException | None) -> Generator[BaseException, None, None]:
    """The exception, and those that it was raised for: the application may have wrapped the database's."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__
