"""Claims: taking up workflows that nobody runs, and giving back those that cannot be run.

A workflow is up for recovery if its row is ``PENDING`` and has no token, or a lease that is not alive. Claiming it
stores a new token, which fences whoever ran it before: the guard of every write asks for the token. What came from a
queue goes back there instead; see ``dbos.storage.queues``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from dbos.model.queues import SEPARATOR
from dbos.model.values import ClaimedWorkflow, RecordedStep
from dbos.storage.database import Database, Transaction

IS_ORPHAN = """(owner_xid IS NULL OR lease_id IS NULL OR lease_id NOT IN (
    SELECT lease_id FROM {schema}executors WHERE state = 'LIVE'))"""

CAN_RUN = (
    "name ANY_OF(:names) AND "
    f"(class_name IS NULL OR (class_name || '{SEPARATOR}' || COALESCE(config_name, '')) ANY_OF(:owners))"
)
"""Whether a process that has these functions, and these classes and instances, can run it."""

_OF_EXECUTORS = " AND executor_id ANY_OF(:executor_ids)"

# Workflows whose deadline has passed are cancelled instead.
IS_IN_TIME = " AND (workflow_deadline_epoch_ms IS NULL OR workflow_deadline_epoch_ms > {now})"

# The plus keeps SQLite from walking through all of history in the order of seq.
_FIND_ORPHANS = (
    """
SELECT workflow_uuid FROM {schema}workflow_status AS orphan
WHERE status = 'PENDING' AND queue_name IS NULL AND application_version = :version AND """
    + f"{CAN_RUN} AND {IS_ORPHAN}"
    + IS_IN_TIME
    + """
ORDER BY +seq LIMIT :limit"""
)

_FIND_STRANDED = f"""
SELECT DISTINCT name, class_name, config_name FROM (
    SELECT name, class_name, config_name FROM {{schema}}workflow_status
    WHERE status = 'PENDING' AND queue_name IS NULL AND application_version = :version AND NOT ({CAN_RUN})
    AND {IS_ORPHAN}
    LIMIT 100
) AS stranded"""

LOCK_LEASE = "SELECT 1 FROM {schema}executors WHERE lease_id = :lease_id AND state = 'LIVE'"

# The condition again: where the search had to wait for a row, it has seen the row as it is now, but the leases as they
# were when it began. The row is locked, and this statement sees the leases anew.
_CLAIM = (
    """
UPDATE {schema}workflow_status
SET owner_xid = :nonce || ':' || workflow_uuid, lease_id = :lease_id, executor_id = :executor_id,
    recovery_attempts = COALESCE(recovery_attempts, 0) + 1, updated_at = {now}
WHERE workflow_uuid ANY_OF(:ids) AND status = 'PENDING' AND """
    + IS_ORPHAN
)

_READ_CLAIMED = """
SELECT workflow_uuid, owner_xid, name, class_name, config_name, authenticated_user, assumed_role, authenticated_roles,
    inputs, serialization, recovery_attempts,
    workflow_deadline_epoch_ms
FROM {schema}workflow_status WHERE workflow_uuid ANY_OF(:ids) AND owner_xid = :nonce || ':' || workflow_uuid
ORDER BY +seq"""

_READ_OWN = """
SELECT workflow_uuid FROM {schema}workflow_status
WHERE status = 'PENDING' AND lease_id = :lease_id AND owner_xid = :nonce || ':' || workflow_uuid"""

_RELEASE = """
UPDATE {schema}workflow_status SET owner_xid = NULL
WHERE workflow_uuid = :id AND owner_xid = :token AND status IN ('PENDING', 'CANCELLED')"""

_RELEASE_ALL = """
UPDATE {schema}workflow_status SET owner_xid = NULL
WHERE workflow_uuid ANY_OF(:ids) AND owner_xid ANY_OF(:tokens) AND status IN ('PENDING', 'CANCELLED')"""

_READ_STOPPING = """
SELECT owner_xid FROM {schema}workflow_status
WHERE status = 'CANCELLED' AND owner_xid IS NOT NULL AND lease_id = :lease_id"""

_READ_DUTIES = """
SELECT
    (SELECT MIN(workflow_deadline_epoch_ms) FROM {schema}workflow_status
     WHERE workflow_deadline_epoch_ms IS NOT NULL AND status IN ('PENDING', 'ENQUEUED')) - {now},
    (SELECT MIN(delay_until_epoch_ms) FROM {schema}workflow_status
     WHERE status = 'ENQUEUED' AND delay_until_epoch_ms IS NOT NULL) - {now},
    EXISTS (SELECT 1 FROM {schema}workflow_status
     WHERE status = 'CANCELLED' AND owner_xid IS NOT NULL AND lease_id = :lease_id)"""

_COUNT_CLAIMS = """
SELECT count(*) FROM {schema}workflow_status
WHERE status = 'PENDING' AND lease_id = :lease_id AND owner_xid IS NOT NULL"""

_READ_CLAIMS = """
SELECT workflow_uuid, owner_xid FROM {schema}workflow_status
WHERE status = 'PENDING' AND lease_id = :lease_id AND owner_xid IS NOT NULL"""

_READ_OWNERS = "SELECT workflow_uuid, owner_xid FROM {schema}workflow_status WHERE workflow_uuid ANY_OF(:ids)"

_READ_CHECKPOINTS = """
SELECT workflow_uuid, function_id, function_name, output, error, serialization, child_workflow_id
FROM {schema}operation_outputs WHERE workflow_uuid ANY_OF(:ids)"""


def of_executors(find: str, executor_ids: Sequence[str] | None) -> str:
    """The search for orphans, restricted to those last run by executors of these labels, unless it is ``None``."""
    return find if executor_ids is None else find.replace("\nORDER BY", f"{_OF_EXECUTORS}\nORDER BY")


def has_orphans(
    database: Database,
    *,
    application_version: str,
    names: Sequence[str],
    owners: Sequence[str] = (),
    executor_ids: Sequence[str] | None = None,
) -> bool:
    """Whether there is something to claim, told without locks. (Arguments as for ``claim_orphans``.)"""
    find = of_executors(_FIND_ORPHANS, executor_ids)
    wanted = {"version": application_version, "names": list(names), "owners": list(owners), "limit": 1}
    wanted["executor_ids"] = list(executor_ids or ())
    return bool(database.run("find_orphans", lambda transaction: transaction.rows(find, wanted), "read"))


def claim_orphans(
    database: Database,
    *,
    nonce: str,
    lease_id: str,
    executor_id: str,
    application_version: str,
    names: Sequence[str],
    owners: Sequence[str] = (),
    limit: int,
    executor_ids: Sequence[str] | None = None,
) -> list[ClaimedWorkflow]:
    """Claim workflows that nobody runs, oldest first.

    Args:
        nonce: New for each call. Called again with the same one, it returns what the first call claimed.
        lease_id: The claiming lease; if it is dead, nothing is claimed.
        executor_id: The claiming executor's label.
        application_version: Only workflows of this version.
        names: Only workflows of these functions.
        owners: Only workflows of functions, and of methods of these classes and instances; see ``owner_key``.
        limit: At most so many.
        executor_ids: Only workflows last run by executors of these labels; ``None`` for any.
    """

    find = of_executors(_FIND_ORPHANS, executor_ids)
    find += " FOR UPDATE OF orphan SKIP LOCKED" if database.locks_rows else ""
    wanted = {"version": application_version, "names": list(names), "owners": list(owners), "limit": limit}
    wanted["executor_ids"] = list(executor_ids or ())
    own = {"nonce": nonce, "lease_id": lease_id, "executor_id": executor_id}
    return database.run("claim_orphans", lambda t: _claim(t, find, wanted, _CLAIM, own))


def _claim(
    transaction: Transaction, find: str, wanted: dict[str, Any], claim: str, own: dict[str, Any]
) -> list[ClaimedWorkflow]:
    is_locking = transaction.locks_rows
    if not transaction.rows(LOCK_LEASE + (" FOR KEY SHARE" if is_locking else ""), own):
        return []
    ids = [row[0] for row in transaction.rows(_READ_OWN, own)]
    if not ids:
        ids = [row[0] for row in transaction.rows(find, wanted)]
        if not ids:
            return []
        transaction.write(claim, {**own, "ids": ids})
    return [ClaimedWorkflow(*row) for row in transaction.rows(_READ_CLAIMED, {"ids": ids, **own})]


def find_stranded(
    database: Database, *, application_version: str, names: Sequence[str], owners: Sequence[str]
) -> list[tuple[str, str | None, str | None]]:
    """Functions, each with the class and the instance, of workflows that nobody runs and this process cannot run."""
    wanted = {"version": application_version, "names": list(names), "owners": list(owners)}
    rows = database.run("find_stranded", lambda t: t.rows(_FIND_STRANDED, wanted), "read")
    return [(row[0], row[1], row[2]) for row in rows]


@dataclass(frozen=True, slots=True)
class Duties:
    """What waits for an executor to attend to it.

    Attributes:
        deadline_in_ms: In how many milliseconds the next deadline of any workflow passes; negative if it has.
        delayed_in_ms: In how many milliseconds the next delayed workflow is to be started; negative if it is overdue.
        has_stopping: Whether runs of this executor are to stop, as their workflows were cancelled.
    """

    deadline_in_ms: int | None
    delayed_in_ms: int | None
    has_stopping: bool


def read_duties(database: Database, lease_id: str) -> Duties:
    """What there is to attend to; one cheap statement, to be asked now and then."""
    row = database.run("read_duties", lambda t: t.rows(_READ_DUTIES, {"lease_id": lease_id}), "read")[0]
    return Duties(row[0], row[1], bool(row[2]))


def read_stopping(database: Database, lease_id: str) -> list[str]:
    """The tokens of the lease's runs whose workflows were cancelled."""
    return [
        row[0]
        for row in database.run("read_stopping", lambda t: t.rows(_READ_STOPPING, {"lease_id": lease_id}), "read")
    ]


def release(database: Database, *, workflow_id: str, token: str) -> None:
    """Give up the claim, if it still holds: the workflow is owned by nobody then."""
    database.run("release", lambda t: t.write(_RELEASE, {"id": workflow_id, "token": token}), "statement")


def release_all(database: Database, claims: Sequence[tuple[str, str]]) -> None:
    """Give up claims, each given by its workflow's id and its token, as far as they still hold."""
    parameters = {"ids": [claim[0] for claim in claims], "tokens": [claim[1] for claim in claims]}
    database.run("release", lambda t: t.write(_RELEASE_ALL, parameters), "statement")


def count_claims(database: Database, lease_id: str) -> int:
    """How many workflows are claimed under the lease."""
    rows = database.run("count_claims", lambda t: t.rows(_COUNT_CLAIMS, {"lease_id": lease_id}), "read")
    return int(rows[0][0])


def read_claims(database: Database, lease_id: str) -> list[tuple[str, str]]:
    """Workflow id and token of every claim under the lease."""
    rows = database.run("read_claims", lambda t: t.rows(_READ_CLAIMS, {"lease_id": lease_id}), "read")
    return [(row[0], row[1]) for row in rows]


def read_owners(database: Database, workflow_ids: Sequence[str]) -> dict[str, str | None]:
    """The tokens that own the workflows, by id. Unknown ids are left out."""
    rows = database.run("read_owners", lambda t: t.rows(_READ_OWNERS, {"ids": list(workflow_ids)}), "read")
    return {row[0]: row[1] for row in rows}


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
