"""What tells why workflows do not move: executors, queues, and what is recorded of workflows that have not ended.

It is read by somebody who runs no workflows, in several statements: they may tell of moments that lie a little apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from dbos.model.queues import SEPARATOR
from dbos.model.serving import Serving
from dbos.model.values import ProcessIdentity
from dbos.storage.database import Database, Transaction
from dbos.storage.leases import read_serving
from dbos.storage.reads import live_only
from dbos.storage.schema import QUEUE_AND_VERSION, WAITS

STALE_MS = 10_000
"""After how long without a renewal a lease is buried by other executors, unless they were set up otherwise."""

_MISSED = 4
"""An executor that was set up to renew less often counts as silent when it has missed about so many renewals."""

_READ_EXECUTORS = """
SELECT lease_id, executor_id, application_version, state, {now} - renewed_at, started_at, hostname, pid, boot_id,
    pid_namespace, pid_started,
    (SELECT count(*) FROM {schema}workflow_status AS its
     WHERE its.status = 'PENDING' AND its.lease_id = executors.lease_id AND its.owner_xid IS NOT NULL),
    CASE WHEN renewals > 0 THEN (renewed_at - started_at) / renewals ELSE 0 END, serves
FROM {schema}executors ORDER BY state DESC, started_at"""

_MAX_KEYS = 1_000
"""Of how many pairs of a queue and a version is told what waits; of others it is not."""

_OF_KEY = f"FROM {{schema}}workflow_status WHERE {WAITS} AND {QUEUE_AND_VERSION} = found.key"

# What waits may be much: it is counted in the index, key by key, and of its rows only the heads are read, of the most
# and of the least urgent ones.
_COUNT_WAITING = f"""
WITH RECURSIVE found (key, place) AS (
    SELECT * FROM (
        SELECT {QUEUE_AND_VERSION}, 1 FROM {{schema}}workflow_status
        WHERE {WAITS} AND {QUEUE_AND_VERSION} > '' ORDER BY {QUEUE_AND_VERSION} LIMIT 1) AS first
    UNION ALL
    SELECT (
        SELECT {QUEUE_AND_VERSION} FROM {{schema}}workflow_status
        WHERE {WAITS} AND {QUEUE_AND_VERSION} > found.key ORDER BY {QUEUE_AND_VERSION} LIMIT 1), place + 1
    FROM found WHERE found.key IS NOT NULL AND place < {_MAX_KEYS}
)
SELECT key, (SELECT count(*) {_OF_KEY}),
    {{now}} - (SELECT updated_at {_OF_KEY} ORDER BY priority, seq LIMIT 1),
    {{now}} - (SELECT updated_at {_OF_KEY}
        AND priority = (SELECT priority {_OF_KEY} ORDER BY priority DESC, seq DESC LIMIT 1)
        ORDER BY priority, seq LIMIT 1)
FROM found WHERE key IS NOT NULL"""

_COUNT_OTHERS = """
SELECT queue_name, application_version, 0, count(*) FROM {schema}workflow_status
WHERE status = 'PENDING' GROUP BY queue_name, application_version
UNION ALL
SELECT COALESCE(delayed_queue_name, queue_name), application_version, count(*), 0 FROM {schema}workflow_status
WHERE status = 'ENQUEUED' AND delay_until_epoch_ms IS NOT NULL
GROUP BY COALESCE(delayed_queue_name, queue_name), application_version"""

_READ_LOAD = f"""
SELECT name, status, queue_name, delay_until_epoch_ms IS NOT NULL, count(*), {{now}} - MIN(updated_at)
FROM {{schema}}workflow_status WHERE {live_only()}
GROUP BY name, status, queue_name, delay_until_epoch_ms IS NOT NULL"""

_READ_STARTS = """
SELECT queue_name, partition_key, count(*), MAX(period_ms) FROM {schema}queue_starts
WHERE started_at IS NULL OR started_at > {now} - period_ms GROUP BY queue_name, partition_key"""

# Like ones are told by few examples: what is wrong with one of a thousand is wrong with all of them.
_READ_STALLED = """
SELECT * FROM (
    SELECT row.workflow_uuid, row.status, row.name, row.application_version, row.queue_name, row.queue_partition_key,
        row.lease_id, row.owner_xid IS NOT NULL, row.recovery_attempts, row.created_at, {now} - row.updated_at,
        row.delay_until_epoch_ms - {now}, row.workflow_deadline_epoch_ms - {now},
        row_number() OVER (
            PARTITION BY row.status, row.name, row.application_version, row.queue_name, row.queue_partition_key,
                row.lease_id, row.owner_xid IS NOT NULL, row.delay_until_epoch_ms IS NULL
            ORDER BY row.created_at, row.seq) AS place,
        count(*) OVER (
            PARTITION BY row.status, row.name, row.application_version, row.queue_name, row.queue_partition_key,
                row.lease_id, row.owner_xid IS NOT NULL, row.delay_until_epoch_ms IS NULL) AS alike
    FROM {schema}workflow_status AS row WHERE CONDITION
) AS numbered WHERE place <= :examples ORDER BY created_at, workflow_uuid LIMIT :limit"""

_QUIET = f"{live_only()} AND row.updated_at <= {{now}} - :quiet_ms"
_NAMED = "row.workflow_uuid ANY_OF(:ids)"

_READ_LAST_STEPS = """
SELECT step.workflow_uuid, step.function_id, step.function_name, step.output, step.serialization,
    {now} - step.completed_at_epoch_ms,
    EXISTS (SELECT 1 FROM {schema}operation_outputs AS before
        WHERE before.workflow_uuid = step.workflow_uuid AND before.function_id = step.function_id - 1)
FROM {schema}operation_outputs AS step
JOIN (SELECT workflow_uuid, MAX(function_id) AS newest FROM {schema}operation_outputs
    WHERE workflow_uuid ANY_OF(:ids) GROUP BY workflow_uuid) AS last
ON step.workflow_uuid = last.workflow_uuid AND step.function_id = last.newest"""

_READ_LIVE_CHILDREN = """
SELECT parent_workflow_id, workflow_uuid, status FROM {schema}workflow_status
WHERE parent_workflow_id ANY_OF(:ids) AND status IN ('PENDING', 'ENQUEUED') ORDER BY created_at, workflow_uuid"""

_READ_UNRECEIVED = """
SELECT destination_uuid, topic, count(*) FROM {schema}notifications WHERE destination_uuid ANY_OF(:ids)
GROUP BY destination_uuid, topic ORDER BY destination_uuid, topic"""


class ExecutorRow(NamedTuple):
    """A lease, and how many workflows are claimed under it."""

    lease_id: str
    executor_id: str
    application_version: str
    state: str
    silent_ms: int
    """For how long it has not been renewed."""
    started_at: int
    process: ProcessIdentity
    claims: int
    renewed_every_ms: int
    """How often it has renewed its lease on average."""
    serving: Serving | None
    """Which queues it listens to and which functions it knows; ``None`` if it does not tell."""

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def is_alive(self) -> bool:
        """Whether it is neither dead nor so silent that others would bury it."""
        return self.state == "LIVE" and self.silent_ms < max(STALE_MS, _MISSED * self.renewed_every_ms)


class QueueRow(NamedTuple):
    """What is on a queue for one application version; ``None`` stands for any version.

    What is delayed counts on the queue that it goes to.
    """

    name: str
    application_version: str | None
    waiting: int
    delayed: int
    running: int
    oldest_ms: int | None
    """For how long has been waiting what may be started: the first of the most urgent ones, or of the least urgent."""


class LoadRow(NamedTuple):
    """How many workflows of a function have not ended, on a queue or on none."""

    name: str
    status: str
    queue_name: str | None
    is_delayed: bool
    workflows: int
    oldest_ms: int
    """For how long the oldest has been in this state."""


class VersionRow(NamedTuple):
    """How many workflows of an application version have not ended; ``None`` stands for those that any may start."""

    application_version: str | None
    enqueued: int
    pending: int


class StartsRow(NamedTuple):
    """How many starts count against the rate limit of a queue, or of one of its partitions."""

    queue_name: str
    partition_key: str
    starts: int
    period_ms: int


class StalledRow(NamedTuple):
    """A workflow that has not ended. Times that end in ``_in_ms`` are reckoned from now."""

    workflow_id: str
    status: str
    name: str
    application_version: str | None
    queue_name: str | None
    partition_key: str | None
    lease_id: str | None
    is_owned: bool
    recovery_attempts: int | None
    created_at: int
    quiet_ms: int
    starts_in_ms: int | None
    deadline_in_ms: int | None
    place: int
    alike: int
    """How many there are of this status, function, version, queue and owner."""


class LastStep(NamedTuple):
    """The checkpoint with the largest number."""

    workflow_id: str
    function_id: int
    name: str
    output: str | None
    serialization: str | None
    ago_ms: int | None
    follows_on: bool
    """Whether the step before it is recorded too. (One that waits has its number before that of its wait.)"""


def read_executors(database: Database) -> list[ExecutorRow]:
    """All leases, the live ones first."""
    rows = database.run("read_executors", lambda t: t.rows(_READ_EXECUTORS), "read")
    return [
        ExecutorRow._make((*row[:6], ProcessIdentity(*row[6:11]), int(row[11]), int(row[12]), read_serving(row[13])))
        for row in rows
    ]


def read_queues(database: Database) -> list[QueueRow]:
    """What is on each queue."""
    return [row for row in _read_depths(database) if row.name]


def read_load(database: Database) -> list[LoadRow]:
    """What has not ended, by function, status and queue."""
    rows = database.run("read_load", lambda t: t.rows(_READ_LOAD), "read")
    return [LoadRow(row[0], row[1], row[2], bool(row[3]), int(row[4]), max(0, int(row[5]))) for row in rows]


def read_versions(database: Database) -> list[VersionRow]:
    """The application versions of workflows that have not ended."""
    found: dict[str | None, VersionRow] = {}
    for row in _read_depths(database):
        its = found.get(row.application_version, VersionRow(row.application_version, 0, 0))
        found[row.application_version] = its._replace(
            enqueued=its.enqueued + row.waiting + row.delayed, pending=its.pending + row.running
        )
    return sorted(found.values(), key=lambda its: its.application_version or "")


def _read_depths(database: Database) -> list[QueueRow]:
    """What has not ended, by queue and version; what is on no queue has an empty name."""

    def read(transaction: Transaction) -> list[QueueRow]:
        found: dict[tuple[str, str | None], QueueRow] = {}
        for key, count, first_ms, last_ms in transaction.rows(_COUNT_WAITING):
            name, _, version = key.partition(SEPARATOR)
            found[name, version or None] = QueueRow(name, version or None, count, 0, 0, max(first_ms, last_ms))
        for name, version, delayed, running in transaction.rows(_COUNT_OTHERS):
            place = name or "", version
            row = found.get(place, QueueRow(*place, 0, 0, 0, None))
            found[place] = row._replace(delayed=row.delayed + delayed, running=row.running + running)
        return [found[place] for place in sorted(found, key=lambda place: (place[0], place[1] or ""))]

    return database.run("read_queues", read, "read")


def read_starts(database: Database) -> list[StartsRow]:
    """The starts that count against rate limits now."""
    return [
        StartsRow(row[0], row[1], int(row[2]), int(row[3]))
        for row in database.run("read_starts", lambda t: t.rows(_READ_STARTS), "read")
    ]


def read_stalled(
    database: Database, *, quiet_ms: int, examples: int, limit: int, ids: Sequence[str] | None = None
) -> list[StalledRow]:
    """Workflows that have not ended, the oldest first.

    Args:
        database: The system database.
        quiet_ms: Only those whose row was not written to for so long.
        examples: Of those that are alike at most so many.
        limit: At most so many.
        ids: These instead, whether they have ended or not, and for however long they are quiet.
    """
    statement = _READ_STALLED.replace("CONDITION", _QUIET if ids is None else _NAMED)
    parameters = {"quiet_ms": quiet_ms, "examples": examples, "limit": limit, "ids": list(ids or ())}
    rows = database.run("read_stalled", lambda t: t.rows(statement, parameters), "read")
    return [StalledRow._make((*row[:7], bool(row[7]), *row[8:])) for row in rows]


def read_last_steps(database: Database, ids: Sequence[str]) -> dict[str, LastStep]:
    """The newest checkpoint of each of the workflows that have one, by workflow id."""
    rows = database.run("read_last_steps", lambda t: t.rows(_READ_LAST_STEPS, {"ids": list(ids)}), "read")
    return {row[0]: LastStep._make((*row[:6], bool(row[6]))) for row in rows}


def read_live_children(database: Database, ids: Sequence[str]) -> dict[str, list[tuple[str, str]]]:
    """The ids and statuses of the children that have not ended, by their parents' ids."""
    rows = database.run("read_live_children", lambda t: t.rows(_READ_LIVE_CHILDREN, {"ids": list(ids)}), "read")
    children: dict[str, list[tuple[str, str]]] = {}
    for parent, child, status in rows:
        children.setdefault(parent, []).append((child, status))
    return children


def read_unreceived(database: Database, ids: Sequence[str]) -> dict[str, list[tuple[str, int]]]:
    """How many messages wait for the workflows, by workflow id and topic."""
    rows = database.run("read_unreceived", lambda t: t.rows(_READ_UNRECEIVED, {"ids": list(ids)}), "read")
    waiting: dict[str, list[tuple[str, int]]] = {}
    for destination, topic, count in rows:
        waiting.setdefault(destination, []).append((topic, int(count)))
    return waiting
