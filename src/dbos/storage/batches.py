"""What a batch of the journal is on both databases; the dialects' halves are in the modules beside this one."""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence

from dbos.model.values import AlreadyExists, LeaseLost, RunWrites, StartAnswer, Started, WorkflowStart
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


def start_children(
    transaction: Transaction,
    run: RunWrites,
    standing: Container[int],
    foreign: Container[int],
    insert: Callable[[Transaction, Sequence[WorkflowStart]], Sequence[StartAnswer]],
) -> dict[int, StartAnswer]:
    """Start the children whose checkpoints this transaction inserted.

    Args:
        transaction: The one that inserted the checkpoints.
        run: The parent.
        standing: The function ids of checkpoints that stood already.
        foreign: Those of them that another run wrote.
        insert: Inserts starts.

    Returns:
        The answers by function id. A child whose checkpoint an earlier try of ours recorded was dealt with by that
        try, and its row tells how. A foreign checkpoint's child is not ours, and has no answer.
    """
    new = [child for child in run.children if child.function_id not in standing]
    ours = [child for child in run.children if child.function_id in standing and child.function_id not in foreign]
    answers: dict[int, StartAnswer] = {}
    if new:
        starts = insert(transaction, [child.start for child in new])
        answers.update(zip((child.function_id for child in new), starts, strict=True))
    if ours:
        starts = start_answers(transaction, [child.start for child in ours], ())
        answers.update(zip((child.function_id for child in ours), starts, strict=True))
    for child in new:
        answer = answers[child.function_id]
        is_conflict = isinstance(answer, AlreadyExists) and answer.name != child.start.name
        if is_conflict or isinstance(answer, LeaseLost):
            # Replay must meet the conflict again, or start the child, and not take the record for a started child.
            transaction.write(_DELETE_CHECKPOINT, {"id": run.workflow_id, "fid": child.function_id})
    return answers


def _start_answer(start: WorkflowStart, existing: AlreadyExists | None, is_new: bool) -> StartAnswer:
    if existing is None:
        return LeaseLost()
    # Two starts of a batch may share an id, and an earlier try may have inserted ours: the token tells.
    is_ours = existing.token == start.token and (is_new or start.token is not None)
    return Started() if is_ours else existing
