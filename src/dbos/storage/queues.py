"""Queues: claiming what is enqueued, within the limits of its queue, and putting back what its owner left.

Without limits that hold for all processes together a claim is one statement, and several processes claim side by side.
With such a limit they take turns: the transaction first locks the queue, or the partition, then counts, then claims;
counting in the statement that locks would see the counts as they were before the wait for the lock.

Concurrency is counted by the rows that are ``PENDING``. Starts are kept in a table of their own, as workflows may be
cancelled and deleted: a start counts from its claim until a period after its function was called, however late that is.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dbos.model.queues import INTERNAL_QUEUE, SEPARATOR, QueueRules
from dbos.model.values import ClaimedWorkflow
from dbos.storage.claims import CAN_RUN, IS_IN_TIME, IS_ORPHAN, LOCK_LEASE, of_executors
from dbos.storage.database import Database, Row, Transaction
from dbos.storage.schema import PARTITION, QUEUE_AND_VERSION, WAITS

# Two ranges of an index, each in the order of the queue: what is for a version, and what is for any.
_FOR_VERSION = f"{QUEUE_AND_VERSION} = :own_key"
_FOR_ANY = f"{QUEUE_AND_VERSION} = :open_key"

_IN_PARTITION = f" AND queue_name = :queue AND {PARTITION} = :partition"
_FOR_VERSION_IN_PARTITION = "COALESCE(application_version, '') = :version"
_FOR_ANY_IN_PARTITION = "COALESCE(application_version, '') = ''"

# Nobody waits for the lock: whoever holds it may have been stopped.
_LOCK_QUEUE = "SELECT pg_try_advisory_xact_lock(hashtextextended(:lock, 0))"

_SET_CLAIM = """
SET status = 'PENDING', owner_xid = :nonce || ':' || row.workflow_uuid, lease_id = :lease_id,
    executor_id = :executor_id, application_version = COALESCE(application_version, :version),
    recovery_attempts = COALESCE(recovery_attempts, 0) + 1, started_at_epoch_ms = {now}, updated_at = {now},
    workflow_deadline_epoch_ms = COALESCE(workflow_deadline_epoch_ms, {now} + workflow_timeout_ms)"""

_CLAIMED_COLUMNS = """row.workflow_uuid, owner_xid, name, class_name, config_name, authenticated_user, assumed_role,
    authenticated_roles, inputs, serialization, recovery_attempts, workflow_deadline_epoch_ms, queue_name,
    queue_partition_key"""

_CLAIM_BY_ID = f"""
UPDATE {{schema}}workflow_status AS row
{_SET_CLAIM}
WHERE workflow_uuid ANY_OF(:ids) AND {WAITS}"""

_READ_CLAIMED = f"""
SELECT {_CLAIMED_COLUMNS} FROM {{schema}}workflow_status AS row
WHERE workflow_uuid ANY_OF(:ids) ORDER BY priority, +seq"""

_READ_OWN = f"""
SELECT {_CLAIMED_COLUMNS} FROM {{schema}}workflow_status AS row
WHERE status = 'PENDING' AND lease_id = :lease_id AND owner_xid = :nonce || ':' || workflow_uuid
ORDER BY priority, +seq"""

_COUNT_RUNNING = "SELECT count(*) FROM {schema}workflow_status WHERE status = 'PENDING' AND queue_name = :queue"

_FORGET_STARTS = """
DELETE FROM {schema}queue_starts
WHERE queue_name = :queue AND partition_key = :partition AND started_at <= {now} - :period_ms"""

_READ_STARTS = """
SELECT count(*), MIN(COALESCE(started_at, claimed_at)) + :period_ms - {now} FROM {schema}queue_starts
WHERE queue_name = :queue AND partition_key = :partition"""

_RECORD_STARTS = """
INSERT INTO {schema}queue_starts (token, workflow_uuid, queue_name, partition_key, period_ms, claimed_at)
SELECT token, id, :queue, :partition, :period_ms, {now} FROM ROWS_OF(:starts, token text, id text)"""

_NOTE_STARTS = """
UPDATE {schema}queue_starts SET started_at = {now} WHERE token ANY_OF(:tokens) AND started_at IS NULL"""

# Starts of which nobody will tell: the workflow has ended, or is another's or nobody's. Its function may just have been
# called, so its period begins now.
_NOTE_LOST_STARTS = """
UPDATE {schema}queue_starts SET started_at = {now}
WHERE started_at IS NULL AND NOT EXISTS (
    SELECT 1 FROM {schema}workflow_status AS its
    WHERE its.workflow_uuid = queue_starts.workflow_uuid AND its.owner_xid = queue_starts.token
    AND its.status = 'PENDING'
    AND its.lease_id IN (SELECT lease_id FROM {schema}executors WHERE state = 'LIVE'))"""

_FORGET_OLD_STARTS = "DELETE FROM {schema}queue_starts WHERE started_at <= {now} - period_ms"

# Jumps from key to key; a partition that holds much costs no more than one that holds little.
_FIND_PARTITIONS = f"""
WITH RECURSIVE found (key) AS (
    SELECT * FROM (
        SELECT {PARTITION} FROM {{schema}}workflow_status
        WHERE {WAITS} AND queue_name = :queue ORDER BY {PARTITION} LIMIT 1) AS first
    UNION ALL
    SELECT (
        SELECT {PARTITION} FROM {{schema}}workflow_status
        WHERE {WAITS} AND queue_name = :queue AND {PARTITION} > found.key ORDER BY {PARTITION} LIMIT 1)
    FROM found WHERE found.key IS NOT NULL
)
SELECT key FROM found WHERE key IS NOT NULL AND (:concurrency > (
    SELECT count(*) FROM {{schema}}workflow_status
    WHERE status = 'PENDING' AND queue_name = :queue AND {PARTITION} = found.key))"""

_FIND_WAITING = f"""
SELECT DISTINCT wanted.queue FROM ROWS_OF(:wanted, queue text, key text)
WHERE EXISTS (SELECT 1 FROM {{schema}}workflow_status
    WHERE {WAITS} AND {QUEUE_AND_VERSION} = wanted.key AND {CAN_RUN})"""

_FIND_QUEUES = f"""
WITH RECURSIVE found (name) AS (
    SELECT * FROM (
        SELECT queue_name FROM {{schema}}workflow_status WHERE {WAITS} AND queue_name IS NOT NULL
        ORDER BY queue_name LIMIT 1) AS first
    UNION ALL
    SELECT (
        SELECT queue_name FROM {{schema}}workflow_status WHERE {WAITS} AND queue_name > found.name
        ORDER BY queue_name LIMIT 1)
    FROM found WHERE found.name IS NOT NULL
)
SELECT name FROM found WHERE name IS NOT NULL"""

# The first ones are enough: those that nobody starts gather at the head.
_FIND_UNKNOWN = f"""
SELECT DISTINCT name, class_name, config_name FROM (
    SELECT name, class_name, config_name FROM {{schema}}workflow_status
    WHERE {WAITS} AND {QUEUE_AND_VERSION} = :key ORDER BY priority, seq LIMIT 100
) AS head WHERE NOT ({CAN_RUN})"""

_FIND_LEFT_BEHIND = (
    """
SELECT workflow_uuid, queue_name, owner_xid FROM {schema}workflow_status AS orphan
WHERE status = 'PENDING' AND queue_name IS NOT NULL AND application_version = :version AND """
    + IS_ORPHAN
    + """
ORDER BY +seq LIMIT :limit"""
)

_PUT_BACK = (
    """
UPDATE {schema}workflow_status SET status = 'ENQUEUED', owner_xid = NULL, lease_id = NULL, updated_at = {now}
WHERE workflow_uuid ANY_OF(:ids) AND status = 'PENDING' AND """
    + IS_ORPHAN
)

# The clock as a subquery, which is asked once: else PostgreSQL would ask it for each row, and use no index.
_RELEASE_DELAYED = """
UPDATE {schema}workflow_status AS row
SET queue_name = COALESCE(delayed_queue_name, queue_name), deduplication_id = delayed_deduplication_id,
    delay_until_epoch_ms = NULL, delay_limit_epoch_ms = NULL, delayed_queue_name = NULL,
    delayed_deduplication_id = NULL, updated_at = {now}
WHERE status = 'ENQUEUED' AND delay_until_epoch_ms <= (SELECT {now})
AND NOT EXISTS (SELECT 1 FROM {schema}workflow_status AS holder
    WHERE holder.queue_name = row.delayed_queue_name AND holder.deduplication_id = row.delayed_deduplication_id)
AND NOT EXISTS (SELECT 1 FROM {schema}workflow_status AS former
    WHERE former.status = 'ENQUEUED' AND former.delay_until_epoch_ms <= (SELECT {now}) AND former.seq < row.seq
    AND former.delayed_queue_name = row.delayed_queue_name
    AND former.delayed_deduplication_id = row.delayed_deduplication_id)"""

_PUT_BACK_BITE = 1000

_NO_LIMIT = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Claimant:
    """Who claims, and what it can run.

    Attributes:
        lease_id: The claiming lease; if it is dead, nothing is claimed.
        executor_id: The claiming executor's label.
        application_version: Only workflows of this version are claimed, and those without one, which get this one.
        names: Only workflows of these functions are claimed.
        owners: Of methods, only those of these classes and instances; see ``owner_key``.
    """

    lease_id: str
    executor_id: str
    application_version: str
    names: Sequence[str]
    owners: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Claim:
    """What was claimed, in the order of the queue.

    Attributes:
        workflows: What was claimed.
        opens_in_ms: If the queue may not start more for now, when it may at the earliest.
        is_contended: Whether somebody else was claiming at the same time, so that there may be more.
    """

    workflows: list[ClaimedWorkflow]
    opens_in_ms: int | None = None
    is_contended: bool = False


def claim_enqueued(
    database: Database, rules: QueueRules, claimant: Claimant, *, nonce: str, rooms: Mapping[str | None, int]
) -> Claim:
    """Claim workflows that wait on a queue, by priority and age, as far as its limits allow.

    Args:
        database: The system database.
        rules: The queue's.
        claimant: Who claims.
        nonce: New for each call. Tried again with the same one, it returns what an earlier try claimed.
        rooms: How many to claim at most of each partition; of a queue without partitions, for ``None``.
    """
    has_tried = False

    def work(transaction: Transaction) -> Claim:
        nonlocal has_tried
        own = {"nonce": nonce, "lease_id": claimant.lease_id}
        if has_tried and (rows := transaction.rows(_READ_OWN, own)):
            # What else the lost answer told has to be found out again.
            return Claim([_workflow(row, is_fresh=False) for row in rows], is_contended=True)
        has_tried = True
        workflows: list[ClaimedWorkflow] = []
        opens_in_ms: int | None = None
        is_contended = False
        for partition, room in rooms.items():
            if rules.is_shared and transaction.locks_rows:
                lock = f"{database.schema_prefix}{rules.name}/{partition or ''}"
                if not transaction.rows(_LOCK_QUEUE, {"lock": lock})[0][0]:
                    is_contended = True
                    continue
            room = _concurrent_room(transaction, rules, partition, room)
            starts_left, its_opening = _rate_room(transaction, rules, partition)
            room = min(room, starts_left)
            claimed = _claim(transaction, rules, claimant, partition, {**own, "limit": room}) if room > 0 else []
            if rules.rate is not None and len(claimed) >= starts_left:
                opens_in_ms = its_opening if opens_in_ms is None else min(its_opening, opens_in_ms)
            if claimed and rules.rate is not None:
                starts = json.dumps([{"token": one.token, "id": one.workflow_id} for one in claimed])
                parameters: dict[str, Any] = {"queue": rules.name, "partition": partition or "", "starts": starts}
                parameters["period_ms"] = rules.rate.period_ms
                transaction.write(_RECORD_STARTS, parameters)
            workflows.extend(claimed)
        return Claim(workflows, opens_in_ms, is_contended)

    is_one = database.locks_rows and not rules.is_shared and len(rooms) == 1
    return database.run("claim_enqueued", work, "statement" if is_one else "transaction")


def _concurrent_room(transaction: Transaction, rules: QueueRules, partition: str | None, room: int) -> int:
    """How many of so many may be claimed if the concurrency is to be kept."""
    if rules.concurrency is None:
        return room
    parameters = {"queue": rules.name, "partition": partition or ""}
    running = transaction.rows(_COUNT_RUNNING + _in_partition(rules), parameters)[0][0]
    return min(room, rules.concurrency - int(running))


def _rate_room(transaction: Transaction, rules: QueueRules, partition: str | None) -> tuple[int, int]:
    """How many may be started now if the rate is to be kept; and if it is all of them, in how many milliseconds the
    next one may be, at the earliest: what was claimed and not yet called takes longer, and nobody knows how long."""
    if rules.rate is None:
        return _NO_LIMIT, 0
    parameters = {"queue": rules.name, "partition": partition or "", "period_ms": rules.rate.period_ms}
    transaction.write(_FORGET_STARTS, parameters)
    starts, opens_in_ms = transaction.rows(_READ_STARTS, parameters)[0]
    if int(starts) >= rules.rate.limit:
        transaction.write(_NOTE_LOST_STARTS)
    return rules.rate.limit - int(starts), rules.rate.period_ms if opens_in_ms is None else max(int(opens_in_ms), 1)


def _claim(
    transaction: Transaction,
    rules: QueueRules,
    claimant: Claimant,
    partition: str | None,
    parameters: dict[str, Any],
) -> list[ClaimedWorkflow]:
    parameters = {
        **parameters,
        "executor_id": claimant.executor_id,
        "version": claimant.application_version,
        "names": list(claimant.names),
        "owners": list(claimant.owners),
        "queue": rules.name,
        "partition": partition or "",
        "own_key": _key(rules.name, claimant.application_version),
        "open_key": _key(rules.name, ""),
    }
    condition = _in_partition(rules)
    if transaction.locks_rows:
        return _in_order(transaction.rows(_claim_postgres(condition), parameters))
    if not transaction.rows(LOCK_LEASE, parameters):
        return []
    picked: dict[str, Any] = {row[0]: row[1] for row in transaction.rows(_pick_sqlite(condition), parameters)}
    if not picked:
        return []
    transaction.write(_CLAIM_BY_ID, {**parameters, "ids": list(picked)})
    rows = transaction.rows(_READ_CLAIMED, {"ids": list(picked)})
    return [_workflow(row, _is_fresh(row, picked[row[0]])) for row in rows]


def _in_order(rows: Sequence[Row]) -> list[ClaimedWorkflow]:
    return [_workflow(row, _is_fresh(row, row[14])) for row in sorted(rows, key=lambda row: row[15:])]


def _workflow(row: Row, is_fresh: bool) -> ClaimedWorkflow:
    columns: list[Any] = [*row[:14], is_fresh]
    return ClaimedWorkflow(*columns)


def _is_fresh(row: Row, started_at: int | None) -> bool:
    # What is resumed or forked has checkpoints before its first start from here.
    return started_at is None and row[12] != INTERNAL_QUEUE


def _in_partition(rules: QueueRules) -> str:
    return _IN_PARTITION if rules.is_partitioned else ""


def _key(queue: str, version: str) -> str:
    return f"{queue}{SEPARATOR}{version}"


def _pick(condition: str, *, for_any: bool) -> str:
    if condition:
        for_version = _FOR_ANY_IN_PARTITION if for_any else _FOR_VERSION_IN_PARTITION
    else:
        for_version = _FOR_ANY if for_any else _FOR_VERSION
    return f"""
    SELECT workflow_uuid, priority, seq, started_at_epoch_ms FROM {{schema}}workflow_status AS waiting
    WHERE {WAITS} AND {for_version}{condition} AND {CAN_RUN}{IS_IN_TIME}
    ORDER BY priority, seq LIMIT :limit"""


@functools.cache
def _claim_postgres(condition: str) -> str:
    def picked(name: str, *, for_any: bool) -> str:
        pick = _pick(condition, for_any=for_any).replace(
            "\n    ORDER BY", " AND EXISTS (SELECT 1 FROM alive)\n    ORDER BY"
        )
        return f"{name} AS MATERIALIZED ({pick} FOR NO KEY UPDATE OF waiting SKIP LOCKED\n)"

    return f"""
WITH alive AS MATERIALIZED (
    {LOCK_LEASE} FOR KEY SHARE
), {picked("own", for_any=False)}, {picked("open", for_any=True)}, picked AS MATERIALIZED (
    SELECT * FROM own UNION ALL SELECT * FROM open ORDER BY priority, seq LIMIT :limit
)
UPDATE {{schema}}workflow_status AS row
{_SET_CLAIM}
FROM picked WHERE row.workflow_uuid = picked.workflow_uuid
RETURNING {_CLAIMED_COLUMNS}, picked.started_at_epoch_ms, row.priority, row.seq"""


@functools.cache
def _pick_sqlite(condition: str) -> str:
    return f"""
SELECT workflow_uuid, started_at_epoch_ms FROM (
    SELECT * FROM ({_pick(condition, for_any=False)})
    UNION ALL
    SELECT * FROM ({_pick(condition, for_any=True)})
) ORDER BY priority, seq LIMIT :limit"""


def find_partitions(database: Database, rules: QueueRules) -> list[str | None]:
    """The partitions of a queue that hold work and may run more; ``None`` stands for work without a partition."""
    parameters = {"queue": rules.name, "concurrency": _NO_LIMIT if rules.concurrency is None else rules.concurrency}
    rows = database.run("find_partitions", lambda t: t.rows(_FIND_PARTITIONS, parameters), "read")
    return [row[0] or None for row in rows]


def find_waiting(
    database: Database,
    queues: Sequence[str],
    application_version: str,
    names: Sequence[str],
    owners: Sequence[str] = (),
) -> list[str]:
    """Those of the queues that hold work for executors of this version that run these functions and methods."""
    keys = [{"queue": queue, "key": _key(queue, version)} for queue in queues for version in (application_version, "")]
    wanted = {"wanted": json.dumps(keys), "names": list(names), "owners": list(owners)}
    return [row[0] for row in database.run("find_waiting", lambda t: t.rows(_FIND_WAITING, wanted), "read")]


def find_queues(database: Database) -> list[str]:
    """The names of all queues that hold work."""
    return [row[0] for row in database.run("find_queues", lambda t: t.rows(_FIND_QUEUES), "read")]


def find_unknown_functions(
    database: Database, queues: Sequence[str], claimant: Claimant
) -> list[tuple[str, str, str | None, str | None]]:
    """Queues at whose head work waits that is for this version but not for these functions and methods: each with a
    function, and its class and instance."""
    known = {"names": list(claimant.names), "owners": list(claimant.owners)}

    def read(transaction: Transaction) -> list[tuple[str, str, str | None, str | None]]:
        return [
            (queue, row[0], row[1], row[2])
            for queue in queues
            for version in (claimant.application_version, "")
            for row in transaction.rows(_FIND_UNKNOWN, {"key": _key(queue, version), **known})
        ]

    return database.run("find_unknown_functions", read, "read")


def note_starts(database: Database, tokens: Sequence[str]) -> None:
    """The functions of these claims were called by now, or never will be: their period begins."""
    database.run("note_starts", lambda t: t.write(_NOTE_STARTS, {"tokens": list(tokens)}), "statement")


def forget_starts(database: Database) -> int:
    """Delete the starts whose period is over, of all queues; returns how many."""

    def work(transaction: Transaction) -> int:
        transaction.write(_NOTE_LOST_STARTS)
        return transaction.write(_FORGET_OLD_STARTS)

    return database.run("forget_starts", work)


def put_back(database: Database, application_version: str, executor_ids: Sequence[str] | None = None) -> dict[str, str]:
    """Put what nobody runs any more back on its queue; returns the ids of the workflows, each with its queue.

    Args:
        database: The system database.
        application_version: Only workflows of this version.
        executor_ids: Only workflows last run by executors of these labels; ``None`` for any.
    """
    search = of_executors(_FIND_LEFT_BEHIND, executor_ids)
    find = search + (" FOR NO KEY UPDATE OF orphan SKIP LOCKED" if database.locks_rows else "")
    wanted = {"version": application_version, "limit": _PUT_BACK_BITE, "executor_ids": list(executor_ids or ())}
    queues: dict[str, str] = {}
    """Those of tries that were not answered count too: to look at a queue for nothing does no harm."""

    def work(transaction: Transaction) -> int:
        found = transaction.rows(find, wanted)
        queues.update((row[0], row[1]) for row in found)
        if found:
            transaction.write(_PUT_BACK, {"ids": [row[0] for row in found]})
            transaction.write(_NOTE_STARTS, {"tokens": [row[2] for row in found if row[2] is not None]})
        return len(found)

    # Told without locks first: mostly there is nothing. What others hold locked, they put back.
    while database.run("find_left_behind", lambda t: t.rows(search, {**wanted, "limit": 1}), "read"):
        if not database.run("put_back", work):
            break
    return queues


def release_delayed(database: Database) -> int:
    """Put those workflows whose delay is over on the queue that they are meant for; returns how many.

    One whose deduplication id is taken there waits on.
    """
    return database.run("release_delayed", lambda t: t.write(_RELEASE_DELAYED), "statement")
