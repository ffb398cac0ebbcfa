"""Claims: taking up workflows that nobody runs, and giving back those that cannot be run.

A workflow is up for recovery if its row is ``PENDING`` and has no token, or a lease that is not alive. Claiming it
stores a new token, which fences whoever ran it before: the guard of every write asks for the token.
"""

from __future__ import annotations

from collections.abc import Sequence

from dbos.model.values import ClaimedWorkflow, RecordedStep
from dbos.storage.database import Database, Transaction

_IS_ORPHAN = """(owner_xid IS NULL OR lease_id IS NULL OR lease_id NOT IN (
    SELECT lease_id FROM {schema}executors WHERE state = 'LIVE'))"""

# The plus keeps SQLite from walking through all of history in the order of seq.
_FIND_ORPHANS = (
    """
SELECT workflow_uuid FROM {schema}workflow_status AS orphan
WHERE status = 'PENDING' AND application_version = :version AND name ANY_OF(:names) AND """
    + _IS_ORPHAN
    + """
ORDER BY +seq LIMIT :limit"""
)

_LOCK_ROWS = " FOR UPDATE OF orphan SKIP LOCKED"

_LOCK_LEASE = "SELECT 1 FROM {schema}executors WHERE lease_id = :lease_id AND state = 'LIVE'"

# The condition again: where the search had to wait for a row, it has seen the row as it is now, but the leases as they
# were when it began. The row is locked, and this statement sees the leases anew.
_CLAIM = (
    """
UPDATE {schema}workflow_status
SET owner_xid = :nonce || ':' || workflow_uuid, lease_id = :lease_id, executor_id = :executor_id,
    recovery_attempts = COALESCE(recovery_attempts, 0) + 1, updated_at = {now}
WHERE workflow_uuid ANY_OF(:ids) AND status = 'PENDING' AND """
    + _IS_ORPHAN
)

_READ_CLAIMED = """
SELECT workflow_uuid, owner_xid, name, class_name, config_name, inputs, serialization, recovery_attempts,
    workflow_deadline_epoch_ms
FROM {schema}workflow_status WHERE workflow_uuid ANY_OF(:ids) AND owner_xid = :nonce || ':' || workflow_uuid
ORDER BY +seq"""

_READ_OWN = """
SELECT workflow_uuid FROM {schema}workflow_status
WHERE status = 'PENDING' AND lease_id = :lease_id AND owner_xid = :nonce || ':' || workflow_uuid"""

_RELEASE = """
UPDATE {schema}workflow_status SET owner_xid = NULL
WHERE workflow_uuid = :id AND owner_xid = :token AND status = 'PENDING'"""

_COUNT_CLAIMS = """
SELECT count(*) FROM {schema}workflow_status
WHERE status = 'PENDING' AND lease_id = :lease_id AND owner_xid IS NOT NULL"""

_READ_CLAIMS = """
SELECT workflow_uuid, owner_xid FROM {schema}workflow_status
WHERE status = 'PENDING' AND lease_id = :lease_id AND owner_xid IS NOT NULL"""

_READ_CHECKPOINTS = """
SELECT workflow_uuid, function_id, function_name, output, error, serialization, child_workflow_id
FROM {schema}operation_outputs WHERE workflow_uuid ANY_OF(:ids)"""


def has_orphans(database: Database, *, application_version: str, names: Sequence[str]) -> bool:
    """Whether there is something to claim, told without locks. (Arguments as for ``claim_orphans``.)"""
    wanted = {"version": application_version, "names": list(names), "limit": 1}
    return bool(database.run("find_orphans", lambda transaction: transaction.rows(_FIND_ORPHANS, wanted), "read"))


def claim_orphans(
    database: Database,
    *,
    nonce: str,
    lease_id: str,
    executor_id: str,
    application_version: str,
    names: Sequence[str],
    limit: int,
) -> list[ClaimedWorkflow]:
    """Claim workflows that nobody runs, oldest first.

    Args:
        nonce: New for each call. Called again with the same one, it returns what the first call claimed.
        lease_id: The claiming lease; if it is dead, nothing is claimed.
        executor_id: The claiming executor's label.
        application_version: Only workflows of this version.
        names: Only workflows of these functions.
        limit: At most so many.
    """

    wanted = {"version": application_version, "names": list(names), "limit": limit}

    def claim(transaction: Transaction) -> list[ClaimedWorkflow]:
        lock_lease = _LOCK_LEASE + (" FOR KEY SHARE" if database.locks_rows else "")
        if not transaction.rows(lock_lease, {"lease_id": lease_id}):
            return []
        own = {"lease_id": lease_id, "nonce": nonce}
        ids = [row[0] for row in transaction.rows(_READ_OWN, own)]
        if not ids:
            find = _FIND_ORPHANS + (_LOCK_ROWS if database.locks_rows else "")
            ids = [row[0] for row in transaction.rows(find, wanted)]
            if not ids:
                return []
            transaction.write(_CLAIM, {**own, "executor_id": executor_id, "ids": ids})
        return [ClaimedWorkflow(*row) for row in transaction.rows(_READ_CLAIMED, {"ids": ids, "nonce": nonce})]

    return database.run("claim_orphans", claim)


def release(database: Database, *, workflow_id: str, token: str) -> None:
    """Give up the claim, if it still holds: the workflow is owned by nobody then."""
    database.run("release", lambda t: t.write(_RELEASE, {"id": workflow_id, "token": token}), "statement")


def count_claims(database: Database, lease_id: str) -> int:
    """How many workflows are claimed under the lease."""
    rows = database.run("count_claims", lambda t: t.rows(_COUNT_CLAIMS, {"lease_id": lease_id}), "read")
    return int(rows[0][0])


def read_claims(database: Database, lease_id: str) -> list[tuple[str, str]]:
    """Workflow id and token of every claim under the lease."""
    rows = database.run("read_claims", lambda t: t.rows(_READ_CLAIMS, {"lease_id": lease_id}), "read")
    return [(row[0], row[1]) for row in rows]


def read_checkpoints(database: Database, workflow_ids: Sequence[str]) -> dict[str, dict[int, RecordedStep]]:
    """The checkpoints of the workflows, by workflow id and function id.

    To be called after the claim was committed: a write that was in flight under the old claim is visible then.
    """
    rows = database.run("read_checkpoints", lambda t: t.rows(_READ_CHECKPOINTS, {"ids": list(workflow_ids)}), "read")
    recorded: dict[str, dict[int, RecordedStep]] = {}
    for workflow_id, *columns in rows:
        step = RecordedStep(*columns)
        recorded.setdefault(workflow_id, {})[step.function_id] = step
    return recorded
