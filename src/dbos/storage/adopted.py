"""What an adopted database still holds of application versions that no program of this library can have.

A version that is computed from the source is computed differently by each library, so that nobody would recover what
the other library's left behind. The first launch of a program takes over the workflows of those versions that it has
the functions of.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dbos.storage.adoption import UNFINISHED
from dbos.storage.database import Database, Transaction

_READ = "SELECT version FROM {schema}adopted_versions ORDER BY version"

_FIND_QUEUES = """
SELECT DISTINCT queue_name FROM {schema}workflow_status
WHERE status = 'ENQUEUED' AND application_version = :version AND queue_name IS NOT NULL"""

_TAKE_OVER = f"""
UPDATE {{schema}}workflow_status SET application_version = :version, updated_at = {{now}}
WHERE {UNFINISHED} AND application_version ANY_OF(:versions) AND name ANY_OF(:names)"""

_FORGET = f"""
DELETE FROM {{schema}}adopted_versions WHERE NOT EXISTS (
    SELECT 1 FROM {{schema}}workflow_status
    WHERE {UNFINISHED} AND application_version = adopted_versions.version)"""


@dataclass(frozen=True, slots=True)
class TakenOver:
    """What was taken over.

    Attributes:
        versions: The versions that were looked for.
        count: How many workflows are of the launched version now.
        queues: Queues that hold work of the launched version now.
        is_all: Whether nothing of those versions is left.
    """

    versions: Sequence[str] = ()
    count: int = 0
    queues: Sequence[str] = ()
    is_all: bool = True


def take_over_adopted(database: Database, version: str, names: Sequence[str]) -> TakenOver:
    """Make unfinished workflows of adopted versions ones of this version, if they are of these functions.

    One statement where there are no such versions.
    """
    versions = _read_versions(database)
    if not versions:
        return TakenOver()

    def take_over(transaction: Transaction) -> TakenOver:
        own = {"version": version, "versions": versions, "names": list(names)}
        count = transaction.write(_TAKE_OVER, own)
        queues = [row[0] for row in transaction.rows(_FIND_QUEUES, own)] if count else []
        transaction.write(_FORGET)
        return TakenOver(versions, count, queues, is_all=not transaction.rows(_READ))

    return database.run("take_over_adopted", take_over)


def _read_versions(database: Database) -> list[str]:
    return [row[0] for row in database.run("read_adopted", lambda t: t.rows(_READ), "read")]
