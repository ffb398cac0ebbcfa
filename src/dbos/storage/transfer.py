"""Whole workflows out of one database and into another: every row that belongs to them, values as they are stored."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from dbos.model.limits import check_known_id, check_storable
from dbos.model.status import WorkflowStatusString
from dbos.storage.database import Database, Transaction

_WORKFLOW = (
    "workflow_uuid status name class_name config_name authenticated_user assumed_role authenticated_roles inputs "
    "output error executor_id created_at updated_at application_version application_id recovery_attempts queue_name "
    "workflow_timeout_ms workflow_deadline_epoch_ms started_at_epoch_ms deduplication_id priority queue_partition_key "
    "forked_from parent_workflow_id serialization outcome_serialization completed_at delay_until_epoch_ms "
    "delay_limit_epoch_ms delayed_queue_name delayed_deduplication_id"
)

_PARTS: Mapping[str, tuple[str, str, str]] = {
    "operation_outputs": (
        "workflow_uuid",
        "workflow_uuid function_id function_name output error child_workflow_id started_at_epoch_ms "
        "completed_at_epoch_ms serialization",
        "function_id",
    ),
    "transaction_outputs": (
        "workflow_uuid",
        "workflow_uuid function_id output error txn_id txn_snapshot executor_id function_name created_at serialization",
        "function_id",
    ),
    "workflow_events": ("workflow_uuid", "workflow_uuid key value serialization", "key"),
    "workflow_events_history": (
        "workflow_uuid",
        "workflow_uuid key function_id value serialization",
        "key, function_id",
    ),
    "streams": ("workflow_uuid", "workflow_uuid key value offset function_id serialization", 'key, "offset"'),
    "notifications": (
        "destination_uuid",
        "message_uuid destination_uuid topic message created_at_epoch_ms serialization",
        "seq",
    ),
}
"""The tables that hold what belongs to a workflow: the column of its id, all columns that say something, the order."""

EXPORT_HEADER = {"dbos": "workflows", "version": 1}
"""The first line of an export, which says what the others are: documents."""

_NUMBERS = frozenset({"created_at", "updated_at", "completed_at", "recovery_attempts", "priority"})
"""The columns that are numbers, beside those that end with ``_ms``. SQLite itself would take anything."""

_SMALL_NUMBERS = frozenset({"function_id", "offset"})
"""Those that have 32 bits."""

_STATUSES = frozenset(status.value for status in WorkflowStatusString)

Document = dict[str, Any]
"""A workflow's row under ``workflow_status``, and under the names of the other tables lists of rows."""


def read_document(database: Database, workflow_id: str) -> Document | None:
    """All rows that belong to a workflow; ``None`` if there is no such one."""

    def read(transaction: Transaction) -> Document | None:
        # Locked, so that what its run records meanwhile is there as a whole or not at all.
        lock = " FOR NO KEY UPDATE" if database.locks_rows else ""
        rows = _select(transaction, "workflow_status", "workflow_uuid", _WORKFLOW, "workflow_uuid" + lock, workflow_id)
        if not rows:
            return None
        parts = {
            table: _select(transaction, table, key, columns, order, workflow_id)
            for table, (key, columns, order) in _PARTS.items()
        }
        return {"workflow_status": rows[0], **{table: rows for table, rows in parts.items() if rows}}

    return database.run("read_document", read)


def insert_document(database: Database, document: Document) -> bool:
    """Insert all rows of a workflow, owned by nobody, unless there is one of its id; returns whether it was inserted.

    Raises:
        ValueError: It is no document, or holds what the tables have no place for.
    """
    check_document(document)
    workflow = document["workflow_status"]

    def insert(transaction: Transaction) -> bool:
        if not _insert(transaction, "workflow_status", _WORKFLOW, workflow, " ON CONFLICT (workflow_uuid) DO NOTHING"):
            return False
        for table, (_, columns, _) in _PARTS.items():
            for row in document.get(table, ()):
                _insert(transaction, table, columns, row, "")
        return True

    try:
        return database.run("insert_document", insert)
    except database.engine.dialect.loaded_dbapi.IntegrityError as error:
        raise ValueError(f"its rows do not fit into the tables ({error})") from None


def check_document(document: object) -> None:
    """Make sure that it holds rows of one workflow and nothing else.

    Raises:
        ValueError: It does not.
    """
    tables = _object(document, "it")
    unknown = set(tables) - {"workflow_status", *_PARTS}
    if unknown:
        raise ValueError(f"there is no table {min(unknown)!r}")
    workflow = _object(tables.get("workflow_status"), "workflow_status")
    workflow_id = workflow.get("workflow_uuid")
    _check_row("workflow_status", _WORKFLOW, "workflow_uuid", workflow, workflow_id)
    check_known_id(workflow_id)
    if workflow.get("status") not in _STATUSES:
        raise ValueError(f"there is no status {workflow.get('status')!r}")
    for table, (key, columns, _) in _PARTS.items():
        rows = tables.get(table, [])
        if not isinstance(rows, list):
            raise ValueError(f"{table} is no list of rows")
        for row in cast("list[object]", rows):
            _check_row(table, columns, key, row, workflow_id)


def _check_row(table: str, columns: str, key: str, row: object, workflow_id: object) -> None:
    values = _object(row, f"a row of {table}")
    unknown = set(values) - set(columns.split())
    if unknown:
        raise ValueError(f"{table} has no column {min(unknown)!r}")
    for column, value in values.items():
        if value is not None:
            _check_value(value, column, f"{column} in {table}")
    if not isinstance(workflow_id, str) or values.get(key) != workflow_id:
        raise ValueError(f"a row of {table} is not of the workflow {workflow_id!r}")


def _check_value(value: object, column: str, what: str) -> None:
    bits = 31 if column in _SMALL_NUMBERS else 63 if column in _NUMBERS or column.endswith("_ms") else None
    if bits is None:
        if not isinstance(value, str):
            raise ValueError(f"{what} is no text")
        check_storable(value, what)
    elif not isinstance(value, int) or isinstance(value, bool) or not -(2**bits) <= value < 2**bits:
        raise ValueError(f"{what} is no whole number of {bits + 1} bits")


def _object(value: object, what: str) -> dict[str, object]:
    if not isinstance(value, dict):
        raise ValueError(f"{what} is no object")
    return cast("dict[str, object]", value)


def _select(
    transaction: Transaction, table: str, key: str, columns: str, order: str, workflow_id: str
) -> list[dict[str, Any]]:
    statement = f"SELECT {_quoted(columns)} FROM {{schema}}{table} WHERE {key} = :id ORDER BY {order}"
    rows = transaction.rows(statement, {"id": workflow_id})
    # What is not there is left out: it is NULL wherever it goes.
    return [
        {name: value for name, value in zip(columns.split(), row, strict=True) if value is not None} for row in rows
    ]


def _insert(transaction: Transaction, table: str, columns: str, row: Mapping[str, Any], conflict: str) -> int:
    given = [column for column in columns.split() if row.get(column) is not None]
    values = ", ".join(f":{column}" for column in given)
    statement = f"INSERT INTO {{schema}}{table} ({_quoted(' '.join(given))}) VALUES ({values}){conflict}"
    return transaction.write(statement, {column: row[column] for column in given})


def _quoted(columns: str) -> str:
    return ", ".join('"offset"' if column == "offset" else column for column in columns.split())
