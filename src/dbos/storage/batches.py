"""What a batch of the journal is on both databases; the dialects' halves are in the modules beside this one."""

from __future__ import annotations

from collections.abc import Container, Sequence

from dbos.model.values import AlreadyExists, ChildStart, LeaseLost, RunWrites, StartAnswer, Started, WorkflowStart
from dbos.storage.database import Database, Transaction
from dbos.storage.journal import BatchStore

_READ_EXISTING = """
SELECT workflow_uuid, status, name, class_name, config_name, owner_xid, application_version
FROM {schema}workflow_status WHERE workflow_uuid ANY_OF(:ids)"""

_DELETE_CHECKPOINT = """
DELETE FROM {schema}operation_outputs WHERE workflow_uuid = :id AND function_id = :fid"""


def batch_store(database: Database) -> BatchStore:
    """What commits the journal's batches to this database."""
    # The dialects' modules import this one.
    if database.locks_rows:
        from dbos.storage.batches_postgres import PostgresBatchStore

        return PostgresBatchStore(database)
    from dbos.storage.batches_sqlite import SqliteBatchStore

    return SqliteBatchStore(database)


def start_answers(
    transaction: Transaction, starts: Sequence[WorkflowStart], inserted: Container[str]
) -> list[StartAnswer]:
    """The answers to starts of which some were not inserted, from what stands in their rows.

    Args:
        transaction: The one that inserted.
        starts: All that were to be inserted.
        inserted: The ids of the rows that were.
    """
    rows = transaction.rows(_READ_EXISTING, {"ids": [start.workflow_id for start in starts]})
    existing = {row[0]: AlreadyExists(*row[1:]) for row in rows}
    return [_start_answer(start, existing.get(start.workflow_id), start.workflow_id in inserted) for start in starts]


def unrecord_conflicts(
    transaction: Transaction, run: RunWrites, children: Sequence[ChildStart], answers: Sequence[StartAnswer]
) -> None:
    """Take back the checkpoints of children whose id belongs to a workflow of another function.

    Replay has to meet the conflict again, and not to take the other workflow for the child.
    """
    for child, answer in zip(children, answers, strict=True):
        if isinstance(answer, AlreadyExists) and answer.name != child.start.name:
            transaction.write(_DELETE_CHECKPOINT, {"id": run.workflow_id, "fid": child.function_id})


def _start_answer(start: WorkflowStart, existing: AlreadyExists | None, is_new: bool) -> StartAnswer:
    if existing is None:
        return LeaseLost()
    # Two starts of a batch may share an id, and an earlier try may have inserted ours: the token tells.
    is_ours = existing.token == start.token and (is_new or start.token is not None)
    return Started() if is_ours else existing
