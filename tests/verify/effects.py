"""What transactions have done: their effects in the application's own table, which must be what is recorded of them.

The table is `effects`, in the database and schema of `transaction_outputs`; each transaction inserts one row, of the
value that it returns.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import make_url

from tests.verify.life import Life
from tests.verify.rows import decode, query, read_rows

Effects = Mapping[tuple[str, int], list[tuple[Any, ...]]]
"""The values that were inserted, and those recorded, by workflow id and function id."""


def read_effects(life: Life) -> tuple[Effects, Effects]:
    """The effects of all transactions, and their records: name, output, error."""
    url = life.application_url or life.url
    if not _has_table(url, life.schema, "effects") or not _has_table(url, life.schema, "transaction_outputs"):
        return {}, {}
    effects: dict[tuple[str, int], list[tuple[Any, ...]]] = {}
    records: dict[tuple[str, int], list[tuple[Any, ...]]] = {}
    for id, number, value in query(url, "SELECT workflow, step, value FROM {schema}effects", life.schema):
        effects.setdefault((id, number), []).append((value,))
    columns = "workflow_uuid, function_id, function_name, output, error"
    for id, number, *record in query(url, f"SELECT {columns} FROM {{schema}}transaction_outputs", life.schema):
        records.setdefault((id, number), []).append(tuple(record))
    return effects, records


def check_effects(life: Life) -> None:
    """Each transaction has happened once or not at all, and is recorded if it has. It holds at any moment.

    Where the databases are one, its checkpoint is there too, and nowhere does that say anything else.
    """
    effects, records = read_effects(life)
    if not records and not effects:
        return
    succeeded = {key: [(decode(output),)] for key, ((_, output, error),) in records.items() if error is None}
    assert effects == succeeded, f"what happened is not what is recorded: {effects} and {succeeded}"
    steps = read_rows(life.url, life.schema).steps
    for key, (record,) in records.items():
        step = steps.get(key)
        assert step is not None or life.application_url, f"transaction {key} has no checkpoint"
        if step is not None:
            its_checkpoint = (step["function_name"], step["output"], step["error"])
            assert its_checkpoint == record, f"transaction {key} is recorded in two ways"


def _has_table(url: str, schema: str, table: str) -> bool:
    if make_url(url).get_backend_name() == "sqlite":
        return bool(query(url, f"SELECT 1 FROM sqlite_master WHERE name = '{table}'"))
    statement = f"SELECT 1 FROM pg_tables WHERE schemaname = '{schema}' AND tablename = '{table}'"
    return bool(query(url, statement, schema))
