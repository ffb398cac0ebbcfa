"""Tables of SQLite that are made anew, as it can change little of one that is there.

A remade table has the rows, the indexes and the triggers of the former one; what names it, such as a view, names the
new one then.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Generator, Mapping

from dbos.storage.database import Transaction

_ASIDE = "former_"

_READ_TABLE = "SELECT sql FROM sqlite_master WHERE type = 'table' AND name = :table"
_READ_DEPENDENTS = """
SELECT sql FROM sqlite_master WHERE tbl_name = :table AND type IN ('index', 'trigger') AND sql IS NOT NULL"""
_READ_COLUMNS = "SELECT name FROM pragma_table_info(:table)"


def set_defaults(transaction: Transaction, table: str, defaults: Mapping[str, str]) -> None:
    """Give columns of a table what they hold where an insert does not name them.

    Args:
        transaction: An open transaction on SQLite.
        table: The table.
        defaults: An expression for each column.
    """
    own = {"table": table}
    definition = str(transaction.rows(_READ_TABLE, own)[0][0])
    for column, value in defaults.items():
        definition = re.sub(rf"^( *{column} .*?)(,?)$", rf"\1 DEFAULT ({value})\2", definition, flags=re.MULTILINE)
    dependents = [row[0] for row in transaction.rows(_READ_DEPENDENTS, own)]
    columns = ", ".join(f'"{row[0]}"' for row in transaction.rows(_READ_COLUMNS, own))
    with aside(transaction, table, _ASIDE) as former:
        transaction.write(definition)
        transaction.write(f"INSERT INTO {table} ({columns}) SELECT {columns} FROM {former}")
    for dependent in dependents:
        transaction.write(dependent)


@contextlib.contextmanager
def aside(transaction: Transaction, table: str, prefix: str) -> Generator[str, None, None]:
    """Within, the table has another name, which is given; at the end it is dropped."""
    former = f"{prefix}{table}"
    # Else what names the table would follow it.
    transaction.write("PRAGMA legacy_alter_table = ON")
    transaction.write(f"ALTER TABLE {table} RENAME TO {former}")
    transaction.write("PRAGMA legacy_alter_table = OFF")
    yield former
    transaction.write(f"DROP TABLE {former}")
