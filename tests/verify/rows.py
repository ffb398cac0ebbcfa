"""The system tables by plain SQL: what users would see, without asking the library."""

from __future__ import annotations

import base64
import pickle
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import sql
from sqlalchemy import make_url

_WORKFLOW_COLUMNS = (
    "workflow_uuid, status, name, output, error, owner_xid, lease_id, recovery_attempts, parent_workflow_id, "
    "updated_at, completed_at, executor_id"
)
_STEP_COLUMNS = "workflow_uuid, function_id, function_name, output, error, child_workflow_id, owner_xid"


@dataclass(frozen=True, slots=True)
class Rows:
    """`workflows` by id, `steps` by workflow id and function id; each row a dict of its columns."""

    workflows: dict[str, dict[str, Any]]
    steps: dict[tuple[str, int], dict[str, Any]]


def query(url: str, statement: str, schema: str = "dbos") -> list[tuple[Any, ...]]:
    """Run one statement, in which `{schema}` stands for the prefix of tables; its rows, if it returns any."""
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite":
        assert parsed.database is not None
        with closing(sqlite3.connect(parsed.database, timeout=10)) as file, file:
            return file.execute(statement.replace("{schema}", "")).fetchall()
    plain = parsed.set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(plain, autocommit=True) as connection:
        # The statement is the test's own text.
        cursor = connection.execute(sql.SQL(statement).format(schema=sql.SQL('"{}".').format(sql.SQL(schema))))
        return cursor.fetchall() if cursor.description else []


def read_rows(url: str, schema: str = "dbos") -> Rows:
    """Every workflow and every checkpoint."""
    workflows = _table(url, "workflow_status", _WORKFLOW_COLUMNS, schema)
    steps = _table(url, "operation_outputs", _STEP_COLUMNS, schema)
    return Rows(
        {row["workflow_uuid"]: row for row in workflows},
        {(row["workflow_uuid"], row["function_id"]): row for row in steps},
    )


def decode(text: str | None) -> Any:
    """A stored value, pickled and Base64-encoded as the contract says."""
    return None if text is None else pickle.loads(base64.b64decode(text))


def _table(url: str, table: str, columns: str, schema: str) -> list[dict[str, Any]]:
    rows = query(url, f"SELECT {columns} FROM {{schema}}{table}", schema)
    return [dict(zip(columns.split(", "), row, strict=True)) for row in rows]
