"""What is done to a database ahead of time, by somebody who may: making its tables, letting an application use them.

An application whose role may only read and write rows works on a database that was made ready so.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

from dbos.error import DBOSInitializationError
from dbos.storage.database import Database, Transaction
from dbos.storage.migrations import migrate_in, read_version
from dbos.storage.postgres import PostgresDatabase, quoted
from dbos.storage.schema import NEWEST

_PARAMETER = re.compile(r"(?<!:):([a-z_]+)\b")

_GRANTS = (
    "GRANT USAGE ON SCHEMA {schema_name} TO {role}",
    "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {schema_name} TO {role}",
    "GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA {schema_name} TO {role}",
    # For what later migrations by the same role make.
    "ALTER DEFAULT PRIVILEGES IN SCHEMA {schema_name} GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO {role}",
    "ALTER DEFAULT PRIVILEGES IN SCHEMA {schema_name} GRANT USAGE, SELECT ON SEQUENCES TO {role}",
)


class _Recorder(Transaction):
    """A transaction that remembers what it was told to write."""

    __slots__ = ("written",)

    def __init__(self, like: Transaction) -> None:
        super().__init__(like.database, like.cursor)
        self.written: list[str] = []

    def write(self, statement: str, parameters: Mapping[str, Any] | None = None) -> int:
        self.written.append(spelled_out(self.database, statement, parameters or {}))
        return super().write(statement, parameters)


class _RolledBack(Exception):
    """Ends a transaction that is not to be committed."""


def grant(database: Database, role: str) -> None:
    """Let a role of PostgreSQL read and write the rows of the tables, also of those that later migrations make.

    Raises:
        DBOSInitializationError: The database is none of PostgreSQL.
    """
    statements = _grants(database, role)

    def work(transaction: Transaction) -> None:
        for statement in statements:
            transaction.write(statement)

    database.run("grant", work)


def plan(database: Database, role: str | None) -> Sequence[str]:
    """The statements of ``migrate`` and ``grant`` that have not been run yet, found by running them and rolling back.

    Args:
        database: The system database.
        role: The role to be granted rights; ``None`` for none.
    """
    grants = () if role is None else _grants(database, role)
    planned: list[str] = []

    def work(transaction: Transaction) -> None:
        recorder = _Recorder(transaction)
        if version != NEWEST:
            migrate_in(recorder, database)
        for statement in grants:
            recorder.write(statement)
        planned.extend(recorder.written)
        raise _RolledBack

    version = read_version(database)
    with contextlib.suppress(_RolledBack):
        database.run("plan", work)
    return planned


def spelled_out(database: Database, statement: str, parameters: Mapping[str, Any]) -> str:
    """The statement as one can run it by hand, its parameters as literals."""

    def literal(match: re.Match[str]) -> str:
        value = parameters.get(match[1], match[0])
        return str(value) if isinstance(value, int) else "'" + str(value).replace("'", "''") + "'"

    spelled = database.compile(_PARAMETER.sub(literal, statement) if parameters else statement)
    return (spelled.replace("%%", "%") if isinstance(database, PostgresDatabase) else spelled).strip()


def _grants(database: Database, role: str) -> Sequence[str]:
    if not isinstance(database, PostgresDatabase):
        raise DBOSInitializationError(f"{database.location} knows no roles. Leave the role out.")
    return [statement.replace("{role}", quoted(role)) for statement in _GRANTS]
