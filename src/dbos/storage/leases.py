"""Leases: which executors are alive.

Each launch of an executor registers a lease of its own and renews it; every claim names the lease that it was made
under. A lease ends by an act that is recorded in its row: the executor releases it, or another one buries it. Time
alone ends no lease.
"""

from __future__ import annotations

import json
from typing import Any

from dbos.model.queues import QueueRules, RateLimit
from dbos.model.serving import Serving
from dbos.model.values import Lease, ProcessIdentity
from dbos.storage.database import Database, Transaction

# A try whose answer was lost may have inserted it.
_REGISTER = """
INSERT INTO {schema}executors (lease_id, executor_id, application_version, state, renewals, started_at, renewed_at,
    hostname, pid, boot_id, pid_namespace, pid_started)
VALUES (:lease_id, :executor_id, :version, 'LIVE', 0, {now}, {now}, :hostname, :pid, :boot_id, :namespace, :started)
ON CONFLICT (lease_id) DO NOTHING"""

_RENEW = """
UPDATE {schema}executors SET renewals = renewals + 1, renewed_at = {now}
WHERE lease_id = :lease_id AND state = 'LIVE'"""

_NOTE_SERVING = "UPDATE {schema}executors SET serves = :serves WHERE lease_id = :lease_id"

_READ_LIVE = """
SELECT lease_id, executor_id, application_version, hostname, pid, boot_id, pid_namespace, pid_started, renewals
FROM {schema}executors WHERE state = 'LIVE' AND lease_id <> :own"""

# The key changes hands here, so to say: this excludes the starts and claims that lock the row to see it alive.
# A process that was stopped inside its start or claim holds the row, and must not hold up whoever buries it.
_LOCK_POSTGRES = "SELECT 1 FROM {schema}executors WHERE lease_id = :lease_id FOR UPDATE SKIP LOCKED"

_BURY = """
UPDATE {schema}executors SET state = 'DEAD'
WHERE lease_id = :lease_id AND state = 'LIVE' AND renewals = :renewals"""

# Whoever takes the workflow up next counts an attempt, which this run was not: it did not crash.
_HAND_BACK = """
UPDATE {schema}workflow_status SET owner_xid = NULL,
    recovery_attempts = CASE WHEN recovery_attempts > 0 THEN recovery_attempts - 1 ELSE 0 END
WHERE status = 'PENDING' AND lease_id = :lease_id"""

# What somebody keeps locked is not waited for: without its lease it is up for recovery too, and counts an attempt.
_AND_IS_FREE = """
AND workflow_uuid = ANY(ARRAY(
    SELECT workflow_uuid FROM {schema}workflow_status
    WHERE status = 'PENDING' AND lease_id = :lease_id FOR NO KEY UPDATE SKIP LOCKED))"""

_REMOVE = "DELETE FROM {schema}executors WHERE lease_id = :lease_id"


_REMOVE_DEAD = "DELETE FROM {schema}executors WHERE state = 'DEAD' AND renewed_at < {now} - :age_ms"

DEAD_LEASES_KEPT_MS = 24 * 3600 * 1000
"""How long a dead lease stays to be seen; nothing needs it."""


def register_lease(database: Database, lease: Lease) -> None:
    """Record a new, live lease."""
    process = lease.process
    parameters = {
        "lease_id": lease.lease_id,
        "executor_id": lease.executor_id,
        "version": lease.application_version,
        "hostname": process.hostname,
        "pid": process.pid,
        "boot_id": process.boot_id,
        "namespace": process.pid_namespace,
        "started": process.pid_started,
    }

    def register(transaction: Transaction) -> None:
        transaction.write(_REMOVE_DEAD, {"age_ms": DEAD_LEASES_KEPT_MS})
        transaction.write(_REGISTER, parameters)

    database.run("register_lease", register)


def note_serving(database: Database, lease_id: str, serving: Serving) -> None:
    """Record what the executor serves, for those who ask why something is not started."""
    parameters = {"lease_id": lease_id, "serves": serving_text(serving)}
    database.run("note_serving", lambda t: t.write(_NOTE_SERVING, parameters), "statement")


def serving_text(serving: Serving) -> str:
    """As it is stored: JSON, in the words of ``Queue``."""
    queues = [
        {
            "name": rules.name,
            "concurrency": rules.concurrency,
            "worker_concurrency": rules.worker_concurrency,
            "limiter": None if rules.rate is None else {"limit": rules.rate.limit, "period_ms": rules.rate.period_ms},
            "priority_enabled": rules.has_priorities,
            "partition_queue": rules.is_partitioned,
        }
        for rules in serving.queues
    ]
    return json.dumps({"queues": queues, "functions": serving.functions})


def read_serving(text: str | None) -> Serving | None:
    """What a stored text says; ``None`` if nothing, or nothing that is understood here."""
    if text is None:
        return None
    try:
        stored: dict[str, Any] = json.loads(text)
        queues = tuple(
            QueueRules(
                name=queue["name"],
                concurrency=queue["concurrency"],
                worker_concurrency=queue["worker_concurrency"],
                rate=None if queue["limiter"] is None else RateLimit(**queue["limiter"]),
                has_priorities=queue["priority_enabled"],
                is_partitioned=queue["partition_queue"],
            )
            for queue in stored["queues"]
        )
        return Serving(queues, tuple(stored["functions"]))
    except (ValueError, TypeError, LookupError):
        return None


def renew_lease(database: Database, lease_id: str, patience_s: float = 1.0) -> bool:
    """Count one renewal; returns whether the lease is still alive."""
    parameters = {"lease_id": lease_id}
    renewed = database.run("renew_lease", lambda t: t.write(_RENEW, parameters), "statement", patience_s=patience_s)
    return renewed == 1


def read_live_leases(database: Database, own: str) -> list[Lease]:
    """All live leases but one's own."""
    rows = database.run("read_leases", lambda t: t.rows(_READ_LIVE, {"own": own}), "read")
    return [Lease(row[0], row[1], row[2], ProcessIdentity(*row[3:8]), row[8]) for row in rows]


def bury_lease(database: Database, lease: Lease) -> bool:
    """Mark the lease dead unless it was renewed since it was read, or is in use; returns whether this call did it.

    Afterwards no start or claim under it can succeed, and those before are visible: its workflows may be taken over.
    """

    def bury(transaction: Transaction) -> bool:
        if database.locks_rows and not transaction.rows(_LOCK_POSTGRES, {"lease_id": lease.lease_id}):
            return False
        return transaction.write(_BURY, {"lease_id": lease.lease_id, "renewals": lease.renewals}) == 1

    return database.run("bury_lease", bury)


def release_lease(database: Database, lease_id: str, patience_s: float = 2.0) -> None:
    """End one's own lease and hand back what it still claims; whoever looks next may take that up."""

    def release(transaction: Transaction) -> None:
        transaction.write(_HAND_BACK + (_AND_IS_FREE if database.locks_rows else ""), {"lease_id": lease_id})
        transaction.write(_REMOVE, {"lease_id": lease_id})

    database.run("release_lease", release, patience_s=patience_s)
