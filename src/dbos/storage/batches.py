"""What a batch of the journal is on both databases; the dialects' halves are in the modules beside this one."""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence

from dbos.model.values import (
    AlreadyExists,
    Deduplicated,
    LeaseLost,
    Message,
    Receipt,
    RunWrites,
    StartAnswer,
    Started,
    WorkflowStart,
)
from dbos.storage.database import Database, Scope, Transaction
from dbos.storage.journal import BatchStore

KEY_LIFE_MS = 3600 * 1000
"""How long it is remembered that a message without a key of its sender's was sent: longer than anyone tries again."""

EXPIRED_BITE = 10_000
"""How many expired keys are deleted at once."""

# On PostgreSQL an array, as the server may run a subquery with a limit more than once.
_DELETE_EXPIRED_KEYS = (
    """
DELETE FROM message_keys WHERE (destination_uuid, idempotency_key) IN (
    SELECT destination_uuid, idempotency_key FROM message_keys
    WHERE expires_at < {now} ORDER BY expires_at LIMIT :limit)""",
    """
DELETE FROM {schema}message_keys WHERE ctid = ANY(ARRAY(
    SELECT ctid FROM {schema}message_keys
    WHERE expires_at < {now} ORDER BY expires_at LIMIT :limit FOR UPDATE SKIP LOCKED))""",
)

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


def insert_start(database: Database, start: WorkflowStart) -> StartAnswer:
    """Insert the row of one new workflow, by itself."""
    scope: Scope = "statement" if database.locks_rows else "transaction"
    return database.run("start", lambda transaction: insert_starts(transaction, [start]), scope)[0]


def insert_starts(transaction: Transaction, starts: Sequence[WorkflowStart]) -> list[StartAnswer]:
    """Insert the rows of new workflows; a row that is there already stays as it is."""
    if transaction.locks_rows:
        from dbos.storage.batches_postgres import insert_starts as insert
    else:
        from dbos.storage.batches_sqlite import insert_starts as insert
    return insert(transaction, starts)


def send_message(database: Database, message: Message) -> bool:
    """Send one message from outside of workflows; returns whether its destination exists."""
    if database.locks_rows:
        from dbos.storage.batches_postgres import insert_messages
    else:
        from dbos.storage.batches_sqlite import insert_messages
    return database.run("send", lambda transaction: insert_messages(transaction, [message]))[0]


def forget_expired_keys(database: Database) -> int:
    """Delete keys of messages that only told tries of one send from each other; returns how many, a bite at most."""
    statement = _DELETE_EXPIRED_KEYS[database.locks_rows]
    return database.run("forget_expired_keys", lambda t: t.write(statement, {"limit": EXPIRED_BITE}), "statement")


def messages_of(run: RunWrites) -> frozenset[int]:
    """The function ids of the messages that the run sent."""
    return frozenset(c.function_id for c in run.checkpoints if isinstance(c.effect, Message))


def receipts_of(run: RunWrites) -> frozenset[int]:
    """The function ids of the messages that the run took."""
    return frozenset(c.function_id for c in run.checkpoints if isinstance(c.effect, Receipt))


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
        is_conflict = isinstance(answer, AlreadyExists) and not answer.runs_as(child.start)
        if is_conflict or isinstance(answer, LeaseLost | Deduplicated):
            # Replay must meet the conflict again, or start the child, and not take the record for a started child.
            transaction.write(_DELETE_CHECKPOINT, {"id": run.workflow_id, "fid": child.function_id})
    return answers


def _start_answer(start: WorkflowStart, existing: AlreadyExists | None, is_new: bool) -> StartAnswer:
    if existing is None:
        is_enqueued_once = start.place is not None and start.place.deduplication_id is not None
        return Deduplicated() if is_enqueued_once else LeaseLost()
    # Two starts of a batch may share an id, and an earlier try may have inserted ours: the token tells.
    is_ours = existing.token == start.token and (is_new or start.token is not None)
    return Started() if is_ours else existing
