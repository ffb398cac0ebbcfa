"""What waits for other versions of the application: nobody starts it here, so somebody should be told."""

from __future__ import annotations

from dataclasses import dataclass

from dbos.model.queues import SEPARATOR
from dbos.storage.claims import IS_ORPHAN
from dbos.storage.database import Database, Transaction
from dbos.storage.schema import QUEUE_AND_VERSION, WAITS

COUNTED = 5_000
"""Up to how many enqueued workflows of one queue and version are counted; more are not told apart."""

_MANY = 100
"""Of how many queues and versions together the workflows are counted."""

# Of what is enqueued only the keys are read, jumping from one to the next.
_FIND_WAITING = f"""
WITH RECURSIVE found (key) AS (
    SELECT * FROM (
        SELECT {QUEUE_AND_VERSION} FROM {{schema}}workflow_status
        WHERE {WAITS} ORDER BY {QUEUE_AND_VERSION} LIMIT 1) AS first
    UNION ALL
    SELECT (
        SELECT {QUEUE_AND_VERSION} FROM {{schema}}workflow_status
        WHERE {WAITS} AND {QUEUE_AND_VERSION} > found.key ORDER BY {QUEUE_AND_VERSION} LIMIT 1)
    FROM found WHERE found.key IS NOT NULL
)
SELECT 'ENQUEUED', key, 0 FROM found WHERE key IS NOT NULL
UNION ALL
SELECT 'PENDING', application_version, count(*) FROM {{schema}}workflow_status
WHERE status = 'PENDING' AND (application_version <> :version OR application_version IS NULL) AND {IS_ORPHAN}
GROUP BY application_version
UNION ALL
SELECT 'LIVE', application_version, count(*) FROM {{schema}}executors WHERE state = 'LIVE'
GROUP BY application_version"""

# The first rows in the order of the index, from this key on: whatever the database believes to know about how many
# there are of it, it reads no more than these.
_COUNT = f"""
SELECT count(*) FROM (
    SELECT {QUEUE_AND_VERSION} AS key FROM {{schema}}workflow_status
    WHERE {WAITS} AND {QUEUE_AND_VERSION} >= :key ORDER BY {QUEUE_AND_VERSION}, priority, seq LIMIT {COUNTED}
) AS head WHERE key = :key"""


@dataclass(slots=True)
class Waiting:
    """What waits for one version.

    Attributes:
        version: The version; ``None`` for workflows that were recorded without one, and are recovered by nobody.
        pending: How many have begun and are run by nobody.
        enqueued: How many are enqueued.
        is_at_least: Whether more may be enqueued than were counted.
        executors: How many live executors are of this version.
    """

    version: str | None
    pending: int = 0
    enqueued: int = 0
    is_at_least: bool = False
    executors: int = 0


def find_other_versions(database: Database, application_version: str) -> list[Waiting]:
    """What waits for other versions than this one, by version; one statement if there is nothing.

    What is delayed does not wait yet.
    """

    def read(transaction: Transaction) -> list[Waiting]:
        found: dict[str | None, Waiting] = {}
        keys: list[str] = []
        live: dict[str, int] = {}
        for kind, text, count in transaction.rows(_FIND_WAITING, {"version": application_version}):
            if kind == "ENQUEUED":
                if text.partition(SEPARATOR)[2] not in ("", application_version):
                    keys.append(text)
            elif kind == "LIVE":
                live[text] = count
            else:
                found[text] = Waiting(text, pending=count)
        for key in keys[:_MANY]:
            count = transaction.rows(_COUNT, {"key": key})[0][0]
            version = key.partition(SEPARATOR)[2]
            waiting = found.setdefault(version, Waiting(version))
            waiting.enqueued += count
            waiting.is_at_least |= count >= COUNTED
        for waiting in found.values():
            waiting.executors = live.get(waiting.version or "", 0)
        return sorted(found.values(), key=lambda waiting: waiting.version or "")

    return database.run("find_other_versions", read, "read")
