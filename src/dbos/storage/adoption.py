"""Adoption: a system database that another library of version 2 made becomes one of ours, with all that it holds.

Its tables have our published tables' names and columns, and no record of our migrations. Adopting it gives them what
the first migration would have made; the later migrations then run as on any database. All of it is one transaction, so
that an adoption is done or was never begun.

On Postgres the tables are altered where they are, each rewritten once at most, so that rights and views that were
given on them hold. On SQLite, where a table's key cannot be changed, they are copied. Columns that are not ours are
kept, those of later libraries under another name, as they may mean something else than a column of the same name that
we add.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping

from dbos.error import DBOSInitializationError
from dbos.model.names import OLDER_DEBOUNCER
from dbos.storage.database import Database, Transaction
from dbos.storage.postgres import PostgresDatabase
from dbos.storage.schema import SEQUENCES, Migration, spelled

_logger = logging.getLogger("dbos")

OLDER_VERSION_TABLE = "dbos_migrations"
"""Where the other library keeps the number of its schema."""

NEWEST_OLDER = 108
"""The highest number that a library of version 2 gave its schema."""

ADOPTED_VERSIONS = "adopted_versions"
"""Application versions whose workflows were left unfinished, and which no program of this library can have."""

_ASIDE = "older_"
"""The prefix of what is kept under another name."""

_KNOWN_EXTRAS = frozenset({"request"})
"""Columns without a counterpart here that keep their name: we will never add one of it."""

_TABLE = re.compile(r"CREATE TABLE IF NOT EXISTS \{schema\}(\w+) \(\n(.*?)\n\)", re.DOTALL)
_COLUMN = re.compile(r'^    (?!PRIMARY KEY)"?(\w+)"? (.+?),?$', re.MULTILINE)

# A finished workflow's claim means nothing, and would look like one that is still to be given up. When it ended is when
# it was last written. A workflow that waits for its time is an enqueued one with a delay here.
_CONVERT = """
UPDATE {schema}workflow_status
SET owner_xid = CASE WHEN status = 'PENDING' THEN owner_xid END,
    status = CASE WHEN status = 'DELAYED' THEN 'ENQUEUED' ELSE status END,
    completed_at = CASE
        WHEN status NOT IN ('PENDING', 'ENQUEUED', 'DELAYED') THEN COALESCE(completed_at, updated_at) END
WHERE status NOT IN ('PENDING', 'ENQUEUED') OR (owner_xid IS NOT NULL AND status = 'ENQUEUED')"""

# Indexes and constraints of the other library. Ours serve the same look-ups, and each costs at every write.
_INDEXES = (
    "workflow_status_created_at_index",
    "workflow_status_executor_id_index",
    "workflow_status_status_index",
    "idx_workflow_status_queue_status_started",
    "idx_workflow_status_forked_from",
    "idx_workflow_status_parent_workflow_id",
    "idx_workflow_topic",
    "idx_notifications",
    "idx_operation_outputs_completed_at_function_name",
    "idx_workflow_status_attributes",
    "idx_workflow_status_completed_at",
    "idx_workflow_status_delayed",
    "idx_workflow_status_failed",
    "idx_workflow_status_in_flight",
    "idx_workflow_status_partition_dequeue_v2",
    "idx_workflow_status_pending",
    "idx_workflow_status_rate_limited",
    "idx_workflow_status_schedule_name",
    "idx_workflow_status_started_at",
    "uq_workflow_status_dedup_id",
)
_CONSTRAINTS = {
    "workflow_status": ("uq_workflow_status_queue_name_dedup_id",),
    "operation_outputs": ("operation_outputs_workflow_uuid_fkey",),
    "notifications": ("notifications_destination_uuid_fkey",),
    "streams": ("streams_workflow_uuid_fkey",),
    "workflow_events": ("workflow_events_workflow_uuid_fkey",),
    "workflow_events_history": ("workflow_events_history_workflow_uuid_fkey",),
}
_TRIGGERS = (
    ("notifications", "dbos_notifications_trigger"),
    ("workflow_events", "dbos_workflow_events_trigger"),
)

# In the order of their creation: queues and listings go by it. What has ended keeps the number it got in passing.
_NUMBER_WORKFLOWS = """
UPDATE {schema}workflow_status AS row SET seq = ordered.number FROM (
    SELECT workflow_uuid, nextval('{schema_literal}workflow_seq') AS number FROM (
        SELECT workflow_uuid FROM {schema}workflow_status WHERE status IN ('PENDING', 'ENQUEUED')
        ORDER BY created_at, seq) AS waiting
) AS ordered WHERE row.workflow_uuid = ordered.workflow_uuid"""

_NUMBER_MESSAGES = """
UPDATE {schema}notifications AS row SET seq = ordered.number FROM (
    SELECT message_uuid, nextval('{schema_literal}notification_seq') AS number FROM (
        SELECT message_uuid FROM {schema}notifications ORDER BY created_at_epoch_ms, seq) AS waiting
) AS ordered WHERE row.message_uuid = ordered.message_uuid"""

_KEEP_DELAYS = f"""
UPDATE {{schema}}workflow_status
SET delay_until_epoch_ms = {_ASIDE}delay_until_epoch_ms, delayed_queue_name = queue_name
WHERE status = 'ENQUEUED' AND {_ASIDE}delay_until_epoch_ms > {{now}}"""

_KEEP_FORMATS = """
UPDATE {schema}workflow_status SET outcome_serialization = serialization WHERE serialization IS NOT NULL"""

# Calls after the adoption begin rounds of their own, which this would seem to be one of.
_RELEASE_ROUNDS = """
UPDATE {schema}workflow_status SET deduplication_id = NULL
WHERE status IN ('PENDING', 'ENQUEUED') AND name = :name AND deduplication_id IS NOT NULL"""

UNFINISHED = "status NOT IN ('SUCCESS', 'ERROR')"
"""What runs on, or may be resumed."""

# Only a version that a library computed: one that a user gave is the user's to give again.
_NOTE_VERSIONS = f"""
INSERT INTO {{schema}}{ADOPTED_VERSIONS} (version)
SELECT DISTINCT application_version FROM {{schema}}workflow_status
WHERE {UNFINISHED} AND length(application_version) = 32"""


def made_by_another(transaction: Transaction, database: Database) -> bool:
    """Whether another library made the database.

    Raises:
        DBOSInitializationError: It is of a later version than can be adopted.
    """
    if not _columns_of(transaction, database, OLDER_VERSION_TABLE):
        return False
    if not _columns_of(transaction, database, "workflow_status"):
        return False  # It was interrupted before it made anything.
    version = transaction.rows(f"SELECT COALESCE(MAX(version), 0) FROM {{schema}}{OLDER_VERSION_TABLE}")[0][0]
    if version > NEWEST_OLDER:
        raise DBOSInitializationError(
            f"{database.location} was made by another library named dbos, of a version after 2: its schema has the "
            f"number {version}, and this library adopts schemas up to {NEWEST_OLDER}. Nothing was changed. Give "
            "another database, or install the library that made this one."
        )
    return True


class Adoption:
    """Adopts the tables of another library: ``prepare``, the first migration, ``move_in``, the others, ``complete``."""

    def __init__(self, transaction: Transaction, database: Database, first: Migration) -> None:
        self._transaction = transaction
        self._database = database
        self._is_postgres = isinstance(database, PostgresDatabase)
        self._ours = {
            name: dict(_COLUMN.findall(body))
            for name, body in _TABLE.findall(spelled("\n".join(first.statements), self._is_postgres))
        }
        self._theirs = {name: columns for name in self._ours if (columns := _columns_of(transaction, database, name))}

    def prepare(self) -> None:
        """Make way for the first migration."""
        _logger.info("Adopting %s, which another library made; this may take a while", self._database.location)
        if self._is_postgres:
            self._drop_what_costs()
            for sequence in SEQUENCES:
                self._write(f"CREATE SEQUENCE IF NOT EXISTS {{schema}}{sequence}")
            # Before the columns are added, which rewrites the table without what this leaves behind.
            self._convert()
            for table, columns in self._theirs.items():
                self._alter(table, columns)
        else:
            # What names the tables, such as a view, names the new ones then.
            self._write("PRAGMA legacy_alter_table = ON")
            self._convert()
            for table in self._theirs:
                self._write(f"ALTER TABLE {table} RENAME TO {_ASIDE}{table}")

    def move_in(self) -> None:
        """Fill the tables that the first migration made."""
        if self._is_postgres:
            self._write(_NUMBER_WORKFLOWS)
            self._write(_NUMBER_MESSAGES)
        else:
            for table, columns in self._theirs.items():
                self._copy(table, columns)
            self._write("PRAGMA legacy_alter_table = OFF")

    def complete(self) -> None:
        """What needs the tables as they are now."""
        if "consumed" in self._theirs["notifications"]:
            self._write(f"DELETE FROM {{schema}}notifications WHERE {_ASIDE}consumed")
        if "delay_until_epoch_ms" in self._theirs["workflow_status"]:
            self._write(_KEEP_DELAYS)
        if "serialization" in self._theirs["workflow_status"]:
            self._write(_KEEP_FORMATS)
        self._write(_NOTE_VERSIONS)
        self._transaction.write(_RELEASE_ROUNDS, {"name": OLDER_DEBOUNCER})
        counts = self._transaction.rows("SELECT status, count(*) FROM {schema}workflow_status GROUP BY status")
        held = ", ".join(f"{count} {status}" for status, count in sorted(counts)) or "none"
        _logger.info("Adopted %s; its workflows: %s", self._database.location, held)

    # -- Postgres: altered in place

    def _drop_what_costs(self) -> None:
        """The keys, triggers and indexes that each write would pay for."""
        for table, names in _CONSTRAINTS.items():
            for name in names if table in self._theirs else ():
                self._write(f"ALTER TABLE {{schema}}{table} DROP CONSTRAINT IF EXISTS {name}")
        for table, name in _TRIGGERS:
            self._write(f"DROP TRIGGER IF EXISTS {name} ON {{schema}}{table}")
        for name in _INDEXES:
            self._write(f"DROP INDEX IF EXISTS {{schema}}{name}")

    def _alter(self, table: str, theirs: Mapping[str, str]) -> None:
        """Give the table the columns that it lacks, in one pass over it."""
        for column in theirs:
            if self._goes_aside(table, column):
                self._write(f"ALTER TABLE {{schema}}{table} RENAME COLUMN {column} TO {_ASIDE}{column}")
        changes = [
            f'ADD COLUMN "{column}" {_addable(definition)}'
            for column, definition in self._ours[table].items()
            if column not in theirs
        ]
        if table == "notifications" and not self._has_key(table):
            changes.append("ADD PRIMARY KEY (message_uuid)")
        if changes:
            self._write(f"ALTER TABLE {{schema}}{table} {', '.join(changes)}")

    def _has_key(self, table: str) -> bool:
        statement = "SELECT 1 FROM pg_constraint WHERE conrelid = to_regclass(:table) AND contype = 'p'"
        return bool(self._transaction.rows(statement, {"table": f"{self._database.schema_prefix}{table}"}))

    # -- SQLite: copied

    def _copy(self, table: str, theirs: Mapping[str, str]) -> None:
        shared: dict[str, str] = {}
        for column, kind in theirs.items():
            if column in self._ours[table] and not self._goes_aside(table, column):
                shared[column] = f'"{column}"'
                continue
            kept = f"{_ASIDE}{column}" if self._goes_aside(table, column) else column
            self._write(f'ALTER TABLE {table} ADD COLUMN "{kept}" {kind}')
            shared[kept] = f'"{column}"'
        names, values = ", ".join(f'"{name}"' for name in shared), ", ".join(shared.values())
        order = {"workflow_status": "created_at, ", "notifications": "created_at_epoch_ms, "}.get(table, "")
        self._write(f"INSERT INTO {table} ({names}) SELECT {values} FROM {_ASIDE}{table} ORDER BY {order}rowid")
        self._write(f"DROP TABLE {_ASIDE}{table}")

    # -- both

    def _convert(self) -> None:
        theirs = self._theirs["workflow_status"]
        for column, definition in (("owner_xid", "TEXT"), ("completed_at", "BIGINT")):
            if column not in theirs:
                self._write(f"ALTER TABLE {{schema}}workflow_status ADD COLUMN {column} {definition}")
                theirs[column] = definition
        self._write(_CONVERT)

    def _goes_aside(self, table: str, column: str) -> bool:
        return column not in self._ours[table] and column not in _KNOWN_EXTRAS

    def _write(self, statement: str) -> None:
        self._transaction.write(statement)


def _addable(definition: str) -> str:
    """The definition of a column as it can be added to a table that has rows: there, older rows have no value."""
    return definition if "DEFAULT" in definition else definition.replace(" NOT NULL", "")


def _columns_of(transaction: Transaction, database: Database, table: str) -> dict[str, str]:
    """The columns of a table with their types; none if there is no such table."""
    if isinstance(database, PostgresDatabase):
        statement = """
            SELECT column_name, data_type FROM information_schema.columns
            WHERE table_schema = :schema AND table_name = :table ORDER BY ordinal_position"""
        rows = transaction.rows(statement, {"schema": database.schema, "table": table})
    else:
        rows = transaction.rows("SELECT name, type FROM pragma_table_info(:table)", {"table": table})
    return dict(rows)
