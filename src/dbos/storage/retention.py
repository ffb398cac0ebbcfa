"""Deleting what has ended, and cancelling what began long ago: in bites so small that nobody else has to wait.

A bite is one transaction over a few rows that no run writes to any more; on PostgreSQL it waits for no lock. What has
ended and may still be asked for is kept: a workflow whose parent has not ended, as a parent that is replayed waits for
its child's outcome.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from dbos.model.status import LIVE
from dbos.storage.database import Database, Transaction
from dbos.storage.management import DELETIONS
from dbos.storage.reads import WorkflowFilter, read_workflows

# The newest rows_kept workflows stay: the first one after them, from the newest on, is the first that goes.
_FIND_BOUND = """
SELECT created_at, seq FROM {schema}workflow_status ORDER BY created_at DESC, seq DESC LIMIT 1 OFFSET :kept"""

# The parent's status, rather than whether there is a live one: PostgreSQL would read all live ones for that.
_FIND_ENDED = """
SELECT workflow_uuid, created_at, seq, status NOT IN ('PENDING', 'ENQUEUED') AND COALESCE((
    SELECT parent.status FROM {schema}workflow_status AS parent
    WHERE parent.workflow_uuid = ended.parent_workflow_id), '') NOT IN ('PENDING', 'ENQUEUED')
FROM {schema}workflow_status AS ended
WHERE (created_at, seq) > (:created_at, :seq) AND (created_at, seq) < (:end_at, :end_seq) CONDITION
ORDER BY created_at, seq LIMIT :limit"""

# A condition of its own, as the rows were found without locks: one may have been resumed meanwhile.
_LOCK_ENDED = """
SELECT workflow_uuid FROM {schema}workflow_status
WHERE workflow_uuid ANY_OF(:ids) AND status NOT IN ('PENDING', 'ENQUEUED') ORDER BY workflow_uuid"""


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """A place in the order of creation: a moment, in epoch milliseconds, and among what was created in it."""

    created_at: int = -1
    seq: int = -1


@dataclass(frozen=True, slots=True)
class NameFilter:
    """Workflows of these functions only, or of all others."""

    names: Sequence[str]
    is_only: bool


def find_bound(database: Database, rows_kept: int) -> Place | None:
    """Before which place a workflow lies that is not among the newest so many.

    Returns:
        ``None`` if there are no more than that.
    """
    rows = database.run("find_bound", lambda t: t.rows(_FIND_BOUND, {"kept": rows_kept}), "read")
    return Place(rows[0][0], rows[0][1] + 1) if rows else None


def delete_ended(
    database: Database, end: Place, place: Place, limit: int, names: NameFilter | None = None
) -> tuple[list[str], Place, bool]:
    """Look at the next so many workflows that lie before an end, and delete those that may go.

    Args:
        database: The system database.
        end: Where to end.
        place: Where to go on.
        limit: How many to look at.
        names: Which of them to look at; ``None`` for all.

    Returns:
        The ids of those that were deleted; the place to go on from; and whether there is more to look at.
    """
    parameters: dict[str, Any] = {"created_at": place.created_at, "seq": place.seq}
    parameters |= {"end_at": end.created_at, "end_seq": end.seq}
    parameters |= {"limit": limit, "names": list(names.names) if names is not None else []}
    condition = "" if names is None else "AND name ANY_OF(:names)" if names.is_only else "AND NOT name ANY_OF(:names)"
    statement = _FIND_ENDED.replace("CONDITION", condition)
    rows = database.run("find_ended", lambda t: t.rows(statement, parameters), "read")
    ids = sorted(row[0] for row in rows if row[3])
    find = _LOCK_ENDED + (" FOR UPDATE SKIP LOCKED" if database.locks_rows else "")

    def work(transaction: Transaction) -> list[str]:
        locked: list[str] = [row[0] for row in transaction.rows(find, {"ids": ids})]
        if locked:
            for deletion in DELETIONS:
                transaction.write(deletion, {"ids": locked})
        return locked

    deleted = database.run("delete_ended", work) if ids else []
    return deleted, Place(rows[-1][1], rows[-1][2]) if rows else place, len(rows) == limit


def find_live_before(database: Database, before_ms: int, limit: int) -> list[str]:
    """The ids of workflows that have not ended and were created before the moment, the oldest first."""
    wanted = WorkflowFilter(
        statuses=sorted(LIVE), created_to_ms=before_ms - 1, limit=limit, load_input=False, load_output=False
    )
    return [row.workflow_id for row in read_workflows(database, wanted)]


def vacuum(database: Database) -> None:
    """Have an SQLite file shrink to what is in it; PostgreSQL does as much by itself as it can without locking.

    Nobody can write meanwhile, and the file is copied.
    """
    if database.locks_rows:
        return
    with contextlib.closing(database.detached_connection()) as connection:
        cursor = connection.cursor()
        cursor.execute("PRAGMA busy_timeout = 10000")
        cursor.execute("VACUUM")
        # The file shrinks when what was written to the log is moved there.
        cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
