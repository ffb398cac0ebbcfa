"""The tables, and the numbered migrations that make them.

The names and columns of the published tables are a contract: users query them, and other versions of the library read
them. Columns and tables may be added (nullable, as older clients do not know them), none renamed or dropped. There are
no foreign keys: each would cost a look-up and a lock for every checkpoint, and what they would guard is written in one
transaction anyway.

Statements are written once for both databases. ``{schema}`` stands for the schema's prefix (empty on SQLite), the names
in ``FRAGMENTS`` for what the two databases say differently: Postgres numbers rows by a sequence; on SQLite the number
is the row's own key, so that it costs nothing, and the insert sets it.
"""

from __future__ import annotations

from dataclasses import dataclass

from dbos.model.queues import SEPARATOR

VERSION_TABLE = "dbos_schema_versions"


@dataclass(frozen=True, slots=True)
class Migration:
    """One numbered change of the schema.

    Attributes:
        number: Its place in the order of all.
        name: What it brings.
        statements: What is run.
        postgres: What is run before, on Postgres only.
        defaults: Tables, columns of them, and what those hold that an insert does not name.
    """

    number: int
    name: str
    statements: tuple[str, ...]
    postgres: tuple[str, ...] = ()
    defaults: tuple[tuple[str, str, str], ...] = ()


_WORKFLOW_STATUS = """
CREATE TABLE IF NOT EXISTS {schema}workflow_status (
    workflow_uuid TEXT {workflow_key},
    status TEXT NOT NULL,
    name TEXT,
    class_name TEXT,
    config_name TEXT,
    authenticated_user TEXT,
    assumed_role TEXT,
    authenticated_roles TEXT,
    inputs TEXT,
    output TEXT,
    error TEXT,
    executor_id TEXT,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    application_version TEXT,
    application_id TEXT,
    recovery_attempts BIGINT DEFAULT 0,
    queue_name TEXT,
    workflow_timeout_ms BIGINT,
    workflow_deadline_epoch_ms BIGINT,
    started_at_epoch_ms BIGINT,
    deduplication_id TEXT,
    priority BIGINT NOT NULL DEFAULT 0,
    queue_partition_key TEXT,
    forked_from TEXT,
    parent_workflow_id TEXT,
    owner_xid TEXT,
    lease_id TEXT,
    seq {workflow_seq},
    serialization TEXT,
    outcome_serialization TEXT,
    completed_at BIGINT,
    parked_until BIGINT,
    parked_on TEXT
)"""

_OPERATION_OUTPUTS = """
CREATE TABLE IF NOT EXISTS {schema}operation_outputs (
    workflow_uuid TEXT NOT NULL,
    function_id INTEGER NOT NULL,
    function_name TEXT NOT NULL DEFAULT '',
    output TEXT,
    error TEXT,
    child_workflow_id TEXT,
    started_at_epoch_ms BIGINT,
    completed_at_epoch_ms BIGINT,
    serialization TEXT,
    owner_xid TEXT,
    PRIMARY KEY (workflow_uuid, function_id)
){clustered}"""

_NOTIFICATIONS = """
CREATE TABLE IF NOT EXISTS {schema}notifications (
    message_uuid TEXT {notification_key},
    destination_uuid TEXT NOT NULL,
    topic TEXT,
    message TEXT NOT NULL,
    created_at_epoch_ms BIGINT NOT NULL,
    serialization TEXT,
    seq {notification_seq}
)"""

_EVENTS = """
CREATE TABLE IF NOT EXISTS {schema}workflow_events (
    workflow_uuid TEXT NOT NULL,
    key TEXT NOT NULL,
    value TEXT NOT NULL,
    serialization TEXT,
    PRIMARY KEY (workflow_uuid, key)
)"""

_EVENTS_HISTORY = """
CREATE TABLE IF NOT EXISTS {schema}workflow_events_history (
    workflow_uuid TEXT NOT NULL,
    key TEXT NOT NULL,
    function_id INTEGER NOT NULL,
    value TEXT NOT NULL,
    serialization TEXT,
    PRIMARY KEY (workflow_uuid, key, function_id)
)"""

_STREAMS = """
CREATE TABLE IF NOT EXISTS {schema}streams (
    workflow_uuid TEXT NOT NULL,
    key TEXT NOT NULL,
    value TEXT NOT NULL,
    "offset" INTEGER NOT NULL,
    function_id INTEGER NOT NULL DEFAULT 0,
    serialization TEXT,
    PRIMARY KEY (workflow_uuid, key, "offset")
)"""

_SCHEDULES = """
CREATE TABLE IF NOT EXISTS {schema}workflow_schedules (
    schedule_id TEXT PRIMARY KEY,
    schedule_name TEXT NOT NULL UNIQUE,
    workflow_name TEXT NOT NULL,
    workflow_class_name TEXT,
    schedule TEXT NOT NULL,
    status TEXT NOT NULL DEFAULT 'ACTIVE',
    context TEXT NOT NULL,
    serialization TEXT
)"""

_EXECUTORS = """
CREATE TABLE IF NOT EXISTS {schema}executors (
    lease_id TEXT PRIMARY KEY,
    executor_id TEXT NOT NULL,
    application_version TEXT NOT NULL,
    state TEXT NOT NULL,
    renewals BIGINT NOT NULL DEFAULT 0,
    started_at BIGINT NOT NULL,
    renewed_at BIGINT NOT NULL,
    hostname TEXT,
    pid BIGINT,
    boot_id TEXT,
    pid_namespace TEXT,
    pid_started TEXT
)"""

_MESSAGE_KEYS = """
CREATE TABLE IF NOT EXISTS {schema}message_keys (
    destination_uuid TEXT NOT NULL,
    idempotency_key TEXT NOT NULL,
    expires_at BIGINT,
    PRIMARY KEY (destination_uuid, idempotency_key)
){clustered}"""

TRANSACTION_OUTPUTS = """
CREATE TABLE IF NOT EXISTS {schema}transaction_outputs (
    workflow_uuid TEXT NOT NULL,
    function_id INTEGER NOT NULL,
    output TEXT,
    error TEXT,
    txn_id TEXT,
    txn_snapshot TEXT NOT NULL,
    executor_id TEXT,
    function_name TEXT NOT NULL DEFAULT '',
    created_at BIGINT NOT NULL,
    serialization TEXT,
    PRIMARY KEY (workflow_uuid, function_id)
){clustered}"""
"""What transactions record, in the database that they run in. An older library made the table without the format."""

# When what was started on queues that limit how many may be in a period of time: workflows may be deleted meanwhile.
_QUEUE_STARTS = """
CREATE TABLE IF NOT EXISTS {schema}queue_starts (
    token TEXT PRIMARY KEY,
    workflow_uuid TEXT NOT NULL,
    queue_name TEXT NOT NULL,
    partition_key TEXT NOT NULL,
    period_ms BIGINT NOT NULL,
    claimed_at BIGINT NOT NULL,
    started_at BIGINT
){clustered}"""

# Until when fire times are settled of functions whose decorator says when they run; see ``fires``.
_DECORATED_SCHEDULES = """
CREATE TABLE IF NOT EXISTS {schema}decorated_schedules (
    schedule_id TEXT PRIMARY KEY,
    status TEXT NOT NULL,
    fired_until_epoch_ms BIGINT
)"""

# One key, as PostgreSQL takes columns for independent of each other, but knows how often an indexed expression has each
# value: so it knows how much waits, and goes through it in order instead of sorting it.
QUEUE_AND_VERSION = f"queue_name || '{SEPARATOR}' || COALESCE(application_version, '')"

WAITS = "status = 'ENQUEUED' AND delay_until_epoch_ms IS NULL"
"""What waits on a queue: the condition of partial indexes, to the letter, as SQLite compares no meanings."""

PARTITION = "COALESCE(queue_partition_key, '')"
"""What is enqueued without a key is a partition of its own."""

_DELAY_COLUMNS = (
    "delay_until_epoch_ms BIGINT",
    "delay_limit_epoch_ms BIGINT",
    "delayed_queue_name TEXT",
    "delayed_deduplication_id TEXT",
)

# Partial indexes hold the live rows only, so that finished history costs the engine nothing.
_INDEXES = (
    "CREATE INDEX IF NOT EXISTS workflow_status_created ON {schema}workflow_status (created_at, seq)",
    "CREATE INDEX IF NOT EXISTS workflow_status_pending ON {schema}workflow_status (lease_id) WHERE status = 'PENDING'",
    "CREATE INDEX IF NOT EXISTS workflow_status_enqueued ON {schema}workflow_status (queue_name, priority, seq) "
    "WHERE status = 'ENQUEUED'",
    "CREATE UNIQUE INDEX IF NOT EXISTS workflow_status_deduplication ON {schema}workflow_status "
    "(queue_name, deduplication_id) WHERE deduplication_id IS NOT NULL",
    "CREATE INDEX IF NOT EXISTS workflow_status_parent ON {schema}workflow_status (parent_workflow_id) "
    "WHERE parent_workflow_id IS NOT NULL",
    "CREATE INDEX IF NOT EXISTS workflow_status_forked ON {schema}workflow_status (forked_from) "
    "WHERE forked_from IS NOT NULL",
    "CREATE INDEX IF NOT EXISTS notifications_destination ON {schema}notifications (destination_uuid, topic, seq)",
)

MIGRATIONS = (
    Migration(
        1,
        "first tables",
        postgres=(
            "CREATE SEQUENCE IF NOT EXISTS {schema}workflow_seq",
            "CREATE SEQUENCE IF NOT EXISTS {schema}notification_seq",
        ),
        statements=(
            _WORKFLOW_STATUS,
            _OPERATION_OUTPUTS,
            _NOTIFICATIONS,
            _EVENTS,
            _EVENTS_HISTORY,
            _STREAMS,
            _SCHEDULES,
            _EXECUTORS,
            *_INDEXES,
        ),
    ),
    Migration(
        2,
        "messages, deadlines, cancellation",
        statements=(
            _MESSAGE_KEYS,
            "CREATE INDEX IF NOT EXISTS message_keys_expiring ON {schema}message_keys (expires_at) "
            "WHERE expires_at IS NOT NULL",
            "CREATE INDEX IF NOT EXISTS workflow_status_deadline ON {schema}workflow_status "
            "(workflow_deadline_epoch_ms) "
            "WHERE workflow_deadline_epoch_ms IS NOT NULL AND status IN ('PENDING', 'ENQUEUED')",
            "CREATE INDEX IF NOT EXISTS workflow_status_failed ON {schema}workflow_status (status, created_at, seq) "
            "WHERE status IN ('ERROR', 'CANCELLED', 'MAX_RECOVERY_ATTEMPTS_EXCEEDED')",
            "CREATE INDEX IF NOT EXISTS workflow_status_queue ON {schema}workflow_status (queue_name, created_at, seq) "
            "WHERE queue_name IS NOT NULL",
            "CREATE INDEX IF NOT EXISTS workflow_status_stopping ON {schema}workflow_status (lease_id) "
            "WHERE status = 'CANCELLED' AND owner_xid IS NOT NULL",
        ),
    ),
    Migration(
        3,
        "queues, delayed starts",
        statements=(
            _QUEUE_STARTS,
            "CREATE INDEX IF NOT EXISTS queue_starts_queue ON {schema}queue_starts (queue_name, partition_key)",
            *(f"ALTER TABLE {{schema}}workflow_status ADD COLUMN {column}" for column in _DELAY_COLUMNS),
            "DROP INDEX IF EXISTS {schema}workflow_status_enqueued",
            "CREATE INDEX IF NOT EXISTS workflow_status_waiting ON {schema}workflow_status "
            f"(({QUEUE_AND_VERSION}), priority, seq) WHERE {WAITS}",
            "CREATE INDEX IF NOT EXISTS workflow_status_partitions ON {schema}workflow_status "
            f"(queue_name, {PARTITION}, COALESCE(application_version, ''), priority, seq) "
            f"WHERE {WAITS}",
            "CREATE INDEX IF NOT EXISTS workflow_status_running ON {schema}workflow_status "
            f"(queue_name, {PARTITION}) WHERE status = 'PENDING' AND queue_name IS NOT NULL",
            "CREATE INDEX IF NOT EXISTS workflow_status_delayed ON {schema}workflow_status (delay_until_epoch_ms) "
            "WHERE status = 'ENQUEUED' AND delay_until_epoch_ms IS NOT NULL",
        ),
    ),
    Migration(4, "transactions", statements=(TRANSACTION_OUTPUTS,)),
    Migration(
        5,
        "databases of other libraries",
        # Application versions whose workflows another library left unfinished; see the adoption.
        statements=("CREATE TABLE IF NOT EXISTS {schema}adopted_versions (version TEXT PRIMARY KEY)",),
        # Their clients leave these to the database.
        defaults=(
            ("workflow_status", "created_at", "{now}"),
            ("workflow_status", "updated_at", "{now}"),
            ("notifications", "message_uuid", "{random_id}"),
            ("notifications", "created_at_epoch_ms", "{now}"),
        ),
    ),
    Migration(
        6,
        "schedules",
        statements=(
            "ALTER TABLE {schema}workflow_schedules ADD COLUMN fired_until_epoch_ms BIGINT",
            _DECORATED_SCHEDULES,
        ),
    ),
    Migration(7, "what executors serve", statements=("ALTER TABLE {schema}executors ADD COLUMN serves TEXT",)),
)

NEWEST = MIGRATIONS[-1].number

TABLES = (
    "workflow_status",
    "operation_outputs",
    "notifications",
    "workflow_events",
    "workflow_events_history",
    "streams",
    "workflow_schedules",
    "executors",
    "message_keys",
    "queue_starts",
    "transaction_outputs",
    "adopted_versions",
    "decorated_schedules",
    VERSION_TABLE,
)
SEQUENCES = ("workflow_seq", "notification_seq")

FRAGMENTS: dict[str, tuple[str, str]] = {
    "workflow_key": ("PRIMARY KEY", "NOT NULL UNIQUE"),
    "workflow_seq": ("BIGINT DEFAULT nextval('{schema_literal}workflow_seq')", "INTEGER PRIMARY KEY"),
    "notification_key": ("PRIMARY KEY", "NOT NULL UNIQUE"),
    "notification_seq": ("BIGINT DEFAULT nextval('{schema_literal}notification_seq')", "INTEGER PRIMARY KEY"),
    "clustered": ("", " WITHOUT ROWID"),
}
"""What stands for a name in braces: on Postgres, on SQLite. ``{schema_literal}`` is the prefix inside a string."""


_RANDOM_ID = ("gen_random_uuid()", "hex(randomblob(16))")


def spelled(statement: str, is_postgres: bool) -> str:
    """The statement as the database says it."""
    for name, (on_postgres, on_sqlite) in {**FRAGMENTS, "random_id": _RANDOM_ID}.items():
        statement = statement.replace(f"{{{name}}}", on_postgres if is_postgres else on_sqlite)
    return statement
