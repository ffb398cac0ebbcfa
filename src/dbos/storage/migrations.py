"""Brings a system database's schema up to date, safely also when several processes do so at once."""

from __future__ import annotations

from dbos.error import DBOSInitializationError
from dbos.storage.adoption import Adoption, made_by_another
from dbos.storage.database import Database, Transaction
from dbos.storage.postgres import PostgresDatabase
from dbos.storage.remaking import set_defaults
from dbos.storage.schema import (
    MIGRATIONS,
    NEWEST,
    SEQUENCES,
    TABLES,
    TRANSACTION_OUTPUTS,
    VERSION_TABLE,
    Migration,
    spelled,
)

_LOCK = 7_365_106_208_573_117
"""The advisory lock that processes migrating one PostgreSQL database share: an arbitrary number."""


def migrate(database: Database) -> None:
    """Run the migrations that the database has not seen, in one transaction.

    Raises:
        DBOSInitializationError: The schema is newer than this version of the library knows.
    """
    if read_version(database) != NEWEST:
        database.run("migrate", lambda transaction: migrate_in(transaction, database))


def migrate_in(transaction: Transaction, database: Database) -> None:
    """As ``migrate``, in a transaction of the caller's."""
    if isinstance(database, PostgresDatabase):
        _migrate_postgres(transaction, database)
    else:
        _migrate_to_newest(transaction, database)


def check_schema(database: Database) -> None:
    """Make sure that the schema is there and up to date.

    Raises:
        DBOSInitializationError: No application has made or upgraded it yet, or one of a newer version has.
    """
    version = read_version(database)
    if version < NEWEST:
        what = "has none of the library's tables" if version == 0 else f"has schema version {version}, not {NEWEST}"
        raise DBOSInitializationError(
            f"{database.location} {what}. Launch the application once, or run `dbos migrate`: that makes or upgrades "
            "them, a client does not."
        )


def reset(database: Database) -> None:
    """Drop the library's tables, with everything in them, and make them anew. Other tables are left alone."""

    def drop(transaction: Transaction) -> None:
        for table in TABLES:
            transaction.write(f"DROP TABLE IF EXISTS {{schema}}{table}")
        if isinstance(database, PostgresDatabase):
            for sequence in SEQUENCES:
                transaction.write(f"DROP SEQUENCE IF EXISTS {{schema}}{sequence}")

    database.run("reset", drop)
    migrate(database)


def empty(database: Database) -> None:
    """Delete every row of the library's tables, which stay."""

    def delete(transaction: Transaction) -> None:
        for table in TABLES:
            if table != VERSION_TABLE:
                # Quicker than TRUNCATE where there are few rows, which makes new files.
                transaction.write(f"DELETE FROM {{schema}}{table}")

    database.run("empty", delete)


def drop_schema(database: PostgresDatabase) -> None:
    """Drop the schema of the library's tables, with all that is in it."""
    database.run("drop_schema", lambda transaction: transaction.write("DROP SCHEMA IF EXISTS {schema_name} CASCADE"))


def prepare_for_transactions(database: Database) -> None:
    """Make the table in which transactions are recorded, or add to one of an older library what it does not have.

    The database may be the application's own, which has none of the library's other tables.
    """

    def columns(transaction: Transaction) -> set[str]:
        table = {"table": f"{database.schema_prefix}transaction_outputs"}
        return {row[0] for row in transaction.rows(_READ_COLUMNS[database.locks_rows], table)}

    def prepare(transaction: Transaction) -> None:
        if isinstance(database, PostgresDatabase):
            _lock_schema(transaction, database)
        transaction.write(spelled(TRANSACTION_OUTPUTS, database.locks_rows))
        if "serialization" not in columns(transaction):
            transaction.write("ALTER TABLE {schema}transaction_outputs ADD COLUMN serialization TEXT")

    if "serialization" not in database.run("read_version", columns, "read"):
        database.run("migrate", prepare)


_READ_COLUMNS = (
    "SELECT name FROM pragma_table_info(:table)",
    "SELECT attname FROM pg_attribute WHERE attrelid = to_regclass(:table) AND attnum > 0 AND NOT attisdropped",
)


def read_version(database: Database) -> int:
    """The number of the newest migration that the database has seen; 0 for a fresh one."""

    def look(transaction: Transaction) -> int:
        if isinstance(database, PostgresDatabase):
            exists = transaction.rows(
                "SELECT to_regclass(:name) IS NOT NULL", {"name": f"{database.schema_prefix}{VERSION_TABLE}"}
            )[0][0]
        else:
            exists = bool(
                transaction.rows(
                    "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = :name", {"name": VERSION_TABLE}
                )
            )
        return _newest_seen(transaction) if exists else 0

    version = database.run("read_version", look, "read")
    if version > NEWEST:
        raise DBOSInitializationError(
            f"{database.location} has schema version {version}, and this version of DBOS knows schemas up to {NEWEST}. "
            "A newer version of the library has used this database: install that one here too."
        )
    return version


def _newest_seen(transaction: Transaction) -> int:
    return int(transaction.rows(f"SELECT COALESCE(MAX(number), 0) FROM {{schema}}{VERSION_TABLE}")[0][0])


def _migrate_postgres(transaction: Transaction, database: PostgresDatabase) -> None:
    _lock_schema(transaction, database)
    _migrate_to_newest(transaction, database)


def _lock_schema(transaction: Transaction, database: PostgresDatabase) -> None:
    """Make the schema if it is not there, and keep others from changing it."""
    # One process migrates, the others wait and then find nothing to do. The lock goes with the transaction.
    transaction.rows("SELECT pg_advisory_xact_lock(:lock)", {"lock": _LOCK})
    exists = transaction.rows("SELECT 1 FROM pg_namespace WHERE nspname = :name", {"name": database.schema})
    if not exists:
        # Asked first, as IF NOT EXISTS needs the right to create schemas also where it creates none.
        transaction.write("CREATE SCHEMA {schema_name}")


def _migrate_to_newest(transaction: Transaction, database: Database) -> None:
    transaction.write(
        f"CREATE TABLE IF NOT EXISTS {{schema}}{VERSION_TABLE} "
        "(number INTEGER PRIMARY KEY, name TEXT NOT NULL, applied_at BIGINT NOT NULL)"
    )
    seen = _newest_seen(transaction)
    adoption = (
        Adoption(transaction, database, MIGRATIONS[0]) if not seen and made_by_another(transaction, database) else None
    )
    if adoption is not None:
        adoption.prepare()
    for migration in MIGRATIONS:
        if migration.number > seen:
            _apply(transaction, database, migration)
        if adoption is not None and migration is MIGRATIONS[0]:
            adoption.move_in()
    if adoption is not None:
        adoption.complete()


def _apply(transaction: Transaction, database: Database, migration: Migration) -> None:
    is_postgres = isinstance(database, PostgresDatabase)
    for statement in (*(migration.postgres if is_postgres else ()), *migration.statements):
        transaction.write(spelled(statement, is_postgres))
    if is_postgres:
        for table, column, default in migration.defaults:
            value = spelled(default, is_postgres)
            transaction.write(f"ALTER TABLE {{schema}}{table} ALTER COLUMN {column} SET DEFAULT {value}")
    else:
        for table in dict.fromkeys(table for table, _, _ in migration.defaults):
            defaults = {column: spelled(value, False) for its, column, value in migration.defaults if its == table}
            set_defaults(transaction, table, defaults)
    transaction.write(
        f"INSERT INTO {{schema}}{VERSION_TABLE} (number, name, applied_at) VALUES (:number, :name, {{now}})",
        {"number": migration.number, "name": migration.name},
    )
